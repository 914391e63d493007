//! The calls, one by one: what comes over the wire, as a call of the engine, and back. Those about the connection are
//! here, and so are streams and Cenote's own program.

mod own;
mod secrets;
mod storage;

use crate::client::{Client, EventKind, Rights, Service, rpc_error};
use crate::streams::{self, Outgoing};
use cenote_model::{Code, Domain, Error, Result};
use cenote_rpc::Call;
use cenote_rpc::flags;
use cenote_rpc::frame::{self, Header};
use cenote_rpc::own::PROGRAM as OWN_PROGRAM;
use cenote_rpc::procedures::{Procedure, calls};
use cenote_rpc::xdr::{self, MAX_LIST};
use std::sync::Arc;

/// The version of libvirt whose API this is: 11.3.0.
const LIBVIRT: u64 = 11_003_000;

/// The answer to a call that went well.
pub(crate) struct Answer {
    pub(crate) payload: Vec<u8>,
    /// What is sent after the reply.
    pub(crate) download: Option<Outgoing>,
}

/// Takes the arguments out of the payload, and puts what comes of it into the reply.
fn run<C: Call>(payload: &[u8], call: impl FnOnce(C::Args) -> Result<C::Ret>) -> Result<Vec<u8>> {
    let args = xdr::from_bytes(payload)
        .map_err(|reason| rpc_error(format!("Unable to decode message payload: {reason}")))?;
    Ok(xdr::to_bytes(&call(args)?))
}

/// Answers a call.
pub(crate) fn answer(client: &Arc<Client>, header: Header, payload: &[u8]) -> Result<Answer> {
    if header.program == OWN_PROGRAM {
        return Ok(Answer { payload: own::answer(client, header.procedure, payload)?, download: None });
    }
    let procedure = Procedure::from_number(header.procedure).ok_or_else(|| unknown(header.procedure))?;
    let needs_open = !matches!(
        procedure,
        Procedure::ConnectOpen
            | Procedure::ConnectClose
            | Procedure::AuthList
            | Procedure::ConnectSupportsFeature
    );
    if needs_open && !client.is_open() {
        return Err(not_open());
    }
    if client.rights() == Rights::Reading
        && let Some(function) = procedure.refused_to_readers()
    {
        return Err(Error::new(Code::OperationDenied, format!("read only access prevents {function}")));
    }
    let mut download = None;
    let payload = match procedure {
        Procedure::StorageVolUpload => {
            run::<calls::StorageVolUpload>(payload, |(volume, offset, length, flags)| {
                let holes = flags::decode(flags, "storageVolUpload")?;
                streams::receive(client, header, volume.try_into()?, (offset, length), holes)
            })
        }
        // libvirt lets no reader download: a volume's content is not its description.
        Procedure::StorageVolDownload => {
            run::<calls::StorageVolDownload>(payload, |(volume, offset, length, flags)| {
                let holes = flags::decode(flags, "storageVolDownload")?;
                let opened = client.server.engine.download(&volume.try_into()?, offset, length)?;
                download = Some(Outgoing::new(client, header, opened, holes));
                Ok(())
            })
        }
        _ => match subject(procedure) {
            Subject::Connection => connection(client, procedure, payload),
            Subject::Secrets => secrets::answer(client, procedure, payload),
            Subject::Storage => storage::answer(&client.server.engine, procedure, payload),
        },
    }?;
    Ok(Answer { payload, download })
}

/// True for a call that changes nothing, so that it may be answered twice.
pub(crate) fn only_looks(header: Header) -> bool {
    header.program == frame::REMOTE
        && Procedure::from_number(header.procedure).is_some_and(|procedure| {
            matches!(subject(procedure), Subject::Storage) && procedure.refused_to_readers().is_none()
        })
}

/// What every connection of libvirt's could have, and one to storage has not, is refused in its words.
fn unknown(procedure: i32) -> Error {
    let function = match procedure {
        4 => "virConnectGetVersion",
        5 => "virConnectGetMaxVcpus",
        6 => "virNodeGetInfo",
        203 => "virConnectGetSysinfo",
        _ => return rpc_error(format!("unknown procedure: {procedure}")),
    };
    Error::new(Code::NoSupport, function).in_domain(Domain::Domain)
}

fn not_open() -> Error {
    Error::new(Code::Internal, "connection not open")
}

/// What a procedure is about.
enum Subject {
    Connection,
    Storage,
    Secrets,
}

fn subject(procedure: Procedure) -> Subject {
    use Procedure::*;
    match procedure {
        ConnectOpen
        | ConnectClose
        | AuthList
        | ConnectSupportsFeature
        | ConnectGetType
        | ConnectGetHostname
        | ConnectGetUri
        | ConnectIsSecure
        | ConnectGetLibVersion
        | ConnectSetIdentity
        | ConnectRegisterCloseCallback
        | ConnectUnregisterCloseCallback
        | ConnectStoragePoolEventRegisterAny
        | ConnectStoragePoolEventDeregisterAny
        | ConnectSecretEventRegisterAny
        | ConnectSecretEventDeregisterAny => Subject::Connection,
        ConnectNumOfSecrets
        | ConnectListSecrets
        | ConnectListAllSecrets
        | SecretLookupByUuid
        | SecretLookupByUsage
        | SecretDefineXml
        | SecretGetXmlDesc
        | SecretSetValue
        | SecretGetValue
        | SecretUndefine => Subject::Secrets,
        _ => Subject::Storage,
    }
}

fn connection(client: &Client, procedure: Procedure, payload: &[u8]) -> Result<Vec<u8>> {
    match procedure {
        Procedure::AuthList => {
            const NONE: u32 = 0;
            run::<calls::AuthList>(payload, |()| Ok((vec![NONE],)))
        }
        Procedure::ConnectOpen => run::<calls::ConnectOpen>(payload, |(uri, flags)| {
            // Clients send flags here that are of no concern to a server, and libvirt passes over them.
            const READ_ONLY: u32 = 1;
            let service = service_of(uri.as_deref().unwrap_or_default())?;
            client.open(service, if flags & READ_ONLY == 0 { Rights::Everything } else { Rights::Reading })
        }),
        Procedure::ConnectSupportsFeature => run::<calls::ConnectSupportsFeature>(payload, |(feature,)| {
            const KEEPALIVE: i32 = 10;
            const EVENT_CALLBACK: i32 = 14;
            const CLOSE_CALLBACK: i32 = 15;
            if feature != KEEPALIVE && !client.is_open() {
                return Err(not_open());
            }
            Ok((i32::from(matches!(feature, KEEPALIVE | EVENT_CALLBACK | CLOSE_CALLBACK)),))
        }),
        Procedure::ConnectGetType => {
            run::<calls::ConnectGetType>(payload, |()| Ok((client.service().name().to_owned(),)))
        }
        Procedure::ConnectGetUri => {
            run::<calls::ConnectGetUri>(payload, |()| Ok((own_uri(client.service()),)))
        }
        Procedure::ConnectGetHostname => run::<calls::ConnectGetHostname>(payload, |()| {
            Ok((rustix::system::uname().nodename().to_string_lossy().into_owned(),))
        }),
        Procedure::ConnectIsSecure => run::<calls::ConnectIsSecure>(payload, |()| Ok((1,))),
        Procedure::ConnectGetLibVersion => run::<calls::ConnectGetLibVersion>(payload, |()| Ok((LIBVIRT,))),
        Procedure::ConnectSetIdentity => {
            run::<calls::ConnectSetIdentity>(payload, |(identity, _)| client.identify(identity))
        }
        Procedure::ConnectStoragePoolEventRegisterAny => {
            run::<calls::ConnectStoragePoolEventRegisterAny>(payload, |(event, pool)| {
                const KINDS: [EventKind; 2] = [EventKind::PoolLifecycle, EventKind::PoolRefreshed];
                let kind = event_kind(KINDS, event)
                    .ok_or_else(|| rpc_error(format!("unsupported storage pool event ID {event}")))?;
                let pool = pool.map(|pool| client.server.engine.pool_by_uuid(&pool.uuid)).transpose()?;
                Ok((client.watch(kind, pool.map(|pool| pool.uuid)),))
            })
        }
        Procedure::ConnectStoragePoolEventDeregisterAny => {
            run::<calls::ConnectStoragePoolEventDeregisterAny>(payload, |(callback,)| {
                client.unwatch(callback).ok_or_else(|| not_registered("storage pool", callback))
            })
        }
        Procedure::ConnectSecretEventRegisterAny => {
            run::<calls::ConnectSecretEventRegisterAny>(payload, |(event, secret)| {
                const KINDS: [EventKind; 2] = [EventKind::SecretLifecycle, EventKind::SecretValueChanged];
                let kind = event_kind(KINDS, event)
                    .ok_or_else(|| rpc_error(format!("unsupported secret event ID {event}")))?;
                Ok((client.watch(kind, secret.map(|secret| secret.uuid)),))
            })
        }
        Procedure::ConnectSecretEventDeregisterAny => {
            run::<calls::ConnectSecretEventDeregisterAny>(payload, |(callback,)| {
                client.unwatch(callback).ok_or_else(|| not_registered("secret", callback))
            })
        }
        // There is nothing to do: what is left of a client goes when its connection does, and a connection to storage
        // that is in this process does not break.
        Procedure::ConnectClose
        | Procedure::ConnectRegisterCloseCallback
        | Procedure::ConnectUnregisterCloseCallback => Ok(Vec::new()),
        other => Err(unknown(other.number())),
    }
}

/// The kind of event that a number of libvirt's stands for.
fn event_kind(kinds: [EventKind; 2], number: i32) -> Option<EventKind> {
    kinds.get(usize::try_from(number).ok()?).copied()
}

fn not_registered(what: &str, callback: i32) -> Error {
    Error::new(Code::Internal, format!("{what} event callback {callback} not registered"))
        .in_domain(Domain::Rpc)
}

fn own_uri(service: Service) -> String {
    let path = if rustix::process::geteuid().is_root() { "/system" } else { "/session" };
    format!("{}://{path}", service.name())
}

/// What a client wants by this URI; `None` leaves it to the socket. What is not here is declined, so that the client
/// tries elsewhere.
fn service_of(uri: &str) -> Result<Option<Service>> {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return match uri {
            "" => Ok(None),
            _ => Err(Error::new(Code::NoConnect, uri)),
        };
    };
    let service = [Service::Storage, Service::Secrets].into_iter().find(|service| service.name() == scheme);
    let service = service.ok_or_else(|| Error::new(Code::NoConnect, uri))?;
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let own = own_uri(service);
    if own.strip_prefix(scheme).and_then(|own| own.strip_prefix("://")) == Some(path) {
        return Ok(Some(service));
    }
    Err(Error::new(Code::Internal, format!("unexpected {scheme} URI path '{path}', try {own}")))
}

fn count<T>(list: Vec<T>) -> i32 {
    i32::try_from(list.len()).unwrap_or(i32::MAX)
}

/// At most so many names, as old clients ask for them.
fn names(all: impl Iterator<Item = impl ToString>, most: i32) -> Result<Vec<String>> {
    match usize::try_from(most) {
        Ok(most) if most <= MAX_LIST => Ok(all.take(most).map(|name| name.to_string()).collect()),
        _ => Err(rpc_error(format!("{most} names were asked for: at most {MAX_LIST} fit into a reply"))),
    }
}

/// A list with its length, or the length alone.
fn limited<T>(list: Vec<T>, wants_results: i32, what: &str) -> Result<(Vec<T>, u32)> {
    let length = list.len();
    if wants_results == 0 {
        return Ok((Vec::new(), length as u32));
    }
    if length > MAX_LIST {
        return Err(rpc_error(format!("too many {what} '{length}' for limit '{MAX_LIST}'")));
    }
    Ok((list, length as u32))
}
