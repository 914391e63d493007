//! The calls about secrets.

use super::{count, limited, names, rpc_error, run};
use crate::client::Client;
use crate::secrets::SecretsHome;
use cenote_engine::{Asker, SecretStore, no_secret};
use cenote_model::auth::SecretRef;
use cenote_model::secret::{SecretFilter, SecretUsage, UsageKind};
use cenote_model::{Domain, Error, Result};
use cenote_rpc::flags;
use cenote_rpc::procedures::{Procedure, SecretId, calls};

/// Answers a call, or has the daemon answer it that has the secrets.
pub(super) fn answer(client: &Client, procedure: Procedure, payload: &[u8]) -> Result<Vec<u8>> {
    match &client.server.secrets {
        SecretsHome::Here(store) => here(store, client.asker(), procedure, payload).map_err(of_secrets),
        SecretsHome::Elsewhere(daemon) => {
            daemon.forward(client.rights(), client.identity(), procedure, payload)
        }
    }
}

/// What is common to all calls says that it comes from storage.
fn of_secrets(error: Error) -> Error {
    if error.domain == Domain::Storage { error.in_domain(Domain::Secret) } else { error }
}

fn here(store: &SecretStore, asker: Asker, procedure: Procedure, payload: &[u8]) -> Result<Vec<u8>> {
    match procedure {
        Procedure::ConnectNumOfSecrets => {
            run::<calls::ConnectNumOfSecrets>(payload, |()| Ok((count(store.list(SecretFilter::default())),)))
        }
        Procedure::ConnectListSecrets => run::<calls::ConnectListSecrets>(payload, |(most,)| {
            let secrets = store.list(SecretFilter::default());
            Ok((names(secrets.into_iter().map(|secret| secret.uuid), most)?,))
        }),
        Procedure::ConnectListAllSecrets => {
            run::<calls::ConnectListAllSecrets>(payload, |(wants_results, flags)| {
                let secrets = store
                    .list(flags::decode(flags, "secretConnectListAllSecrets")?)
                    .into_iter()
                    .map(SecretId::from);
                limited(secrets.collect(), wants_results, "secrets")
            })
        }
        Procedure::SecretLookupByUuid => {
            run::<calls::SecretLookupByUuid>(payload, |(uuid,)| Ok((store.by_uuid(&uuid)?.into(),)))
        }
        Procedure::SecretLookupByUsage => run::<calls::SecretLookupByUsage>(payload, |(kind, id)| {
            let kind =
                UsageKind::from_number(kind).ok_or_else(|| no_secret(&SecretRef::Usage(id.clone())))?;
            Ok((store.by_usage(&SecretUsage { kind, id })?.into(),))
        }),
        Procedure::SecretDefineXml => run::<calls::SecretDefineXml>(payload, |(xml, flags)| {
            Ok((store.define(&xml, flags::decode(flags, "secretDefineXML")?)?.into(),))
        }),
        Procedure::SecretGetXmlDesc => run::<calls::SecretGetXmlDesc>(payload, |(secret, flags)| {
            flags::check(flags, 0, "secretGetXMLDesc")?;
            Ok((store.def(&secret.uuid)?.to_xml(),))
        }),
        Procedure::SecretSetValue => run::<calls::SecretSetValue>(payload, |(secret, value, flags)| {
            flags::check(flags, 0, "secretSetValue")?;
            store.set_value(&secret.uuid, value)
        }),
        Procedure::SecretGetValue => run::<calls::SecretGetValue>(payload, |(secret, flags)| {
            flags::check(flags, 0, "secretGetValue")?;
            Ok((store.value(&secret.uuid, asker)?,))
        }),
        Procedure::SecretUndefine => {
            run::<calls::SecretUndefine>(payload, |(secret,)| store.undefine(&secret.uuid))
        }
        other => Err(rpc_error(format!("unknown procedure: {}", other.number()))),
    }
}
