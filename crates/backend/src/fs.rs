//! `fs`: a file system on a device, or in a file.

use crate::mount::{self, FileSystem};
use crate::{Driver, Environment, Pool, block, error, needs};
use cenote_host::{Host, Mount, device_number, file_behind};
use cenote_model::flags::Overwrite;
use cenote_model::format::{FileSystem as Format, SourceFormat};
use cenote_model::{Code, Error, Job, PoolDef, PoolKind, Result};
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
    let format = match def.source.format {
        Some(SourceFormat::FileSystem(format)) => format,
        _ => Format::Auto,
    };
    let device = Device {
        pool: def.name.to_string(),
        path: block::only_device(def)?.to_owned(),
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
        let path = Path::new(&self.path);
        if let Some(number) = device_number(path) {
            return mount.device == number || device_number(Path::new(&mount.source)) == Some(number);
        }
        match std::fs::metadata(path) {
            // The device is gone; what it held may still be mounted.
            Err(_) => Path::new(&mount.source) == path,
            Ok(found) if found.is_file() => {
                let real = |path: PathBuf| std::fs::canonicalize(path).ok();
                let behind = file_behind(mount.device).and_then(real);
                behind.is_some() && behind == real(path.to_owned())
            }
            Ok(_) => false,
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
