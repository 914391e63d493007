//! Finding the SCSI host that a definition names.

use cenote_model::source::{Adapter, FcHost, PciAddress};
use cenote_model::{Code, Error, Result};
use std::fs;
use std::path::Path;

/// Hosts of every kind.
pub(super) const SCSI_HOSTS: &str = "class/scsi_host";
/// Those of Fibre Channel.
pub(super) const FC_HOSTS: &str = "class/fc_host";

/// The number of the host that an adapter is now; `None` if there is no such host.
pub(super) fn find(adapter: &Adapter, sysfs: &Path) -> Result<Option<u32>> {
    let found = match adapter {
        Adapter::ScsiHost(name) => Some(number(name)?),
        Adapter::ScsiHostAt { parent, unique_id } => find_at(*parent, *unique_id, sysfs),
        Adapter::FcHost(fc) => find_fc(fc, sysfs),
    };
    Ok(found.filter(|host| sysfs.join(SCSI_HOSTS).join(format!("host{host}")).exists()))
}

/// The same where there has to be one.
pub(super) fn must_find(adapter: &Adapter, sysfs: &Path) -> Result<u32> {
    find(adapter, sysfs)?.ok_or_else(|| {
        let what = match adapter {
            Adapter::ScsiHost(name) => format!("Failed to find SCSI host '{name}'"),
            Adapter::ScsiHostAt { parent, unique_id } => {
                format!(
                    "Failed to find scsi_host using PCI '{}' and unique_id='{unique_id}'",
                    address(*parent)
                )
            }
            Adapter::FcHost(fc) => {
                format!("Failed to find SCSI host with wwnn='{}', wwpn='{}'", fc.wwnn, fc.wwpn)
            }
        };
        Error::new(Code::XmlError, what)
    })
}

/// The number in a host's name, which may be of three forms.
pub(super) fn number(name: &str) -> Result<u32> {
    let digits = ["scsi_host", "fc_host", "host"].iter().find_map(|prefix| name.strip_prefix(prefix));
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| Error::new(Code::Internal, format!("Invalid adapter name '{name}' for SCSI pool")))
}

/// All hosts in one of the two folders, by number.
pub(super) fn hosts(sysfs: &Path, class: &str) -> Vec<u32> {
    let names = fs::read_dir(sysfs.join(class)).into_iter().flatten().flatten();
    let mut hosts: Vec<_> =
        names.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("host")?.parse().ok()).collect();
    hosts.sort_unstable();
    hosts
}

/// What the kernel says of a host in a file of this name.
pub(super) fn attribute(sysfs: &Path, class: &str, host: u32, name: &str) -> Option<String> {
    let text = fs::read_to_string(sysfs.join(class).join(format!("host{host}/{name}"))).ok()?;
    Some(text.trim_end().to_owned())
}

/// The Fibre Channel host with these names.
pub(super) fn find_fc(fc: &FcHost, sysfs: &Path) -> Option<u32> {
    hosts(sysfs, FC_HOSTS).into_iter().find(|host| has_names(sysfs, *host, &fc.wwnn, &fc.wwpn))
}

pub(super) fn has_names(sysfs: &Path, host: u32, node: &str, port: &str) -> bool {
    let is = |name: &str, wanted: &str| {
        attribute(sysfs, FC_HOSTS, host, name).is_some_and(|found| is_same_wwn(&found, wanted))
    };
    is("node_name", node) && is("port_name", port)
}

/// The kernel writes `0x` before world wide names, definitions mostly do not.
pub(super) fn is_same_wwn(one: &str, other: &str) -> bool {
    let digits = |wwn: &str| wwn.trim_start_matches("0x").to_ascii_lowercase();
    digits(one) == digits(other)
}

fn find_at(parent: PciAddress, unique_id: u32, sysfs: &Path) -> Option<u32> {
    let address = address(parent);
    hosts(sysfs, SCSI_HOSTS).into_iter().find(|host| {
        let folder = fs::canonicalize(sysfs.join(SCSI_HOSTS).join(format!("host{host}")));
        let is_below =
            folder.is_ok_and(|path| path.components().any(|part| part.as_os_str() == address.as_str()));
        let id = attribute(sysfs, SCSI_HOSTS, *host, "unique_id").and_then(|id| id.parse().ok());
        is_below && id == Some(unique_id)
    })
}

fn address(parent: PciAddress) -> String {
    format!("{:04x}:{:02x}:{:02x}.{:x}", parent.domain, parent.bus, parent.slot, parent.function)
}
