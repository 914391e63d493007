//! What definitions of volumes and headers of images say of each other.

use crate::Environment;
use cenote_image::probe::{BackingName, Facts};
use cenote_image::qcow2::{Backing, DEFAULT_CLUSTER_SIZE, Options, Preallocation, Version};
use cenote_model::auth::SecretRef;
use cenote_model::encryption::Encryption;
use cenote_model::flags::CreateOptions;
use cenote_model::format::{ImageFeature, ImageFormat};
use cenote_model::{Code, Error, Result, VolumeDef};

/// Puts what a header says beyond format and size into a definition, but for the backing store, which is returned.
pub(crate) fn fill_in(
    volume: &mut VolumeDef,
    facts: Facts,
    environment: &Environment,
) -> Option<BackingName> {
    if facts.format == ImageFormat::Qcow2 {
        volume.compat = facts.compat.map(str::to_owned);
        volume.cluster_size = facts.cluster_size;
        volume.features = facts.features;
    }
    let path = volume.path.as_deref().unwrap_or_default();
    volume.encryption = facts.encryption.map(|format| {
        let secret = environment.secrets.of_volume(path).map(SecretRef::Uuid);
        Encryption { secrets: secret.into_iter().collect(), ..Encryption::of(format) }
    });
    facts.backing
}

/// What a definition asks of a qcow2 image. As libvirt has it, the capacity is a multiple of 1024.
pub(crate) fn qcow2_options(planned: &VolumeDef, capacity: u64) -> Result<Options> {
    let version = match planned.compat.as_deref() {
        None | Some("1.1" | "v3") => Version::V3,
        Some("0.10" | "v2") => Version::V2,
        Some(other) => {
            return Err(Error::new(
                Code::ConfigUnsupported,
                format!("qcow2 has no compat level '{other}': there are 0.10 and 1.1"),
            ));
        }
    };
    Ok(Options {
        capacity: capacity.next_multiple_of(1024),
        version,
        cluster_size: planned.cluster_size.unwrap_or(DEFAULT_CLUSTER_SIZE),
        lazy_refcounts: planned.has_feature(ImageFeature::LazyRefcounts),
        extended_l2: planned.has_feature(ImageFeature::ExtendedL2),
        backing: planned
            .backing
            .as_ref()
            .map(|backing| Backing { name: backing.path.clone(), format: backing.image_format() }),
    })
}

/// What of a qcow2 image is allocated when it is made. It is libvirt's rule: the data too, where the whole capacity shall be.
pub(crate) fn preallocation(planned: &VolumeDef, capacity: u64, options: CreateOptions) -> Preallocation {
    match options.prealloc_metadata {
        false => Preallocation::Off,
        true if planned.allocation.unwrap_or(capacity) < capacity => Preallocation::Metadata,
        true => Preallocation::Reserve,
    }
}
