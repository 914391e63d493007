//! Whatever can be said in the types survives being written and read.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_model::auth::{Auth, AuthKind, SecretRef, TargetAuth};
use cenote_model::encryption::{Cipher, Encryption, EncryptionEngine, EncryptionFormat, IvGen};
use cenote_model::flags::Validate;
use cenote_model::format::{ImageFeature, ImageFormat, VolumeFormat};
use cenote_model::kind::TargetRule;
use cenote_model::permissions::Permissions;
use cenote_model::pool::{RefreshAllocation, Target, Usage, sanitize_path};
use cenote_model::secret::{SecretDef, SecretUsage, UsageKind};
use cenote_model::source::{Adapter, Device, FcHost, FreeExtent, Host, PciAddress, Source};
use cenote_model::units::MAX_CAPACITY;
use cenote_model::volume::{
    BackingStore, CapacityRule, Extent, Timestamp, Timestamps, VolumeDef, VolumeKind,
};
use cenote_model::{Name, PoolDef, PoolKind, Uuid};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

/// Text that XML can carry, with everything in it that has to be escaped.
fn text() -> impl Strategy<Value = String> {
    "[\t\n\r -~¡-\u{2fff}]{1,24}"
}

fn name() -> impl Strategy<Value = String> {
    text().prop_filter("a name", |text| Name::volume(text.clone()).is_ok())
}

fn path() -> impl Strategy<Value = String> {
    text().prop_map(|text| sanitize_path(&format!("/{text}")))
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_map(Uuid::from_bytes)
}

fn size() -> impl Strategy<Value = u64> {
    0..=MAX_CAPACITY
}

fn permissions() -> impl Strategy<Value = Permissions> {
    (of(0..=0o777u32), of(0..u32::MAX), of(0..u32::MAX), of(text()))
        .prop_map(|(mode, owner, group, label)| Permissions { mode, owner, group, label })
}

fn secret_ref() -> impl Strategy<Value = SecretRef> {
    prop_oneof![uuid().prop_map(SecretRef::Uuid), text().prop_map(SecretRef::Usage)]
}

fn adapter() -> impl Strategy<Value = Adapter> {
    let wwn = || "[0-9a-f]{16}";
    prop_oneof![
        text().prop_map(Adapter::ScsiHost),
        (0..0x10000u32, 0..256u32, 0..32u32, 0..8u32, 0..i32::MAX as u32).prop_map(
            |(domain, bus, slot, function, unique_id)| Adapter::ScsiHostAt {
                parent: PciAddress { domain, bus, slot, function },
                unique_id,
            }
        ),
        (of(text()), of((wwn(), wwn())), of(wwn()), of(any::<bool>()), wwn(), wwn()).prop_map(
            |(parent, parent_wwn, parent_fabric_wwn, managed, wwnn, wwpn)| {
                Adapter::FcHost(FcHost { parent, parent_wwn, parent_fabric_wwn, managed, wwnn, wwpn })
            }
        ),
    ]
}

fn source(kind: PoolKind) -> impl Strategy<Value = Source> {
    let parts = kind.source_parts();
    let host = (text(), of(1..=u16::MAX)).prop_map(|(name, port)| Host { name, port });
    let device =
        (text(), of(any::<bool>()), vec((size(), size()), 0..3)).prop_map(|(path, sep, free)| Device {
            path,
            part_separator: sep,
            free_extents: free.into_iter().map(|(start, end)| FreeExtent { start, end }).collect(),
        });
    let target = (text(), secret_ref()).prop_map(|(username, secret)| TargetAuth { username, secret });
    let auth = (select(AuthKind::ALL), text(), secret_ref(), of(text()), of(target)).prop_map(
        |(kind, username, secret, secret_type, target)| Auth {
            kind,
            username,
            secret,
            secret_type,
            target: target.filter(|_| kind == AuthKind::Chap),
        },
    );
    let formats: Vec<_> = match kind.default_source_format() {
        None => vec![None],
        Some(_) => kind.source_format_names().iter().map(|name| kind.source_format(name)).collect(),
    };
    (
        (vec(host, 1..3), vec(device, 1..3), path(), adapter(), text(), text()),
        (select(formats), of(auth).prop_map(move |auth| auth.filter(|_| parts.auth))),
        (of(text()), of(text())),
    )
        .prop_map(
            move |((hosts, devices, dir, adapter, name, iqn), (format, auth), (vendor, product))| Source {
                hosts: if parts.host { hosts } else { Vec::new() },
                devices: if parts.device { devices } else { Vec::new() },
                dir: parts.dir.then_some(dir),
                adapter: parts.adapter.then_some(adapter),
                name: parts.name.then_some(name),
                initiator: parts.initiator.then_some(iqn),
                format,
                auth,
                protocol_ver: None,
                vendor,
                product,
            },
        )
}

fn pool() -> impl Strategy<Value = PoolDef> {
    select(PoolKind::ALL).prop_flat_map(|kind| {
        let options = matches!(kind, PoolKind::Fs | PoolKind::NetFs);
        (
            (name(), uuid(), size(), size(), size(), of(any::<bool>())),
            (source(kind), path(), permissions(), of(select(RefreshAllocation::ALL))),
            (vec(text(), 0..3), vec((text(), text()), 0..3)),
        )
            .prop_map(
                move |((name, uuid, capacity, allocation, available, cow), b, (mount, rbd))| {
                    let (source, path, permissions, refresh) = b;
                    let path = match kind.target_rule() {
                        TargetRule::Under(dir) => {
                            sanitize_path(&format!("{dir}/{}", source.name.as_deref().unwrap()))
                        }
                        _ => path,
                    };
                    PoolDef {
                        kind,
                        name: Name::pool(name).unwrap(),
                        uuid,
                        usage: Usage { capacity, allocation, available },
                        cow: cow.filter(|_| matches!(kind, PoolKind::Dir | PoolKind::Fs)),
                        source,
                        target: (kind.target_rule() != TargetRule::Network)
                            .then_some(Target { path, permissions }),
                        refresh,
                        mount_options: if options { mount } else { Vec::new() },
                        rbd_options: if kind == PoolKind::Rbd { rbd } else { Vec::new() },
                    }
                },
            )
    })
}

fn timestamps() -> impl Strategy<Value = Timestamps> {
    let time = || {
        (any::<u64>(), 0..1_000_000_000u32)
            .prop_map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds })
    };
    (time(), time(), time(), of(time())).prop_map(|(atime, mtime, ctime, btime)| Timestamps {
        atime,
        mtime,
        ctime,
        btime,
    })
}

fn encryption() -> impl Strategy<Value = Encryption> {
    let ivgen = (text(), of(text())).prop_map(|(name, hash)| IvGen { name, hash });
    let cipher = (text(), any::<u32>(), of(text()), of(text()), of(ivgen))
        .prop_map(|(name, size, mode, hash, ivgen)| Cipher { name, size, mode, hash, ivgen });
    (select(EncryptionFormat::ALL), of(select(EncryptionEngine::ALL)), vec(secret_ref(), 0..3), of(cipher))
        .prop_map(|(format, engine, secrets, cipher)| Encryption {
            format,
            engine,
            secrets,
            cipher: cipher.filter(|_| matches!(format, EncryptionFormat::Luks | EncryptionFormat::Luks2)),
        })
}

fn volume_format(pool: PoolKind) -> impl Strategy<Value = Option<VolumeFormat>> {
    let all: Vec<_> = match pool.default_volume_format() {
        None if pool == PoolKind::Logical => vec![None, Some(VolumeFormat::ThinPool)],
        None | Some(VolumeFormat::ThinPool) => vec![None],
        Some(VolumeFormat::Image(_)) => ImageFormat::ALL
            .iter()
            .filter(|format| **format != ImageFormat::None)
            .map(|format| Some(VolumeFormat::Image(*format)))
            .collect(),
        Some(VolumeFormat::Partition(_)) => {
            pool.volume_format_names().iter().map(|name| pool.volume_format(name)).collect()
        }
    };
    select(all)
}

fn volume() -> impl Strategy<Value = (PoolKind, VolumeDef)> {
    select(PoolKind::ALL).prop_flat_map(|pool| {
        let backing = (text(), volume_format(pool), permissions(), of(timestamps())).prop_map(
            |(path, format, permissions, timestamps)| BackingStore { path, format, permissions, timestamps },
        );
        let extent = (path(), size(), size()).prop_map(|(device, start, end)| Extent { device, start, end });
        let features = proptest::sample::subsequence(ImageFeature::ALL, 0..=ImageFeature::ALL.len());
        (
            (select(VolumeKind::ALL), name(), of(text()), vec(extent, 0..4)),
            (size(), size(), of(1..=MAX_CAPACITY), of(text()), volume_format(pool)),
            (permissions(), of(timestamps()), of(encryption()), any::<bool>(), of(1..u64::MAX)),
            (of(features), of("[0-9]{1,3}\\.[0-9]{1,3}"), of(backing)),
        )
            .prop_map(move |(a, b, c, (features, compat, backing))| {
                let (kind, name, key, extents) = a;
                let (capacity, allocation, physical, path, format) = b;
                let (permissions, timestamps, encryption, nocow, cluster_size) = c;
                let compat = compat.or(features.as_ref().map(|_| "1.1".to_owned()));
                let name = Name::volume(name).unwrap();
                let def = VolumeDef {
                    kind,
                    name,
                    key,
                    extents,
                    capacity: Some(capacity),
                    allocation: Some(allocation),
                    physical,
                    path,
                    format,
                    permissions,
                    timestamps,
                    encryption,
                    compat,
                    nocow,
                    cluster_size,
                    features,
                    backing,
                };
                (pool, def)
            })
    })
}

fn secret() -> impl Strategy<Value = SecretDef> {
    let usage = (select(UsageKind::ALL), text()).prop_map(|(kind, id)| SecretUsage { kind, id });
    (any::<bool>(), any::<bool>(), uuid(), of(text()), of(usage)).prop_map(
        |(ephemeral, private, uuid, description, usage)| SecretDef {
            ephemeral,
            private,
            uuid,
            description,
            usage,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn pools(def in pool()) {
        for validate in [Validate::Lax, Validate::Strict] {
            prop_assert_eq!(&PoolDef::from_xml(&def.to_xml(), validate).unwrap(), &def);
        }
    }

    #[test]
    fn volumes((pool, def) in volume()) {
        for validate in [Validate::Lax, Validate::Strict] {
            let read = VolumeDef::from_xml(&def.to_xml(), pool, CapacityRule::UnlessBacked, validate);
            prop_assert_eq!(&read.unwrap(), &def);
        }
    }

    #[test]
    fn secrets(def in secret()) {
        prop_assert_eq!(SecretDef::from_xml(&def.to_xml(), Validate::Strict).unwrap(), def);
    }

    #[test]
    fn no_name_leaves_its_folder(text in any::<String>()) {
        if let Ok(name) = Name::volume(text) {
            let joined = std::path::Path::new("/pool").join(name.as_str());
            prop_assert_eq!(joined.parent(), Some(std::path::Path::new("/pool")));
        }
    }
}
