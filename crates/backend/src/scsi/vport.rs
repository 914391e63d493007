//! Virtual Fibre Channel hosts (NPIV), made and removed through the kernel's files of the host that has them.

use super::adapter::{FC_HOSTS, SCSI_HOSTS, attribute, find_fc, has_names, hosts, is_same_wwn, number};
use crate::block::luns;
use crate::waiting;
use cenote_model::source::FcHost;
use cenote_model::{Code, Error, Job, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a new host, and then its first LUN, may take to appear.
const APPEARING: Duration = Duration::from_secs(10);

/// Makes the host that a definition names, unless it is there.
pub(super) fn create(fc: &FcHost, sysfs: &Path, job: &Job) -> Result<()> {
    if let Some(host) = find_fc(fc, sysfs) {
        return check(fc, host, sysfs);
    }
    operate("vport_create", parent(fc, sysfs)?, fc, sysfs)?;
    let host = waiting::until(APPEARING, job, || find_fc(fc, sysfs))?.ok_or_else(|| {
        Error::new(
            Code::Internal,
            format!(
                "the virtual host with wwnn='{}', wwpn='{}' was made but does not appear",
                fc.wwnn, fc.wwpn
            ),
        )
    })?;
    // Its LUNs come one by one; if none comes, there is none.
    waiting::until(APPEARING, job, || luns::has_any(sysfs, host).then_some(())).map(drop)
}

/// Removes the host that a definition names.
pub(super) fn delete(fc: &FcHost, sysfs: &Path) -> Result<()> {
    let Some(host) = find_fc(fc, sysfs) else { return Ok(()) };
    let parent = parent_of(host, sysfs).map_or_else(|| parent(fc, sysfs), Ok)?;
    operate("vport_delete", parent, fc, sysfs)
}

/// Refuses one that is no virtual host, or not that of the parent that the definition names.
fn check(fc: &FcHost, host: u32, sysfs: &Path) -> Result<()> {
    if file("vport_create", host, sysfs).is_some() {
        return Err(Error::new(
            Code::ConfigUnsupported,
            format!("the wwnn/wwpn for 'host{host}' are assigned to an HBA"),
        ));
    }
    let Some(wanted) = &fc.parent else { return Ok(()) };
    match parent_of(host, sysfs) {
        Some(parent) if parent != number(wanted)? => Err(Error::new(
            Code::XmlError,
            format!(
                "Parent attribute '{wanted}' does not match parent 'scsi_host{parent}' determined for the \
                 'host{host}' wwnn/wwpn lookup."
            ),
        )),
        _ => Ok(()),
    }
}

/// The host that shall have the new one: the one that the definition names, or any that can.
fn parent(fc: &FcHost, sysfs: &Path) -> Result<u32> {
    let missing = |what: String| Error::new(Code::ConfigUnsupported, what);
    let can = |host: &u32| file("vport_create", *host, sysfs).is_some();
    if let Some(name) = &fc.parent {
        let host = number(name)?;
        return match sysfs.join(FC_HOSTS).join(format!("host{host}")).exists() {
            true => Ok(host),
            false => Err(missing(format!("parent '{name}' is not an fc_host for the wwnn/wwpn"))),
        };
    }
    let mut candidates = hosts(sysfs, FC_HOSTS).into_iter().filter(can);
    if let Some((node, port)) = &fc.parent_wwn {
        return candidates.find(|host| has_names(sysfs, *host, node, port)).ok_or_else(|| {
            missing(format!("no fc_host with wwnn='{node}', wwpn='{port}' can have virtual ones"))
        });
    }
    if let Some(fabric) = &fc.parent_fabric_wwn {
        let is_on = |host: &u32| {
            attribute(sysfs, FC_HOSTS, *host, "fabric_name").is_some_and(|found| is_same_wwn(&found, fabric))
        };
        return candidates
            .find(is_on)
            .ok_or_else(|| missing(format!("no fc_host of fabric '{fabric}' can have virtual ones")));
    }
    let has_room = |host: &u32| {
        let count = |name: &str| attribute(sysfs, FC_HOSTS, *host, name)?.parse::<u32>().ok();
        let is_online = attribute(sysfs, FC_HOSTS, *host, "port_state").as_deref() == Some("Online");
        is_online && count("npiv_vports_inuse") < count("max_npiv_vports")
    };
    candidates.find(has_room).ok_or_else(|| {
        missing(
            "no fc_host is online and can have another virtual one: 'parent' in the adapter names one"
                .to_owned(),
        )
    })
}

/// The host that a virtual one belongs to, by where the kernel shows it: `hostP/vport-…/hostN`.
fn parent_of(host: u32, sysfs: &Path) -> Option<u32> {
    let path = fs::canonicalize(sysfs.join(FC_HOSTS).join(format!("host{host}"))).ok()?;
    let parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
    let vport = parts.iter().position(|part| part.starts_with("vport-"))?;
    number(parts.get(vport.checked_sub(1)?)?).ok()
}

/// The kernel's file for this, in one of the two places where drivers have it.
fn file(name: &str, host: u32, sysfs: &Path) -> Option<PathBuf> {
    let places = [FC_HOSTS, SCSI_HOSTS].map(|class| sysfs.join(class).join(format!("host{host}/{name}")));
    places.into_iter().find(|path| path.exists())
}

fn operate(operation: &str, parent: u32, fc: &FcHost, sysfs: &Path) -> Result<()> {
    let file = file(operation, parent, sysfs).ok_or_else(|| {
        Error::new(
            Code::OperationInvalid,
            format!("vport operation '{operation}' is not supported for host{parent}"),
        )
    })?;
    let digits = |wwn: &str| wwn.trim_start_matches("0x").to_owned();
    let names = format!("{}:{}", digits(&fc.wwpn), digits(&fc.wwnn));
    fs::write(&file, &names).map_err(|e| {
        Error::system(format!("Write of '{names}' to '{}' during {operation} failed", file.display()), &e)
    })
}
