//! `<source>` of a pool: where its storage comes from.

use crate::auth::Auth;
use crate::format::{NetFileSystem, SourceFormat};
use crate::units;
use crate::xml::{Document, Element, Writer};
use crate::{Code, Error, PoolKind, Result, named_enum};

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name or address.
    pub name: String,
    /// Its port, where it is not the protocol's own.
    pub port: Option<u16>,
}

/// A free range on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeExtent {
    /// The first byte.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its path, or an iSCSI target's name.
    pub path: String,
    /// Whether a `p` stands between the device's name and a partition's number.
    pub part_separator: Option<bool>,
    /// What is free on it; known while the pool is active.
    pub free_extents: Vec<FreeExtent>,
}

/// The PCI address of a SCSI host's parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PciAddress {
    /// Domain.
    pub domain: u32,
    /// Bus.
    pub bus: u32,
    /// Slot.
    pub slot: u32,
    /// Function.
    pub function: u32,
}

/// Which SCSI host a `scsi` pool shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adapter {
    /// By its name, such as `scsi_host2` or `host2`.
    ScsiHost(String),
    /// By its parent's PCI address, and its number there.
    ScsiHostAt {
        /// The parent.
        parent: PciAddress,
        /// `unique_id` of the host.
        unique_id: u32,
    },
    /// A Fibre Channel host.
    FcHost(FcHost),
}

/// A Fibre Channel host, physical or virtual.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FcHost {
    /// The parent's name.
    pub parent: Option<String>,
    /// The parent's node and port names.
    pub parent_wwn: Option<(String, String)>,
    /// The fabric's name.
    pub parent_fabric_wwn: Option<String>,
    /// Whether the virtual host is deleted when the pool stops.
    pub managed: Option<bool>,
    /// The world wide node name.
    pub wwnn: String,
    /// The world wide port name.
    pub wwpn: String,
}

/// Where a pool's storage comes from. Which parts are used depends on the pool's type
/// ([`PoolKind::source_parts`]); the others are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// Servers.
    pub hosts: Vec<Host>,
    /// Devices.
    pub devices: Vec<Device>,
    /// A directory, on the server where there is one.
    pub dir: Option<String>,
    /// A SCSI host.
    pub adapter: Option<Adapter>,
    /// The name of a volume group, pool, volume or cluster.
    pub name: Option<String>,
    /// The name by which this machine logs in.
    pub initiator: Option<String>,
    /// What the storage is made of.
    pub format: Option<SourceFormat>,
    /// Authentication.
    pub auth: Option<Auth>,
    /// The version of NFS to use.
    pub protocol_ver: Option<String>,
    /// The maker of the device.
    pub vendor: Option<String>,
    /// The device's product name.
    pub product: Option<String>,
}

impl Source {
    /// An empty source of this type.
    pub fn of(kind: PoolKind) -> Source {
        Source { format: kind.default_source_format(), ..Source::default() }
    }

    /// Reads a `<source>` document, the question that `find-storage-pool-sources` takes.
    pub fn from_xml(text: &str, kind: PoolKind) -> Result<Source> {
        let document = Document::lax(text)?;
        Source::read(&document.root("source")?, kind)
    }

    pub(crate) fn read(element: &Element<'_, '_>, kind: PoolKind) -> Result<Source> {
        let parts = kind.source_parts();
        let mut source = Source::of(kind);
        if parts.name {
            source.name = element.child_text("name");
        }
        if source.format.is_some()
            && let Some(name) = element.child("format").and_then(|format| format.attr_non_empty("type"))
        {
            source.format = Some(kind.source_format(name).ok_or_else(|| {
                Error::new(Code::ConfigUnsupported, format!("unknown pool format type {name}"))
            })?);
        }
        if parts.host {
            source.hosts = element.children("host").map(|host| Host::read(&host)).collect::<Result<_>>()?;
        }
        if parts.initiator {
            source.initiator = element
                .child("initiator")
                .and_then(|initiator| initiator.child("iqn"))
                .and_then(|iqn| iqn.attr_non_empty("name"))
                .map(str::to_owned);
        }
        if parts.device {
            source.devices =
                element.children("device").map(|device| Device::read(&device)).collect::<Result<_>>()?;
        }
        if parts.dir {
            source.dir = element
                .child("dir")
                .and_then(|dir| dir.attr_non_empty("path"))
                .map(crate::pool::sanitize_path);
            // libvirt's default for gluster.
            if source.dir.is_none() && kind == PoolKind::Gluster {
                source.dir = Some("/".to_owned());
            }
        }
        if parts.adapter
            && let Some(adapter) = element.child("adapter")
        {
            source.adapter = Adapter::read(&adapter)?;
        }
        if parts.auth
            && let Some(auth) = element.child("auth")
        {
            source.auth = Some(Auth::read(&auth)?);
        }
        if parts.protocol {
            source.protocol_ver = protocol_ver(element, source.format)?;
        }
        source.vendor = element.child("vendor").and_then(|e| e.attr_non_empty("name")).map(str::to_owned);
        source.product = element.child("product").and_then(|e| e.attr_non_empty("name")).map(str::to_owned);
        Ok(source)
    }

    /// Writes `<source>`.
    pub fn write(&self, w: &mut Writer, kind: PoolKind) {
        let parts = kind.source_parts();
        w.element("source").children(|w| {
            for host in &self.hosts {
                w.element("host").attr("name", &host.name).attr_opt("port", host.port).empty();
            }
            for device in &self.devices {
                device.write(w);
            }
            if let Some(dir) = self.dir.as_ref().filter(|_| parts.dir) {
                w.element("dir").attr("path", dir).empty();
            }
            if let Some(adapter) = &self.adapter {
                adapter.write(w);
            }
            if parts.name {
                w.text_opt("name", self.name.as_deref());
            }
            if let Some(iqn) = &self.initiator {
                w.element("initiator").children(|w| w.element("iqn").attr("name", iqn).empty());
            }
            if let Some(format) = self.format {
                w.element("format").attr("type", format.as_str()).empty();
            }
            if let Some(auth) = &self.auth {
                auth.write(w);
            }
            if let Some(ver) = &self.protocol_ver {
                w.element("protocol").attr("ver", ver).empty();
            }
            if let Some(vendor) = &self.vendor {
                w.element("vendor").attr("name", vendor).empty();
            }
            if let Some(product) = &self.product {
                w.element("product").attr("name", product).empty();
            }
        });
    }
}

/// Writes the `<sources>` document that `find-storage-pool-sources` answers.
pub fn sources_to_xml(kind: PoolKind, sources: &[Source]) -> String {
    let mut w = Writer::new();
    w.element("sources").children(|w| {
        for source in sources {
            source.write(w, kind);
        }
    });
    w.finish()
}

/// Reads a `<sources>` document.
pub fn sources_from_xml(text: &str, kind: PoolKind) -> Result<Vec<Source>> {
    let document = Document::lax(text)?;
    document.root("sources")?.children("source").map(|source| Source::read(&source, kind)).collect()
}

fn protocol_ver(element: &Element<'_, '_>, format: Option<SourceFormat>) -> Result<Option<String>> {
    let Some(ver) = element.child("protocol").and_then(|e| e.attr_non_empty("ver")) else { return Ok(None) };
    if let Some(SourceFormat::NetFileSystem(fs)) = format
        && !matches!(fs, NetFileSystem::Nfs | NetFileSystem::Auto)
    {
        return Err(Error::new(
            Code::ConfigUnsupported,
            format!("storage pool protocol ver unsupported for pool type '{fs}'"),
        ));
    }
    if ver.contains(',') {
        return Err(Error::new(
            Code::XmlDetail,
            format!("storage pool protocol ver '{ver}' must not contain ','"),
        ));
    }
    Ok(Some(ver.to_owned()))
}

impl Host {
    fn read(element: &Element<'_, '_>) -> Result<Host> {
        let name = element
            .attr("name")
            .ok_or_else(|| Error::new(Code::XmlError, "missing storage pool host name"))?
            .to_owned();
        let port = match element.attr("port") {
            None => None,
            Some(text) => {
                let port = text.trim_ascii_start().parse::<u16>().map_err(|_| {
                    element.bad_attr("port", text, " Expected integer value between 0 and 65535")
                })?;
                (port != 0).then_some(port)
            }
        };
        Ok(Host { name, port })
    }
}

impl Device {
    fn read(element: &Element<'_, '_>) -> Result<Device> {
        let path = element
            .attr("path")
            .ok_or_else(|| Error::new(Code::XmlError, "missing storage pool source device path"))?
            .to_owned();
        let part_separator = element.attr_yes_no("part_separator")?;
        let mut free_extents = Vec::new();
        for extent in element.children("freeExtent") {
            let number = |name| extent.attr(name).and_then(|text| text.parse().ok());
            // They are the pool's report and not part of its definition: what cannot be read is passed over.
            if let (Some(start), Some(end)) = (number("start"), number("end")) {
                free_extents.push(FreeExtent { start, end });
            }
        }
        Ok(Device { path, part_separator, free_extents })
    }

    fn write(&self, w: &mut Writer) {
        w.element("device")
            .attr("path", &self.path)
            .attr_opt("part_separator", self.part_separator.map(yes_no))
            .children_or_empty(|w| {
                for extent in &self.free_extents {
                    w.element("freeExtent").attr("start", extent.start).attr("end", extent.end).empty();
                }
            });
    }
}

pub(crate) fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

named_enum! {
    enum AdapterKind {
        ScsiHost = "scsi_host",
        FcHost = "fc_host",
    }
}

impl Adapter {
    fn read(element: &Element<'_, '_>) -> Result<Option<Adapter>> {
        match element.attr_enum("type", AdapterKind::from_name)? {
            None => Adapter::read_untyped(element),
            Some(AdapterKind::ScsiHost) => Adapter::read_scsi_host(element).map(Some),
            Some(AdapterKind::FcHost) => FcHost::read(element).map(|host| Some(Adapter::FcHost(host))),
        }
    }

    /// The old form, without a type: a name alone.
    fn read_untyped(element: &Element<'_, '_>) -> Result<Option<Adapter>> {
        if ["wwnn", "wwpn", "parent"].iter().any(|name| element.attr(name).is_some()) {
            return Err(Error::new(
                Code::XmlError,
                "Use of 'wwnn', 'wwpn', and 'parent' attributes requires use of the adapter 'type'",
            ));
        }
        if element.child("parentaddr").is_some() {
            return Err(Error::new(
                Code::XmlError,
                "Use of 'parentaddr' element requires use of the adapter 'type'",
            ));
        }
        Ok(element.attr("name").map(|name| Adapter::ScsiHost(name.to_owned())))
    }

    fn read_scsi_host(element: &Element<'_, '_>) -> Result<Adapter> {
        let parent = match element.child("parentaddr") {
            None => None,
            Some(parentaddr) => {
                let address = parentaddr
                    .child("address")
                    .ok_or_else(|| Error::new(Code::XmlError, "Missing scsi_host PCI address element"))?;
                let unique_id = parentaddr
                    .attr("unique_id")
                    .and_then(|text| text.parse::<u32>().ok())
                    .filter(|id| i32::try_from(*id).is_ok())
                    .ok_or_else(|| {
                        Error::new(Code::XmlError, "Missing or invalid scsi adapter 'unique_id' value")
                    })?;
                Some((PciAddress::read(&address)?, unique_id))
            }
        };
        match (element.attr("name"), parent) {
            (Some(name), None) => Ok(Adapter::ScsiHost(name.to_owned())),
            (None, Some((parent, unique_id))) => Ok(Adapter::ScsiHostAt { parent, unique_id }),
            (None, None) => Err(Error::new(
                Code::XmlError,
                "Either 'name' or 'parent' must be specified for the 'scsi_host' adapter",
            )),
            (Some(_), Some(_)) => Err(Error::new(
                Code::XmlError,
                "Both 'name' and 'parent' cannot be specified for the 'scsi_host' adapter",
            )),
        }
    }

    fn write(&self, w: &mut Writer) {
        match self {
            Adapter::ScsiHost(name) => {
                w.element("adapter").attr("type", AdapterKind::ScsiHost).attr("name", name).empty();
            }
            Adapter::ScsiHostAt { parent, unique_id } => {
                w.element("adapter").attr("type", AdapterKind::ScsiHost).children(|w| {
                    w.element("parentaddr").attr("unique_id", unique_id).children(|w| parent.write(w));
                });
            }
            Adapter::FcHost(host) => host.write(w),
        }
    }
}

impl PciAddress {
    fn read(element: &Element<'_, '_>) -> Result<PciAddress> {
        let number = |name: &str, max: u32| -> Result<u32> {
            let Some(text) = element.attr(name) else { return Ok(0) };
            let value = match text.strip_prefix("0x") {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => text.parse(),
            };
            value.ok().filter(|value| *value <= max).ok_or_else(|| {
                element.bad_attr(name, text, &format!(" Expected integer value between 0 and {max}"))
            })
        };
        Ok(PciAddress {
            domain: number("domain", 0xffff)?,
            bus: number("bus", 0xff)?,
            slot: number("slot", 0x1f)?,
            function: number("function", 7)?,
        })
    }

    fn write(&self, w: &mut Writer) {
        w.element("address")
            .attr("domain", format_args!("0x{:04x}", self.domain))
            .attr("bus", format_args!("0x{:02x}", self.bus))
            .attr("slot", format_args!("0x{:02x}", self.slot))
            .attr("function", format_args!("0x{}", self.function))
            .empty();
    }
}

impl FcHost {
    fn read(element: &Element<'_, '_>) -> Result<FcHost> {
        let managed = element.attr_yes_no("managed")?;
        let own = |name: &str| element.attr(name).map(str::to_owned);
        let (Some(wwnn), Some(wwpn)) = (own("wwnn"), own("wwpn")) else {
            return Err(Error::new(
                Code::XmlError,
                "'wwnn' and 'wwpn' must be specified for adapter type 'fchost'",
            ));
        };
        let parent_wwn = match (own("parent_wwnn"), own("parent_wwpn")) {
            (None, None) => None,
            (Some(node), Some(port)) => Some((node, port)),
            (Some(node), None) => {
                return Err(Error::new(
                    Code::XmlError,
                    format!("when providing parent_wwnn='{node}', the parent_wwpn must also be provided"),
                ));
            }
            (None, Some(port)) => {
                return Err(Error::new(
                    Code::XmlError,
                    format!("when providing parent_wwpn='{port}', the parent_wwnn must also be provided"),
                ));
            }
        };
        let parent_fabric_wwn = own("parent_fabric_wwn");
        let parents = parent_wwn.iter().flat_map(|(node, port)| [node, port]);
        for wwn in [&wwnn, &wwpn].into_iter().chain(parents).chain(&parent_fabric_wwn) {
            let digits = wwn.strip_prefix("0x").unwrap_or(wwn);
            if digits.len() != 16 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
                return Err(Error::new(Code::Internal, format!("Malformed wwn: {wwn}")));
            }
        }
        Ok(FcHost { parent: own("parent"), parent_wwn, parent_fabric_wwn, managed, wwnn, wwpn })
    }

    fn write(&self, w: &mut Writer) {
        let (node, port) = self.parent_wwn.as_ref().map(|(node, port)| (node, port)).unzip();
        w.element("adapter")
            .attr("type", AdapterKind::FcHost)
            .attr_opt("parent", self.parent.as_deref())
            .attr_opt("parent_wwnn", node)
            .attr_opt("parent_wwpn", port)
            .attr_opt("parent_fabric_wwn", self.parent_fabric_wwn.as_deref())
            .attr_opt("managed", self.managed.map(yes_no))
            .attr("wwnn", &self.wwnn)
            .attr("wwpn", &self.wwpn)
            .empty();
    }
}

/// The size in a `<capacity>` or `<allocation>`, with its unit.
pub(crate) fn read_size(element: &Element<'_, '_>) -> Result<u64> {
    let unit = element.attr_non_empty("unit").unwrap_or("");
    let number = element
        .text()
        .trim_ascii_start()
        .parse()
        .map_err(|_| Error::new(Code::XmlError, "malformed capacity element"))?;
    units::scale(number, unit, units::MAX_CAPACITY)
}
