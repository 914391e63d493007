//! What qemu-img does: formats that are not written in-process, and encryption.

use crate::{Environment, error};
use cenote_host::Tool;
use cenote_model::auth::SecretRef;
use cenote_model::encryption::{Cipher, Encryption, EncryptionFormat};
use cenote_model::flags::CreateOptions;
use cenote_model::format::{ImageFeature, ImageFormat};
use cenote_model::secret::UsageKind;
use cenote_model::volume::VolumeKind;
use cenote_model::{Code, Error, Job, Result, VolumeDef};
use std::path::Path;

/// Refuses what qemu-img could only refuse less clearly.
pub(crate) fn check(planned: &VolumeDef, options: CreateOptions) -> Result<()> {
    let refuse = |code, detail: &str| Err(Error::new(code, detail));
    let format = planned.image_format();
    if let Some(encryption) = &planned.encryption {
        check_encryption(format, encryption)?;
    }
    if format == ImageFormat::Qcow2 {
        return Ok(());
    }
    if options.prealloc_metadata {
        return refuse(Code::ConfigUnsupported, "metadata preallocation only available with qcow2");
    }
    if planned.compat.is_some() && planned.features.is_none() {
        return refuse(Code::ConfigUnsupported, "compatibility option only available with qcow2");
    }
    if planned.features.as_ref().is_some_and(|features| !features.is_empty()) {
        return refuse(Code::ConfigUnsupported, "format features only available with qcow2");
    }
    if planned.backing.is_some() && matches!(format, ImageFormat::Raw | ImageFormat::Iso) {
        return refuse(Code::ConfigUnsupported, "cannot set backing store for raw volume");
    }
    if matches!(
        format,
        ImageFormat::None | ImageFormat::Bochs | ImageFormat::Cloop | ImageFormat::Dmg | ImageFormat::Fat
    ) {
        return Err(Error::new(
            Code::ConfigUnsupported,
            format!("there is no tool that makes {format} images"),
        ));
    }
    Ok(())
}

fn check_encryption(format: ImageFormat, encryption: &Encryption) -> Result<()> {
    let refuse = |code, detail: &str| Err(Error::new(code, detail));
    if encryption.secrets.len() != 1 {
        return refuse(
            Code::InvalidArg,
            "A single <secret type='passphrase'...> element is expected in encryption description",
        );
    }
    match (format, encryption.format) {
        (ImageFormat::Raw | ImageFormat::Qcow2, EncryptionFormat::Luks) => Ok(()),
        (_, EncryptionFormat::Luks2) => {
            refuse(Code::ConfigUnsupported, "qemu-img makes no luks2 images: use format luks")
        }
        (ImageFormat::Qcow | ImageFormat::Qcow2, EncryptionFormat::Qcow | EncryptionFormat::Default) => {
            refuse(Code::ConfigUnsupported, "creation of qcow2 encrypted image is not supported")
        }
        (ImageFormat::Raw, _) => refuse(Code::Internal, "Only luks encryption is supported for raw files"),
        (other, _) => Err(Error::new(
            Code::ConfigUnsupported,
            format!("volume encryption unsupported with format {other}"),
        )),
    }
}

/// Makes an empty image of a file that exists.
pub(crate) fn create(
    environment: &Environment,
    planned: &VolumeDef,
    path: &Path,
    capacity: u64,
    options: CreateOptions,
    job: &Job,
) -> Result<()> {
    let mut tool = start(environment)?.args(["create", "-q", "-f", driver(planned)]);
    let mut settings = Vec::new();
    if let Some(backing) = &planned.backing {
        tool = tool.args(["-b", &backing.path, "-F", name(backing.image_format())]);
    }
    if options.prealloc_metadata {
        let all = planned.allocation.unwrap_or(capacity) >= capacity;
        settings.push(format!("preallocation={}", if all { "falloc" } else { "metadata" }));
    }
    settings.extend(image_settings(planned));
    let encryption = Key::of(environment, planned, &mut tool, "key")?;
    if let (Some(key), Some(encryption)) = (&encryption, &planned.encryption) {
        let prefix = key.prefix;
        if prefix.is_empty() {
            settings.push(format!("key-secret={}", key.id));
        } else {
            settings.push(format!("{prefix}format=luks,{prefix}key-secret={}", key.id));
        }
        settings.extend(encryption.cipher.iter().flat_map(|cipher| cipher_settings(cipher, prefix)));
        tool = tool.args(["--object", &key.object]);
    }
    if !settings.is_empty() {
        tool = tool.args(["-o", &settings.join(",")]);
    }
    let size = format!("{}K", capacity.div_ceil(1024));
    tool.arg(path).arg(size).run(job).map_err(error::tool)?;
    Ok(())
}

/// Copies a volume's content into an image, which is made in the file at `path`.
pub(crate) fn convert(
    environment: &Environment,
    planned: &VolumeDef,
    source: &VolumeDef,
    path: &Path,
    options: CreateOptions,
    job: &Job,
) -> Result<()> {
    let from = source.path.as_deref().unwrap_or_default();
    let source_capacity = source.capacity.unwrap_or(0);
    let capacity = planned.capacity.unwrap_or(0).max(source_capacity);
    let alone = VolumeDef { backing: None, ..planned.clone() };
    if planned.encryption.is_some() || options.prealloc_metadata {
        // It is made first and filled then.
        create(environment, &alone, path, capacity, options, job)?;
        return fill(environment, planned, source, Path::new(from), path, job);
    }
    let mut tool = start(environment)?.args(["convert", "-q", "-O", driver(planned)]);
    let settings = image_settings(&alone);
    if !settings.is_empty() {
        tool = tool.args(["-o", &settings.join(",")]);
    }
    let read = Key::of(environment, source, &mut tool, "from")?;
    if let Some(key) = &read {
        tool = tool.args(["--object", &key.object]);
    }
    tool.arg("--image-opts")
        .arg(image_opts(source, Path::new(from), read.as_ref()))
        .arg(path)
        .run(job)
        .map_err(error::tool)?;
    if capacity > source_capacity {
        resize(environment, &alone, &path.display().to_string(), capacity, job)?;
    }
    Ok(())
}

/// Copies a volume's content into an image that was made for it.
pub(crate) fn fill(
    environment: &Environment,
    planned: &VolumeDef,
    source: &VolumeDef,
    from: &Path,
    path: &Path,
    job: &Job,
) -> Result<()> {
    let mut tool = start(environment)?.args(["convert", "-q", "-n"]);
    let read = Key::of(environment, source, &mut tool, "from")?;
    let write = Key::of(environment, planned, &mut tool, "to")?;
    for key in [&read, &write].into_iter().flatten() {
        tool = tool.args(["--object", &key.object]);
    }
    tool.args(["--image-opts", "--target-image-opts"])
        .arg(image_opts(source, from, read.as_ref()))
        .arg(image_opts(planned, path, write.as_ref()))
        .run(job)
        .map_err(error::tool)?;
    Ok(())
}

/// Sets the capacity of the image at `path`.
pub(crate) fn resize(
    environment: &Environment,
    volume: &VolumeDef,
    path: &str,
    capacity: u64,
    job: &Job,
) -> Result<()> {
    if volume
        .encryption
        .as_ref()
        .is_some_and(|e| matches!(e.format, EncryptionFormat::Qcow | EncryptionFormat::Default))
    {
        return Err(Error::new(Code::ConfigUnsupported, "resize of qcow2 encrypted image is not supported"));
    }
    let mut tool = start(environment)?.args(["resize", "-q"]);
    if capacity < volume.capacity.unwrap_or(0) {
        tool = tool.arg("--shrink");
    }
    let key = Key::of(environment, volume, &mut tool, "key")?;
    if let Some(key) = &key {
        tool = tool.args(["--object", &key.object]);
    }
    tool.arg("--image-opts")
        .arg(image_opts(volume, Path::new(path), key.as_ref()))
        .arg(capacity.next_multiple_of(512).to_string())
        .run(job)
        .map_err(error::tool)?;
    Ok(())
}

fn start(environment: &Environment) -> Result<Tool> {
    environment.host.tool("qemu-img").map_err(|_| {
        Error::new(
            Code::Internal,
            "this needs qemu-img, which is not installed: install the package qemu-utils",
        )
    })
}

/// qemu's name for a format.
fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Iso | ImageFormat::Fat | ImageFormat::None => "raw",
        ImageFormat::Vhd => "vhdx",
        ImageFormat::Ploop => "parallels",
        other => other.as_str(),
    }
}

/// qemu's driver for a volume: encryption makes one of its own of raw.
fn driver(volume: &VolumeDef) -> &'static str {
    match volume.image_format() {
        ImageFormat::Raw if volume.encryption.is_some() => "luks",
        format => name(format),
    }
}

fn image_settings(planned: &VolumeDef) -> Vec<String> {
    let mut settings = Vec::new();
    if planned.image_format() != ImageFormat::Qcow2 {
        return settings;
    }
    settings.push(format!("compat={}", planned.compat.as_deref().unwrap_or("1.1")));
    settings.extend(planned.cluster_size.map(|size| format!("cluster_size={size}")));
    for feature in [ImageFeature::LazyRefcounts, ImageFeature::ExtendedL2] {
        if planned.has_feature(feature) {
            settings.push(format!("{feature}=on"));
        }
    }
    settings
}

fn cipher_settings(cipher: &Cipher, prefix: &str) -> Vec<String> {
    let mut settings = vec![format!("{prefix}cipher-alg={}-{}", cipher.name, cipher.size)];
    settings.extend(cipher.mode.iter().map(|mode| format!("{prefix}cipher-mode={mode}")));
    settings.extend(cipher.hash.iter().map(|hash| format!("{prefix}hash-alg={hash}")));
    if let Some(ivgen) = &cipher.ivgen {
        settings.push(format!("{prefix}ivgen-alg={}", ivgen.name));
        settings.extend(ivgen.hash.iter().map(|hash| format!("{prefix}ivgen-hash-alg={hash}")));
    }
    settings.iter().map(|setting| escape(setting)).collect()
}

/// An image for `--image-opts`.
fn image_opts(volume: &VolumeDef, path: &Path, key: Option<&Key>) -> String {
    let file = escape(&path.display().to_string());
    let protocol = if volume.kind == VolumeKind::Block { "host_device" } else { "file" };
    let mut text = format!("driver={},file.driver={protocol},file.filename={file}", driver(volume));
    if let Some(key) = key {
        text.push_str(&format!(",{}key-secret={}", key.prefix, key.id));
    }
    text
}

/// In a list of options a comma is written twice.
fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

/// The key of an encrypted volume, as qemu-img is told of it.
struct Key {
    id: String,
    object: String,
    /// What stands before the key's options: they are the format's own, or those of a layer in it.
    prefix: &'static str,
}

impl Key {
    fn of(environment: &Environment, volume: &VolumeDef, tool: &mut Tool, id: &str) -> Result<Option<Key>> {
        let Some(encryption) = &volume.encryption else { return Ok(None) };
        let secret = match encryption.secrets.first() {
            Some(secret) => secret.clone(),
            None => volume
                .path
                .as_deref()
                .and_then(|path| environment.secrets.of_volume(path))
                .map(SecretRef::Uuid)
                .ok_or_else(|| {
                    Error::new(Code::NoSecret, format!("no secret is defined for volume '{}'", volume.name))
                })?,
        };
        let value = environment.secrets.value(&secret, UsageKind::Volume)?;
        let file = tool
            .secret(value.expose())
            .map_err(|e| Error::system("cannot hand the passphrase to qemu-img", &e))?;
        let prefix = if volume.image_format() == ImageFormat::Qcow2 { "encrypt." } else { "" };
        Ok(Some(Key { id: id.to_owned(), object: format!("secret,id={id},file={file}"), prefix }))
    }
}
