//! The calls, one by one: what comes over the wire, as a call of the engine, and back.

use crate::client::{Client, EventKind, Rights, rpc_error};
use crate::flags::{
    PoolFilter, build_first, check_flags, create_options, delete_options, holes, overwrite, resize_options,
    validate,
};
use crate::streams::{self, Outgoing};
use cenote_engine::{Engine, JobInfo, PoolInfo, PoolRef, PoolRun, VolumeInfo, VolumeRef};
use cenote_model::flags::WipeAlgorithm;
use cenote_model::{Code, Error, Name, Result};
use cenote_rpc::Call;
use cenote_rpc::frame::Header;
use cenote_rpc::own::{self, JobRecord};
use cenote_rpc::procedures::{PoolId, PoolSizes, Procedure, VolumeId, VolumeSizes, calls};
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
    if header.program == own::PROGRAM {
        return Ok(Answer { payload: own_call(client, header.procedure, payload)?, download: None });
    }
    let procedure = Procedure::from_number(header.procedure)
        .ok_or_else(|| rpc_error(format!("unknown procedure: {}", header.procedure)))?;
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
                let holes = holes(flags, "storageVolUpload")?;
                streams::receive(client, header, volume_ref(volume)?, (offset, length), holes)
            })
        }
        // libvirt lets no reader download: a volume's content is not its description.
        Procedure::StorageVolDownload => {
            run::<calls::StorageVolDownload>(payload, |(volume, offset, length, flags)| {
                let holes = holes(flags, "storageVolDownload")?;
                let opened = client.server.engine.download(&volume_ref(volume)?, offset, length)?;
                download = Some(Outgoing::new(client, header, opened, holes));
                Ok(())
            })
        }
        _ if is_about_the_connection(procedure) => connection(client, procedure, payload),
        _ => storage(&client.server.engine, procedure, payload),
    }?;
    Ok(Answer { payload, download })
}

fn own_call(client: &Client, procedure: i32, payload: &[u8]) -> Result<Vec<u8>> {
    let jobs = client.server.engine.jobs();
    match procedure {
        own::Version::NUMBER => {
            run::<own::Version>(payload, |()| Ok((env!("CARGO_PKG_VERSION").to_owned(),)))
        }
        _ if !client.is_open() => Err(not_open()),
        own::JobList::NUMBER => run::<own::JobList>(payload, |()| {
            let record = |job: JobInfo| JobRecord {
                id: job.id,
                what: job.what,
                done: job.progress.done,
                total: job.progress.total,
                elapsed: job.elapsed.as_millis() as u64,
            };
            Ok((jobs.list().into_iter().map(record).collect(),))
        }),
        own::JobCancel::NUMBER => match client.rights() {
            Rights::Reading => {
                Err(Error::new(Code::OperationDenied, "read only access prevents cancelling a job"))
            }
            Rights::Everything => run::<own::JobCancel>(payload, |(id,)| jobs.cancel(id)),
        },
        other => Err(rpc_error(format!("unknown procedure: {other}"))),
    }
}

fn not_open() -> Error {
    Error::new(Code::Internal, "connection not open")
}

fn is_about_the_connection(procedure: Procedure) -> bool {
    use Procedure::*;
    matches!(
        procedure,
        ConnectOpen
            | ConnectClose
            | AuthList
            | ConnectSupportsFeature
            | ConnectGetType
            | ConnectGetHostname
            | ConnectGetUri
            | ConnectIsSecure
            | ConnectGetLibVersion
            | ConnectRegisterCloseCallback
            | ConnectUnregisterCloseCallback
            | ConnectStoragePoolEventRegisterAny
            | ConnectStoragePoolEventDeregisterAny
    )
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
            check_uri(uri.as_deref().unwrap_or_default())?;
            client.open(if flags & READ_ONLY == 0 { Rights::Everything } else { Rights::Reading })
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
        Procedure::ConnectGetType => run::<calls::ConnectGetType>(payload, |()| Ok(("storage".to_owned(),))),
        Procedure::ConnectGetUri => run::<calls::ConnectGetUri>(payload, |()| Ok((own_uri().to_owned(),))),
        Procedure::ConnectGetHostname => run::<calls::ConnectGetHostname>(payload, |()| {
            Ok((rustix::system::uname().nodename().to_string_lossy().into_owned(),))
        }),
        Procedure::ConnectIsSecure => run::<calls::ConnectIsSecure>(payload, |()| Ok((1,))),
        Procedure::ConnectGetLibVersion => run::<calls::ConnectGetLibVersion>(payload, |()| Ok((LIBVIRT,))),
        Procedure::ConnectStoragePoolEventRegisterAny => {
            run::<calls::ConnectStoragePoolEventRegisterAny>(payload, |(event, pool)| {
                let kind = match event {
                    0 => EventKind::Lifecycle,
                    1 => EventKind::Refresh,
                    other => {
                        return Err(rpc_error(format!("unsupported storage pool event ID {other}")));
                    }
                };
                let pool = pool.map(|pool| client.server.engine.pool_by_uuid(&pool.uuid)).transpose()?;
                Ok((client.watch(kind, pool.map(|pool| pool.uuid)),))
            })
        }
        Procedure::ConnectStoragePoolEventDeregisterAny => {
            run::<calls::ConnectStoragePoolEventDeregisterAny>(payload, |(callback,)| {
                client.unwatch(callback)
            })
        }
        // There is nothing to do: what is left of a client goes when its connection does, and a connection to storage
        // that is in this process does not break.
        _ => Ok(Vec::new()),
    }
}

fn own_uri() -> &'static str {
    if rustix::process::geteuid().is_root() { "storage:///system" } else { "storage:///session" }
}

/// Declines what is not storage of this machine, so that a client tries elsewhere.
fn check_uri(uri: &str) -> Result<()> {
    let Some(rest) = uri.strip_prefix("storage://") else {
        return match uri {
            "" => Ok(()),
            _ => Err(Error::new(Code::NoConnect, uri)),
        };
    };
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    match own_uri().strip_prefix("storage://") {
        Some(own) if path == own => Ok(()),
        _ => Err(Error::new(
            Code::Internal,
            format!("unexpected storage URI path '{path}', try {}", own_uri()),
        )),
    }
}

fn storage(engine: &Engine, procedure: Procedure, payload: &[u8]) -> Result<Vec<u8>> {
    match procedure {
        Procedure::ConnectNumOfStoragePools => run::<calls::ConnectNumOfStoragePools>(payload, |()| {
            Ok((count(pools(engine, PoolFilter::ACTIVE)),))
        }),
        Procedure::ConnectNumOfDefinedStoragePools => {
            run::<calls::ConnectNumOfDefinedStoragePools>(payload, |()| {
                Ok((count(pools(engine, PoolFilter::INACTIVE)),))
            })
        }
        Procedure::ConnectListStoragePools => run::<calls::ConnectListStoragePools>(payload, |(most,)| {
            let pools = pools(engine, PoolFilter::ACTIVE);
            Ok((names(pools.into_iter().map(|pool| pool.name), most)?,))
        }),
        Procedure::ConnectListDefinedStoragePools => {
            run::<calls::ConnectListDefinedStoragePools>(payload, |(most,)| {
                let pools = pools(engine, PoolFilter::INACTIVE);
                Ok((names(pools.into_iter().map(|pool| pool.name), most)?,))
            })
        }
        Procedure::ConnectListAllStoragePools => {
            run::<calls::ConnectListAllStoragePools>(payload, |(wants_results, flags)| {
                check_flags(flags, PoolFilter::KNOWN, "storageConnectListAllStoragePools")?;
                let pools: Vec<_> = pools(engine, PoolFilter(flags)).into_iter().map(pool_id).collect();
                limited(pools, wants_results, "pools")
            })
        }
        Procedure::ConnectFindStoragePoolSources => {
            run::<calls::ConnectFindStoragePoolSources>(payload, |(kind, question, flags)| {
                check_flags(flags, 0, "storageConnectFindStoragePoolSources")?;
                Ok((engine.find_sources(&kind, question.as_deref())?,))
            })
        }
        Procedure::ConnectGetStoragePoolCapabilities => {
            run::<calls::ConnectGetStoragePoolCapabilities>(payload, |(flags,)| {
                check_flags(flags, 0, "storageConnectGetStoragePoolCapabilities")?;
                Ok((engine.capabilities(),))
            })
        }
        Procedure::StoragePoolLookupByName => run::<calls::StoragePoolLookupByName>(payload, |(name,)| {
            Ok((pool_id(engine.pool_by_name(&name)?),))
        }),
        Procedure::StoragePoolLookupByUuid => run::<calls::StoragePoolLookupByUuid>(payload, |(uuid,)| {
            Ok((pool_id(engine.pool_by_uuid(&uuid)?),))
        }),
        Procedure::StoragePoolLookupByVolume => {
            run::<calls::StoragePoolLookupByVolume>(payload, |(volume,)| {
                Ok((pool_id(engine.pool_of_volume(&volume_ref(volume)?)?),))
            })
        }
        Procedure::StoragePoolLookupByTargetPath => {
            run::<calls::StoragePoolLookupByTargetPath>(payload, |(path,)| {
                Ok((pool_id(engine.pool_by_target_path(&path)?),))
            })
        }
        _ => pool_call(engine, procedure, payload),
    }
}

fn pool_call(engine: &Engine, procedure: Procedure, payload: &[u8]) -> Result<Vec<u8>> {
    match procedure {
        Procedure::StoragePoolDefineXml => run::<calls::StoragePoolDefineXml>(payload, |(xml, flags)| {
            check_flags(flags, 1, "storagePoolDefineXML")?;
            Ok((pool_id(engine.define_pool(&xml, validate(flags & 1))?),))
        }),
        Procedure::StoragePoolCreateXml => run::<calls::StoragePoolCreateXml>(payload, |(xml, flags)| {
            let build = build_first(flags, "storagePoolCreateXML")?;
            Ok((pool_id(engine.create_pool(&xml, build)?),))
        }),
        Procedure::StoragePoolCreate => run::<calls::StoragePoolCreate>(payload, |(pool, flags)| {
            engine.start_pool(&pool_ref(pool)?, build_first(flags, "storagePoolCreate")?)
        }),
        Procedure::StoragePoolBuild => run::<calls::StoragePoolBuild>(payload, |(pool, flags)| {
            engine.build_pool(&pool_ref(pool)?, overwrite(flags)?)
        }),
        Procedure::StoragePoolDestroy => {
            run::<calls::StoragePoolDestroy>(payload, |(pool,)| engine.stop_pool(&pool_ref(pool)?))
        }
        Procedure::StoragePoolDelete => run::<calls::StoragePoolDelete>(payload, |(pool, flags)| {
            check_flags(flags, 1, "storagePoolDelete")?;
            engine.delete_pool(&pool_ref(pool)?)
        }),
        Procedure::StoragePoolUndefine => {
            run::<calls::StoragePoolUndefine>(payload, |(pool,)| engine.undefine_pool(&pool_ref(pool)?))
        }
        Procedure::StoragePoolRefresh => run::<calls::StoragePoolRefresh>(payload, |(pool, flags)| {
            check_flags(flags, 0, "storagePoolRefresh")?;
            engine.refresh_pool(&pool_ref(pool)?)
        }),
        Procedure::StoragePoolGetInfo => run::<calls::StoragePoolGetInfo>(payload, |(pool,)| {
            Ok(pool_sizes(&engine.pool_info(&pool_ref(pool)?)?))
        }),
        Procedure::StoragePoolGetXmlDesc => run::<calls::StoragePoolGetXmlDesc>(payload, |(pool, flags)| {
            const INACTIVE: u32 = 1;
            check_flags(flags, INACTIVE, "storagePoolGetXMLDesc")?;
            let pool = pool_ref(pool)?;
            Ok((if flags & INACTIVE == 0 {
                engine.pool_xml(&pool)?
            } else {
                engine.pool_inactive_xml(&pool)?
            },))
        }),
        Procedure::StoragePoolGetAutostart => run::<calls::StoragePoolGetAutostart>(payload, |(pool,)| {
            Ok((i32::from(engine.known_pool_info(&pool_ref(pool)?)?.autostart),))
        }),
        Procedure::StoragePoolSetAutostart => {
            run::<calls::StoragePoolSetAutostart>(payload, |(pool, autostart)| {
                engine.set_autostart(&pool_ref(pool)?, autostart != 0)
            })
        }
        Procedure::StoragePoolIsActive => run::<calls::StoragePoolIsActive>(payload, |(pool,)| {
            Ok((i32::from(engine.known_pool_info(&pool_ref(pool)?)?.run == PoolRun::Active),))
        }),
        Procedure::StoragePoolIsPersistent => run::<calls::StoragePoolIsPersistent>(payload, |(pool,)| {
            Ok((i32::from(engine.known_pool_info(&pool_ref(pool)?)?.persistent),))
        }),
        Procedure::StoragePoolNumOfVolumes => run::<calls::StoragePoolNumOfVolumes>(payload, |(pool,)| {
            Ok((count(engine.volumes(&pool_ref(pool)?)?),))
        }),
        Procedure::StoragePoolListVolumes => run::<calls::StoragePoolListVolumes>(payload, |(pool, most)| {
            let volumes = engine.volumes(&pool_ref(pool)?)?;
            Ok((names(volumes.into_iter().map(|volume| volume.name), most)?,))
        }),
        Procedure::StoragePoolListAllVolumes => {
            run::<calls::StoragePoolListAllVolumes>(payload, |(pool, wants_results, flags)| {
                check_flags(flags, 0, "storagePoolListAllVolumes")?;
                let volumes: Vec<_> = engine.volumes(&pool_ref(pool)?)?.into_iter().map(volume_id).collect();
                limited(volumes, wants_results, "volumes")
            })
        }
        _ => volume_call(engine, procedure, payload),
    }
}

fn volume_call(engine: &Engine, procedure: Procedure, payload: &[u8]) -> Result<Vec<u8>> {
    match procedure {
        Procedure::StorageVolLookupByName => run::<calls::StorageVolLookupByName>(payload, |(pool, name)| {
            Ok((volume_id(engine.volume_by_name(&pool_ref(pool)?, &name)?),))
        }),
        Procedure::StorageVolLookupByKey => run::<calls::StorageVolLookupByKey>(payload, |(key,)| {
            Ok((volume_id(engine.volume_by_key(&key)?),))
        }),
        Procedure::StorageVolLookupByPath => run::<calls::StorageVolLookupByPath>(payload, |(path,)| {
            Ok((volume_id(engine.volume_by_path(&path)?),))
        }),
        Procedure::StorageVolCreateXml => run::<calls::StorageVolCreateXml>(payload, |(pool, xml, flags)| {
            let options = create_options(flags, "storageVolCreateXML")?;
            Ok((volume_id(engine.create_volume(&pool_ref(pool)?, &xml, options)?),))
        }),
        Procedure::StorageVolCreateXmlFrom => {
            run::<calls::StorageVolCreateXmlFrom>(payload, |(pool, xml, source, flags)| {
                let options = create_options(flags, "storageVolCreateXMLFrom")?;
                let made =
                    engine.create_volume_from(&pool_ref(pool)?, &xml, &volume_ref(source)?, options)?;
                Ok((volume_id(made),))
            })
        }
        Procedure::StorageVolDelete => run::<calls::StorageVolDelete>(payload, |(volume, flags)| {
            engine.delete_volume(&volume_ref(volume)?, delete_options(flags)?)
        }),
        Procedure::StorageVolGetInfo => run::<calls::StorageVolGetInfo>(payload, |(volume,)| {
            let info = engine.volume_info(&volume_ref(volume)?)?;
            Ok(volume_sizes(&info, info.allocation))
        }),
        Procedure::StorageVolGetInfoFlags => {
            run::<calls::StorageVolGetInfoFlags>(payload, |(volume, flags)| {
                const PHYSICAL: u32 = 1;
                check_flags(flags, PHYSICAL, "storageVolGetInfoFlags")?;
                let info = engine.volume_info(&volume_ref(volume)?)?;
                Ok(volume_sizes(&info, if flags & PHYSICAL == 0 { info.allocation } else { info.physical }))
            })
        }
        Procedure::StorageVolGetXmlDesc => run::<calls::StorageVolGetXmlDesc>(payload, |(volume, flags)| {
            check_flags(flags, 0, "storageVolGetXMLDesc")?;
            Ok((engine.volume_xml(&volume_ref(volume)?)?,))
        }),
        Procedure::StorageVolGetPath => run::<calls::StorageVolGetPath>(payload, |(volume,)| {
            let volume = volume_ref(volume)?;
            engine.volume(&volume)?.path.clone().map(|path| (path,)).ok_or_else(|| {
                Error::new(Code::NoSupport, format!("volume '{}' has no path on this machine", volume.name))
            })
        }),
        Procedure::StorageVolWipe => run::<calls::StorageVolWipe>(payload, |(volume, flags)| {
            check_flags(flags, 0, "storageVolWipePattern")?;
            engine.wipe_volume(&volume_ref(volume)?, WipeAlgorithm::Zero)
        }),
        Procedure::StorageVolWipePattern => {
            run::<calls::StorageVolWipePattern>(payload, |(volume, algorithm, flags)| {
                check_flags(flags, 0, "storageVolWipePattern")?;
                let algorithm = WipeAlgorithm::ALL.get(algorithm as usize).copied().ok_or_else(|| {
                    Error::new(Code::InvalidArg, format!("wiping algorithm {algorithm} not supported"))
                })?;
                engine.wipe_volume(&volume_ref(volume)?, algorithm)
            })
        }
        Procedure::StorageVolResize => run::<calls::StorageVolResize>(payload, |(volume, size, flags)| {
            engine.resize_volume(&volume_ref(volume)?, size, resize_options(flags)?)
        }),
        // Events are sent, not called.
        other => Err(rpc_error(format!("unknown procedure: {}", other.number()))),
    }
}

fn pools(engine: &Engine, filter: PoolFilter) -> Vec<PoolRef> {
    // A pool that went meanwhile is not listed.
    let is_wanted = |pool: &PoolRef| engine.known_pool_info(pool).is_ok_and(|info| filter.admits(&info));
    engine.pools().into_iter().filter(is_wanted).collect()
}

fn count<T>(list: Vec<T>) -> i32 {
    i32::try_from(list.len()).unwrap_or(i32::MAX)
}

/// At most so many names, as old clients ask for them.
fn names(all: impl Iterator<Item = Name>, most: i32) -> Result<Vec<String>> {
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

fn pool_sizes(info: &PoolInfo) -> PoolSizes {
    let state = match info.run {
        PoolRun::Inactive => 0,
        PoolRun::Changing => 1,
        PoolRun::Active => 2,
    };
    (state, info.usage.capacity, info.usage.allocation, info.usage.available)
}

fn volume_sizes(info: &VolumeInfo, taken: u64) -> VolumeSizes {
    // The kinds are in libvirt's order.
    (info.kind as u8, info.capacity, taken)
}

fn pool_id(pool: PoolRef) -> PoolId {
    PoolId { name: pool.name.to_string(), uuid: pool.uuid }
}

fn pool_ref(id: PoolId) -> Result<PoolRef> {
    let name = Name::pool(id.name).map_err(|error| Error::new(Code::NoStoragePool, error.detail))?;
    Ok(PoolRef { name, uuid: id.uuid })
}

fn volume_id(volume: VolumeRef) -> VolumeId {
    VolumeId { pool: volume.pool.to_string(), name: volume.name.to_string(), key: volume.key }
}

fn volume_ref(id: VolumeId) -> Result<VolumeRef> {
    let pool = Name::pool(id.pool).map_err(|error| Error::new(Code::NoStoragePool, error.detail))?;
    let name = Name::volume(id.name).map_err(|error| Error::new(Code::NoStorageVol, error.detail))?;
    Ok(VolumeRef { pool, name, key: id.key })
}
