//! `fs`: a file system on a device, or in a file.

use crate::mount::{self, FileSystem};
use crate::{Driver, Environment, Pool, block, error, needs};
use cenote_host::{Host, Mount, file_behind};
use cenote_model::flags::Overwrite;
use cenote_model::format::{FileSystem as Format, SourceFormat};
use cenote_model::{Code, Error, Job, PoolDef, PoolKind, Result};
use rustix::fs::{FileType, major, minor};
use std::path::{Path, PathBuf};

pub(crate) const DRIVER: Driver = Driver {
    kind: PoolKind::Fs,
    is_supported: |host| needs::are_met(PoolKind::Fs, host),
    open,
    find_sources: None,
};

struct Device {
    pool: String,
    path: String,
    format: Format,
    options: String,
}

fn open(def: &PoolDef, environment: &Environment) -> Result<Box<dyn Pool>> {
    let [device] = def.source.devices.as_slice() else {
        return Err(Error::new(Code::ConfigUnsupported, "expected exactly 1 device for the storage pool"));
    };
    let format = match def.source.format {
        Some(SourceFormat::FileSystem(format)) => format,
        _ => Format::Auto,
    };
    let device = Device {
        pool: def.name.to_string(),
        path: device.path.clone(),
        format,
        options: mount::options(None, &def.mount_options)?,
    };
    mount::open(def, device, environment)
}

impl FileSystem for Device {
    fn source(&self) -> String {
        self.path.clone()
    }

    /// By the device's number: its path may have become another. File systems over several devices have a number of
    /// their own, and then that of the device that the table names decides.
    fn is(&self, mount: &Mount) -> bool {
        let Ok(found) = rustix::fs::stat(self.path.as_str()) else {
            // The device is gone; what it held may still be mounted.
            return Path::new(&mount.source) == Path::new(&self.path);
        };
        match FileType::from_raw_mode(found.st_mode) {
            FileType::BlockDevice => {
                let number = (major(found.st_rdev), minor(found.st_rdev));
                mount.device == number || number_of(&mount.source) == Some(number)
            }
            FileType::RegularFile => {
                let real = |path: PathBuf| std::fs::canonicalize(path).ok();
                let behind = file_behind(mount.device).and_then(real);
                behind.is_some() && behind == real(self.path.clone().into())
            }
            _ => false,
        }
    }

    fn mount(&self, target: &str, host: &Host, job: &Job) -> Result<()> {
        let kind = match self.format {
            // Linux' own name.
            Format::HfsPlus => "hfsplus",
            format => format.as_str(),
        };
        mount::mount(Some(kind), &self.options, (&self.path, target), host, job)
    }

    fn make(&self, overwrite: Overwrite, environment: &Environment, job: &Job) -> Result<()> {
        if overwrite == Overwrite::Default {
            return Ok(());
        }
        let (tool, force) = maker(self.format).ok_or_else(|| {
            Error::new(
                Code::ConfigUnsupported,
                format!(
                    "pool '{}' has the format '{}', which cannot be made: give one such as ext4 or xfs",
                    self.pool, self.format
                ),
            )
        })?;
        if !Path::new(&self.path).exists() {
            return Err(Error::new(
                Code::OperationInvalid,
                format!("Source device does not exist when formatting pool '{}'", self.pool),
            ));
        }
        block::check_all_empty(environment, &[&self.path], self.format.as_str(), overwrite, job)?;
        let mkfs = environment.host.tool(tool).map_err(error::tool)?;
        mkfs.args(force).arg("--").arg(&self.path).run(job).map_err(error::tool).map(drop)
    }
}

fn number_of(device: impl AsRef<Path>) -> Option<(u32, u32)> {
    let found = rustix::fs::stat(device.as_ref()).ok()?;
    let is_device = FileType::from_raw_mode(found.st_mode) == FileType::BlockDevice;
    is_device.then(|| (major(found.st_rdev), minor(found.st_rdev)))
}

/// The tool that makes a file system, and what keeps it from asking whether it shall: that has been decided.
fn maker(format: Format) -> Option<(&'static str, &'static [&'static str])> {
    Some(match format {
        Format::Ext2 => ("mke2fs", &["-q", "-F", "-t", "ext2"]),
        Format::Ext3 => ("mke2fs", &["-q", "-F", "-t", "ext3"]),
        Format::Ext4 => ("mke2fs", &["-q", "-F", "-t", "ext4"]),
        Format::Xfs => ("mkfs.xfs", &["-q", "-f"]),
        Format::Vfat => ("mkfs.vfat", &["-I"]),
        Format::Udf => ("mkfs.udf", &[]),
        Format::HfsPlus => ("mkfs.hfsplus", &[]),
        Format::Gfs2 => ("mkfs.gfs2", &["-q", "-O", "-p", "lock_nolock"]),
        Format::Ocfs2 => ("mkfs.ocfs2", &["-q", "--force", "-M", "local"]),
        Format::Auto | Format::Ufs | Format::Iso9660 | Format::Gfs | Format::Vmfs => return None,
    })
}
