//! The calls about pools and volumes.

use super::{count, limited, names, rpc_error, run};
use crate::pool_filter::PoolFilter;
use cenote_engine::{Engine, PoolInfo, PoolRun, VolumeInfo};
use cenote_model::flags::WipeAlgorithm;
use cenote_model::{Code, Error, PoolRef, Result};
use cenote_rpc::flags;
use cenote_rpc::procedures::{PoolId, PoolSizes, Procedure, VolumeId, VolumeSizes, calls};

pub(super) fn answer(engine: &Engine, procedure: Procedure, payload: &[u8]) -> Result<Vec<u8>> {
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
                flags::check(flags, PoolFilter::KNOWN, "storageConnectListAllStoragePools")?;
                let pools: Vec<_> = pools(engine, PoolFilter(flags)).into_iter().map(PoolId::from).collect();
                limited(pools, wants_results, "pools")
            })
        }
        Procedure::ConnectFindStoragePoolSources => {
            run::<calls::ConnectFindStoragePoolSources>(payload, |(kind, question, flags)| {
                flags::check(flags, 0, "storageConnectFindStoragePoolSources")?;
                Ok((engine.find_sources(&kind, question.as_deref())?,))
            })
        }
        Procedure::ConnectGetCapabilities => {
            run::<calls::ConnectGetCapabilities>(payload, |()| Ok((engine.host_capabilities(),)))
        }
        Procedure::ConnectGetStoragePoolCapabilities => {
            run::<calls::ConnectGetStoragePoolCapabilities>(payload, |(flags,)| {
                flags::check(flags, 0, "storageConnectGetStoragePoolCapabilities")?;
                Ok((engine.capabilities(),))
            })
        }
        Procedure::StoragePoolLookupByName => run::<calls::StoragePoolLookupByName>(payload, |(name,)| {
            Ok((engine.pool_by_name(&name)?.into(),))
        }),
        Procedure::StoragePoolLookupByUuid => run::<calls::StoragePoolLookupByUuid>(payload, |(uuid,)| {
            Ok((engine.pool_by_uuid(&uuid)?.into(),))
        }),
        Procedure::StoragePoolLookupByVolume => {
            run::<calls::StoragePoolLookupByVolume>(payload, |(volume,)| {
                Ok((engine.pool_of_volume(&volume.try_into()?)?.into(),))
            })
        }
        Procedure::StoragePoolLookupByTargetPath => {
            run::<calls::StoragePoolLookupByTargetPath>(payload, |(path,)| {
                Ok((engine.pool_by_target_path(&path)?.into(),))
            })
        }
        _ => pool_call(engine, procedure, payload),
    }
}

fn pool_call(engine: &Engine, procedure: Procedure, payload: &[u8]) -> Result<Vec<u8>> {
    match procedure {
        Procedure::StoragePoolDefineXml => run::<calls::StoragePoolDefineXml>(payload, |(xml, flags)| {
            Ok((engine.define_pool(&xml, flags::decode(flags, "storagePoolDefineXML")?)?.into(),))
        }),
        Procedure::StoragePoolCreateXml => run::<calls::StoragePoolCreateXml>(payload, |(xml, flags)| {
            let build = flags::decode(flags, "storagePoolCreateXML")?;
            Ok((engine.create_pool(&xml, build)?.into(),))
        }),
        Procedure::StoragePoolCreate => run::<calls::StoragePoolCreate>(payload, |(pool, flags)| {
            engine.start_pool(&pool.try_into()?, flags::decode(flags, "storagePoolCreate")?)
        }),
        Procedure::StoragePoolBuild => run::<calls::StoragePoolBuild>(payload, |(pool, flags)| {
            engine.build_pool(&pool.try_into()?, flags::decode(flags, "storagePoolBuild")?)
        }),
        Procedure::StoragePoolDestroy => {
            run::<calls::StoragePoolDestroy>(payload, |(pool,)| engine.stop_pool(&pool.try_into()?))
        }
        Procedure::StoragePoolDelete => run::<calls::StoragePoolDelete>(payload, |(pool, flags)| {
            flags::check(flags, 1, "storagePoolDelete")?;
            engine.delete_pool(&pool.try_into()?)
        }),
        Procedure::StoragePoolUndefine => {
            run::<calls::StoragePoolUndefine>(payload, |(pool,)| engine.undefine_pool(&pool.try_into()?))
        }
        Procedure::StoragePoolRefresh => run::<calls::StoragePoolRefresh>(payload, |(pool, flags)| {
            flags::check(flags, 0, "storagePoolRefresh")?;
            engine.refresh_pool(&pool.try_into()?)
        }),
        Procedure::StoragePoolGetInfo => run::<calls::StoragePoolGetInfo>(payload, |(pool,)| {
            Ok(pool_sizes(&engine.pool_info(&pool.try_into()?)?))
        }),
        Procedure::StoragePoolGetXmlDesc => run::<calls::StoragePoolGetXmlDesc>(payload, |(pool, flags)| {
            const INACTIVE: u32 = 1;
            flags::check(flags, INACTIVE, "storagePoolGetXMLDesc")?;
            let pool = pool.try_into()?;
            Ok((if flags & INACTIVE == 0 {
                engine.pool_xml(&pool)?
            } else {
                engine.pool_inactive_xml(&pool)?
            },))
        }),
        Procedure::StoragePoolGetAutostart => run::<calls::StoragePoolGetAutostart>(payload, |(pool,)| {
            Ok((i32::from(engine.known_pool_info(&pool.try_into()?)?.autostart),))
        }),
        Procedure::StoragePoolSetAutostart => {
            run::<calls::StoragePoolSetAutostart>(payload, |(pool, autostart)| {
                engine.set_autostart(&pool.try_into()?, autostart != 0)
            })
        }
        Procedure::StoragePoolIsActive => run::<calls::StoragePoolIsActive>(payload, |(pool,)| {
            Ok((i32::from(engine.known_pool_info(&pool.try_into()?)?.run == PoolRun::Active),))
        }),
        Procedure::StoragePoolIsPersistent => run::<calls::StoragePoolIsPersistent>(payload, |(pool,)| {
            Ok((i32::from(engine.known_pool_info(&pool.try_into()?)?.persistent),))
        }),
        Procedure::StoragePoolNumOfVolumes => run::<calls::StoragePoolNumOfVolumes>(payload, |(pool,)| {
            Ok((count(engine.volumes(&pool.try_into()?)?),))
        }),
        Procedure::StoragePoolListVolumes => run::<calls::StoragePoolListVolumes>(payload, |(pool, most)| {
            let volumes = engine.volumes(&pool.try_into()?)?;
            Ok((names(volumes.into_iter().map(|volume| volume.name), most)?,))
        }),
        Procedure::StoragePoolListAllVolumes => {
            run::<calls::StoragePoolListAllVolumes>(payload, |(pool, wants_results, flags)| {
                flags::check(flags, 0, "storagePoolListAllVolumes")?;
                let volumes: Vec<_> =
                    engine.volumes(&pool.try_into()?)?.into_iter().map(VolumeId::from).collect();
                limited(volumes, wants_results, "volumes")
            })
        }
        _ => volume_call(engine, procedure, payload),
    }
}

fn volume_call(engine: &Engine, procedure: Procedure, payload: &[u8]) -> Result<Vec<u8>> {
    match procedure {
        Procedure::StorageVolLookupByName => run::<calls::StorageVolLookupByName>(payload, |(pool, name)| {
            Ok((engine.volume_by_name(&pool.try_into()?, &name)?.into(),))
        }),
        Procedure::StorageVolLookupByKey => {
            run::<calls::StorageVolLookupByKey>(payload, |(key,)| Ok((engine.volume_by_key(&key)?.into(),)))
        }
        Procedure::StorageVolLookupByPath => run::<calls::StorageVolLookupByPath>(payload, |(path,)| {
            Ok((engine.volume_by_path(&path)?.into(),))
        }),
        Procedure::StorageVolCreateXml => run::<calls::StorageVolCreateXml>(payload, |(pool, xml, flags)| {
            let options = flags::decode(flags, "storageVolCreateXML")?;
            Ok((engine.create_volume(&pool.try_into()?, &xml, options)?.into(),))
        }),
        Procedure::StorageVolCreateXmlFrom => {
            run::<calls::StorageVolCreateXmlFrom>(payload, |(pool, xml, source, flags)| {
                let options = flags::decode(flags, "storageVolCreateXMLFrom")?;
                let made =
                    engine.create_volume_from(&pool.try_into()?, &xml, &source.try_into()?, options)?;
                Ok((made.into(),))
            })
        }
        Procedure::StorageVolDelete => run::<calls::StorageVolDelete>(payload, |(volume, flags)| {
            // libvirt says in which of its functions: that of volumes which are files.
            let options = flags::decode(flags, "virStorageBackendVolDeleteLocal")?;
            engine.delete_volume(&volume.try_into()?, options)
        }),
        Procedure::StorageVolGetInfo => run::<calls::StorageVolGetInfo>(payload, |(volume,)| {
            let info = engine.volume_info(&volume.try_into()?)?;
            Ok(volume_sizes(&info, info.allocation))
        }),
        Procedure::StorageVolGetInfoFlags => {
            run::<calls::StorageVolGetInfoFlags>(payload, |(volume, flags)| {
                const PHYSICAL: u32 = 1;
                flags::check(flags, PHYSICAL, "storageVolGetInfoFlags")?;
                let info = engine.volume_info(&volume.try_into()?)?;
                Ok(volume_sizes(&info, if flags & PHYSICAL == 0 { info.allocation } else { info.physical }))
            })
        }
        Procedure::StorageVolGetXmlDesc => run::<calls::StorageVolGetXmlDesc>(payload, |(volume, flags)| {
            flags::check(flags, 0, "storageVolGetXMLDesc")?;
            Ok((engine.volume_xml(&volume.try_into()?)?,))
        }),
        Procedure::StorageVolGetPath => run::<calls::StorageVolGetPath>(payload, |(volume,)| {
            let volume = volume.try_into()?;
            engine.volume(&volume)?.path.clone().map(|path| (path,)).ok_or_else(|| {
                Error::new(Code::NoSupport, format!("volume '{}' has no path on this machine", volume.name))
            })
        }),
        Procedure::StorageVolWipe => run::<calls::StorageVolWipe>(payload, |(volume, flags)| {
            flags::check(flags, 0, "storageVolWipePattern")?;
            engine.wipe_volume(&volume.try_into()?, WipeAlgorithm::Zero)
        }),
        Procedure::StorageVolWipePattern => {
            run::<calls::StorageVolWipePattern>(payload, |(volume, algorithm, flags)| {
                flags::check(flags, 0, "storageVolWipePattern")?;
                let algorithm = WipeAlgorithm::ALL.get(algorithm as usize).copied().ok_or_else(|| {
                    Error::new(Code::InvalidArg, format!("wiping algorithm {algorithm} not supported"))
                })?;
                engine.wipe_volume(&volume.try_into()?, algorithm)
            })
        }
        Procedure::StorageVolResize => run::<calls::StorageVolResize>(payload, |(volume, size, flags)| {
            engine.resize_volume(&volume.try_into()?, size, flags::decode(flags, "storageVolResize")?)
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
