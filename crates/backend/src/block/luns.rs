//! The LUNs of a SCSI host, as the kernel shows them.

use super::{links, scan_given, settle, volume};
use crate::{Environment, Found, Watch, waiting};
use cenote_model::{Code, Error, Job, Name, Result, VolumeDef};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long udev may take to make the links of new devices.
const LINKING: Duration = Duration::from_secs(3);

/// Types of SCSI device that hold data: disks and CD-ROMs.
const WITH_DATA: [&str; 2] = ["0", "5"];

/// How the keys of volumes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Of what the device says that it is.
    Device,
    /// Of that, and of the port by which it is reached.
    DeviceAndPort,
}

/// A LUN with a device.
struct Lun {
    /// `BUS:TARGET:LUN`
    address: String,
    /// Where the kernel shows it.
    folder: PathBuf,
    device: PathBuf,
}

/// Has the host look for LUNs, and those that are known for their sizes.
pub(crate) fn discover(environment: &Environment, host: u32) -> Result<()> {
    let sysfs = environment.host.sysfs();
    let scan = sysfs.join(format!("class/scsi_host/host{host}/scan"));
    fs::write(&scan, "- - -").map_err(|e| {
        Error::system(format!("Could not open '{}' to trigger host scan", scan.display()), &e)
    })?;
    for (_, folder) in folders(sysfs, host)? {
        // One that is gone says so when it is opened.
        let _ = fs::write(folder.join("rescan"), "1");
    }
    Ok(())
}

/// Watches the devices of these hosts.
pub(crate) fn watch(hosts: Vec<u32>) -> io::Result<Option<Box<dyn Watch>>> {
    super::watch::watch(move |event| {
        let path = event.get("DEVPATH").unwrap_or_default();
        hosts.iter().any(|host| path.contains(&format!("/host{host}/")))
    })
}

/// Finds the volumes of these hosts, as a pool's scan does. Of a LUN that several hosts reach the first one counts.
pub(crate) fn scan(
    environment: &Environment,
    hosts: &[u32],
    target: &str,
    keys: Keys,
    found: &mut dyn FnMut(Arc<VolumeDef>),
    job: &Job,
) -> Result<Found> {
    if !target.starts_with("/dev") {
        return Err(Error::new(
            Code::InvalidArg,
            format!(
                "unable to use target path '{target}': it is /dev, or a directory in it such as /dev/disk/by-path"
            ),
        ));
    }
    settle(environment, job);
    let mut luns: BTreeMap<String, Lun> = BTreeMap::new();
    for host in hosts {
        for lun in find(environment.host.sysfs(), *host)? {
            luns.entry(lun.address.clone()).or_insert(lun);
        }
    }
    let luns = with_paths(luns.into_values().collect(), target, job)?;
    let volumes = luns.into_iter().filter_map(|(lun, path)| {
        let name = Name::volume(format!("unit:{}", lun.address)).ok()?;
        Some(volume(name, path.clone(), key(&lun, keys).unwrap_or(path)))
    });
    scan_given(volumes, found, job)
}

/// How full a pool of these hosts is.
pub(crate) fn measure(environment: &Environment, hosts: &[u32], target: &str) -> Result<Found> {
    scan(environment, hosts, target, Keys::Device, &mut |_| (), &waiting::look("measuring LUNs"))
}

/// Fails if somebody uses a device of the host: something is mounted from it, or it is a part of something larger.
pub(crate) fn check_unused(environment: &Environment, host: u32) -> Result<()> {
    for lun in find(environment.host.sysfs(), host)? {
        let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if matches!(open(&lun.device, flags, Mode::empty()), Err(Errno::BUSY)) {
            return Err(Error::new(
                Code::OperationInvalid,
                format!(
                    "volume 'unit:{}' is in use: '{}' is mounted, or a part of something larger",
                    lun.address,
                    lun.device.display()
                ),
            ));
        }
    }
    Ok(())
}

/// Each LUN with the path of its volume: a name that stays, where the target has such. One that gets none is no volume, as
/// its device may have another name tomorrow.
fn with_paths(luns: Vec<Lun>, target: &str, job: &Job) -> Result<Vec<(Lun, String)>> {
    if target.trim_end_matches('/') == "/dev" {
        let with_path = |lun: Lun| {
            let path = lun.device.display().to_string();
            (lun, path)
        };
        return Ok(luns.into_iter().map(with_path).collect());
    }
    let has_all = |links: &BTreeMap<_, _>| luns.iter().all(|lun| links.contains_key(&lun.device));
    let all = waiting::until(LINKING, job, || Some(links(target)).filter(has_all))?;
    let links = all.unwrap_or_else(|| links(target));
    let linked = |lun: Lun| {
        let path = links.get(&lun.device).cloned()?;
        Some((lun, path))
    };
    Ok(luns.into_iter().filter_map(linked).collect())
}

/// Whether the host shows any device.
pub(crate) fn has_any(sysfs: &Path, host: u32) -> bool {
    folders(sysfs, host).is_ok_and(|folders| !folders.is_empty())
}

/// The host's devices: `BUS:TARGET:LUN`, and where the kernel shows each.
fn folders(sysfs: &Path, host: u32) -> Result<Vec<(String, PathBuf)>> {
    let devices = sysfs.join("bus/scsi/devices");
    let failed = |e| Error::system(format!("cannot read directory '{}'", devices.display()), &e);
    let mut folders = Vec::new();
    for entry in fs::read_dir(&devices).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let address = name.to_str().and_then(|name| name.split_once(':'));
        if let Some((_, address)) = address.filter(|(of, rest)| *of == host.to_string() && rest.contains(':'))
        {
            folders.push((address.to_owned(), entry.path()));
        }
    }
    Ok(folders)
}

fn find(sysfs: &Path, host: u32) -> Result<Vec<Lun>> {
    let luns = folders(sysfs, host)?.into_iter().filter_map(|(address, folder)| {
        let kind = fs::read_to_string(folder.join("type")).ok()?;
        if !WITH_DATA.contains(&kind.trim()) {
            return None;
        }
        let device = fs::read_dir(folder.join("block")).ok()?.flatten().next()?.file_name();
        Some(Lun { address, folder, device: Path::new("/dev").join(device) })
    });
    Ok(luns.collect())
}

/// The key that udev's scsi_id would print, which is libvirt's.
fn key(lun: &Lun, keys: Keys) -> Option<String> {
    let serial = identity(&lun.folder)?;
    match keys {
        Keys::Device => Some(serial),
        Keys::DeviceAndPort => {
            let page = fs::read(lun.folder.join("vpd_pg83")).ok()?;
            Some(format!("{serial}_PORT{:x}", port_group(&page)?))
        }
    }
}

/// What a device says that it is, with a digit before it that says how: after SPC-4, 7.8.6.
fn identity(folder: &Path) -> Option<String> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
    if let Some(wwid) = text("wwid") {
        let wwid = wwid.trim_end();
        let named = [("naa.", "3"), ("eui.", "2"), ("t10.", "1")];
        let found =
            named.iter().find_map(|(kind, digit)| Some(format!("{digit}{}", wwid.strip_prefix(kind)?)));
        if let Some(found) = found {
            return Some(join_words(&found));
        }
    }
    let page = fs::read(folder.join("vpd_pg80")).ok()?;
    let length = usize::from(u16::from_be_bytes(page.get(2..4)?.try_into().ok()?));
    let serial = String::from_utf8_lossy(page.get(4..4 + length)?).into_owned();
    let (vendor, model) = (text("vendor")?, text("model")?);
    Some(join_words(&format!(
        "S{:8.8}{:16.16}{serial}",
        vendor.trim_end_matches('\n'),
        model.trim_end_matches('\n')
    )))
}

/// Spaces become underlines, several of them one, and those at the end go.
fn join_words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join("_")
}

/// The group of the target port, in page 0x83 of a device's vital product data.
fn port_group(page: &[u8]) -> Option<u16> {
    let mut rest = page.get(4..)?;
    while let [_, kind, _, length, after @ ..] = rest {
        let designator = after.get(..usize::from(*length))?;
        // Associated with the port, of the type of a group.
        if kind & 0x3f == 0x15 {
            return Some(u16::from_be_bytes(designator.get(2..4)?.try_into().ok()?));
        }
        rest = &after[usize::from(*length)..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_devices_say_that_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).unwrap();
        assert_eq!(identity(folder.path()), None);
        write("vpd_pg80", b"\0\x80\0\x09lab  disk");
        write("vendor", b"QEMU    \n");
        write("model", b"QEMU HARDDISK   \n");
        assert_eq!(identity(folder.path()).unwrap(), "SQEMU_QEMU_HARDDISK_lab_disk");
        write("vpd_pg80", b"\0\x80\0\xff");
        assert_eq!(identity(folder.path()), None);
        write("wwid", b"naa.5000000000000001\n");
        assert_eq!(identity(folder.path()).unwrap(), "35000000000000001");
        write("wwid", b"t10.ATA     QEMU HARDDISK   QM00001 \n");
        assert_eq!(identity(folder.path()).unwrap(), "1ATA_QEMU_HARDDISK_QM00001");
    }

    #[test]
    fn ports() {
        let page = b"\0\x83\0\x14\x61\x93\0\x08\0\0\0\0\0\0\0\0\x61\x95\0\x04\0\0\0\x2a";
        assert_eq!(port_group(page), Some(0x2a));
        assert_eq!(port_group(b"\0\x83\0\x04\x61\x95\0\x04"), None);
        assert_eq!(port_group(b""), None);
    }
}
