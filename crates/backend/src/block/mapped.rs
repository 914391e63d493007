//! Devices of the device mapper, as the kernel shows them.

use cenote_host::device_number;
use std::fs;
use std::path::{Path, PathBuf};

/// A device of the device mapper; `None` for any other.
pub(crate) struct Mapped {
    uuid: String,
}

impl Mapped {
    /// The device at this path, if it is one.
    pub(crate) fn at(device: &Path, sysfs: &Path) -> Option<Mapped> {
        let (major, minor) = device_number(device)?;
        let uuid = fs::read_to_string(sysfs.join(format!("dev/block/{major}:{minor}/dm/uuid"))).ok()?;
        Some(Mapped { uuid: uuid.trim_end().to_owned() })
    }

    /// Where its partition of this number is. It is a mapped device of its own, whose name distributions choose; its UUID
    /// says whose partition it is.
    pub(crate) fn partition(&self, number: u32, sysfs: &Path) -> Option<PathBuf> {
        let wanted = format!("part{number}-{}", self.uuid);
        let devices = fs::read_dir(sysfs.join("class/block")).ok()?.flatten();
        let read = |folder: &Path, name: &str| fs::read_to_string(folder.join("dm").join(name)).ok();
        let mut folders = devices.map(|entry| entry.path());
        let found =
            folders.find(|folder| read(folder, "uuid").is_some_and(|uuid| uuid.trim_end() == wanted))?;
        Some(Path::new("/dev/mapper").join(read(&found, "name")?.trim_end()))
    }
}
