//! A volume group that is read from its devices: asking LVM takes a good part of a second. Only LVM can tell how full what is
//! thin or a snapshot is, so a group with such volumes is not read here.

use super::report::{Group, Kind, LogicalVolume};
use cenote_host::stat_at;
use cenote_image::lvm::{self, Member, Segment};
use cenote_model::volume::Extent;
use rustix::fs::{Advice, CWD, FileType, fadvise};
use std::collections::BTreeMap;
use std::path::Path;

/// The group of this name, if it is plain, and all of its devices are where they are expected, or where LVM noted that they
/// are, and all say the same.
pub(super) fn group(name: &str, expected: &[&str]) -> Option<Group> {
    let found: Vec<_> = expected.iter().filter_map(|path| Some((*path, member(path)?))).collect();
    let group = &found.iter().find(|(_, member)| member.group.name == name)?.1.group;
    let noted = group.devices.iter().filter_map(|device| device.path.as_deref());
    let more: Vec<_> = noted
        .filter(|path| !expected.contains(path))
        .filter_map(|path| Some((path, member(path)?)))
        .collect();
    let mut paths = BTreeMap::new();
    for (path, member) in found.iter().chain(&more).filter(|(_, member)| member.group == *group) {
        paths.entry(&member.id).or_insert(*path);
    }
    let devices: Vec<_> =
        group.devices.iter().map(|device| paths.get(&device.id).copied()).collect::<Option<_>>()?;
    let bytes = |extents: u64| extents.checked_mul(group.extent_size);
    let mut free = 0u64;
    for device in &group.devices {
        free = free.checked_add(bytes(device.extents)?)?;
    }
    let size = free;
    let mut volumes = Vec::new();
    for volume in &group.volumes {
        let mut extents = Vec::new();
        for stripe in volume.segments.iter().flat_map(|Segment { stripes }| stripes) {
            let (start, length) = (bytes(stripe.first)?, bytes(stripe.length)?);
            let device = (*devices.get(stripe.device)?).to_owned();
            extents.push(Extent { device, start, end: start.checked_add(length)? });
        }
        let size = extents.iter().map(|extent| extent.end - extent.start).sum();
        free = free.checked_sub(size)?;
        volumes.push(LogicalVolume {
            name: volume.name.clone(),
            uuid: volume.id.clone(),
            kind: Kind::Thick,
            // One that is not has no device.
            is_active: true,
            size,
            filled: None,
            origin: None,
            pool: None,
            extents,
        });
    }
    Some(Group { size, free, devices: devices.into_iter().map(str::to_owned).collect(), volumes })
}

fn member(path: &str) -> Option<Member> {
    stat_at(CWD, Path::new(path)).ok().filter(|found| found.kind == FileType::BlockDevice)?;
    let disk = cenote_image::open(Path::new(path)).ok()?;
    // Another machine, with the same disk, may have written what this one read before.
    fadvise(&disk, 0, None, Advice::DontNeed).ok()?;
    lvm::read(&disk).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logical::report;
    use cenote_test_support::{am_root, have, run};

    /// A device of this many MiB, which lvm may look at.
    struct Disk {
        path: String,
        _file: tempfile::NamedTempFile,
    }

    impl Disk {
        fn new(mebibytes: u64) -> Disk {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(mebibytes << 20).unwrap();
            let path = run("losetup", &["--find", "--show", file.path().to_str().unwrap()]).trim().to_owned();
            Disk { path, _file: file }
        }
    }

    impl Drop for Disk {
        fn drop(&mut self) {
            run("losetup", &["--detach", &self.path]);
        }
    }

    /// Without the kernel's part: only metadata is written.
    fn lvm(args: &[&str]) -> String {
        run("lvm", &[&args[..1], &["--driverloaded", "n"], &args[1..]].concat())
    }

    #[test]
    fn what_is_read_is_what_lvm_reports() {
        if !am_root() || !have("lvm") || !have("losetup") {
            return;
        }
        let (one, two, three) = (Disk::new(64), Disk::new(32), Disk::new(32));
        let name = format!("cenote-{}", std::process::id());
        let create = |args: &[&str]| {
            lvm(&[&["lvcreate", "-an", "-Zn", "-Wn", "-q", "-L", "8M"], args, &[&name]].concat());
        };
        lvm(&["pvcreate", "-q", &one.path, &two.path, &three.path]);
        lvm(&["vgcreate", "-q", "--physicalextentsize", "1M", &name, &one.path, &two.path]);
        let check = |expected: &[&str]| {
            let mut reported = report::group(&lvm(&[&report::ARGS[..], &[&name]].concat())).unwrap();
            for volume in &mut reported.volumes {
                volume.is_active = true;
            }
            let mut read = group(&name, expected).unwrap();
            read.volumes.sort_by(|a, b| a.name.cmp(&b.name));
            reported.volumes.sort_by(|a, b| a.name.cmp(&b.name));
            assert_eq!(read, reported);
        };
        check(&[&one.path]);
        create(&["-n", "linear"]);
        create(&["-n", "striped", "-i2"]);
        lvm(&["lvextend", "-q", "-L", "20M", &format!("{name}/linear"), &two.path]);
        check(&[&one.path]);
        check(&[&two.path, "/dev/null", "/nowhere"]);
        lvm(&["vgextend", "-q", &name, &three.path]);
        lvm(&["lvremove", "-q", "-y", &format!("{name}/striped")]);
        check(&[&one.path]);

        // Nothing is read of another group, nor of one with volumes of other kinds.
        assert_eq!(group("other", &[&one.path]), None);
        assert_eq!(group(&name, &[]), None);
        create(&["-n", "zeroes", "--type", "zero"]);
        assert_eq!(group(&name, &[&one.path]), None);
        lvm(&["lvremove", "-q", "-y", &format!("{name}/zeroes")]);
        check(&[&one.path]);
        // Nor of one of which a device is not there.
        drop(two);
        assert_eq!(group(&name, &[&one.path]), None);
    }
}
