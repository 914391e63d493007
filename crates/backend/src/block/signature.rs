//! What is on a device already, as blkid knows it, so that nothing is built over it.

use crate::{Environment, error};
use cenote_host::ToolError;
use cenote_model::flags::Overwrite;
use cenote_model::{Code, Error, Job, Result};
use std::path::Path;

/// blkid's exit code where it recognizes nothing.
const NOTHING: i32 = 2;

/// Unless they may be overwritten, fails if there is anything on one of these devices, before any is changed.
pub(crate) fn check_all_empty(
    environment: &Environment,
    devices: &[&str],
    wanted: &str,
    overwrite: Overwrite,
    job: &Job,
) -> Result<()> {
    match overwrite {
        Overwrite::Allow => Ok(()),
        Overwrite::Default | Overwrite::Refuse => {
            devices.iter().try_for_each(|device| check_empty(environment, device, wanted, job))
        }
    }
}

/// Fails if there is anything on a device that blkid recognizes. `wanted` is blkid's name for what shall be made.
fn check_empty(environment: &Environment, device: &str, wanted: &str, job: &Job) -> Result<()> {
    match find(environment, device, job)? {
        None => Ok(()),
        Some(found) if found == wanted => Err(Error::new(
            Code::StoragePoolBuilt,
            format!("Device '{device}' already formatted using '{wanted}'"),
        )),
        Some(found) => Err(Error::new(
            Code::StoragePoolBuilt,
            format!(
                "Format of device '{device}' does not match the expected format '{wanted}', forced overwrite is \
                 necessary: there is '{found}' on it"
            ),
        )),
    }
}

/// What is on a device: a file system, a member of something larger, or a partition table, by blkid's name.
fn find(environment: &Environment, device: &str, job: &Job) -> Result<Option<String>> {
    must_exist(device)?;
    let blkid = environment.host.tool("blkid").map_err(error::tool)?;
    match blkid.args(["-p", "-o", "export", "--", device]).run(job) {
        Ok(output) => Ok(Some(name(&String::from_utf8_lossy(&output)))),
        Err(ToolError::Failed { status, .. }) if status.code() == Some(NOTHING) => Ok(None),
        // More than one thing is recognized.
        Err(ToolError::Failed { status, .. }) if status.code() == Some(8) => Ok(Some("several".to_owned())),
        Err(other) => Err(error::tool(other)),
    }
}

/// Erases what blkid would recognize, wherever on the device it is.
pub(crate) fn erase(environment: &Environment, device: &str, job: &Job) -> Result<()> {
    must_exist(device)?;
    let wipefs = environment.host.tool("wipefs").map_err(error::tool)?;
    wipefs.args(["--all", "--quiet", "--", device]).run(job).map_err(error::tool)?;
    Ok(())
}

fn must_exist(device: &str) -> Result<()> {
    match Path::new(device).try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::new(Code::InvalidArg, format!("device path '{device}' doesn't exist"))),
        Err(e) => Err(Error::system(format!("cannot access device '{device}'"), &e)),
    }
}

fn name(export: &str) -> String {
    let value = |name: &str| export.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value("TYPE").or_else(|| value("PTTYPE")).unwrap_or("unknown data").to_owned()
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn names_of_what_is_recognized() {
        assert_eq!(name(include_str!("../../tests/golden/blkid-ext4")), "ext4");
        assert_eq!(name(include_str!("../../tests/golden/blkid-gpt")), "gpt");
        assert_eq!(name(include_str!("../../tests/golden/blkid-msdos")), "dos");
        assert_eq!(name("nonsense"), "unknown data");
    }
}
