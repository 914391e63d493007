//! `pool-create-as` and `pool-define-as`: a definition from options.

use super::POOL_TYPES;
use crate::command::{Arguments, Opt, OptKind};
use crate::failure::Failure;
use cenote_model::xml::Writer;

/// The options of both commands.
pub(super) const OPTIONS: [Opt; 22] = [
    Opt::text("name", "name of the pool").required(),
    Opt::text("type", "type of the pool").required().completes(POOL_TYPES),
    Opt::flag("print-xml", "print XML document, but don't define/create"),
    Opt::text("source-host", "source-host for underlying storage"),
    Opt::text("source-path", "source path for underlying storage"),
    Opt::text("source-dev", "source device for underlying storage"),
    Opt::text("source-name", "source name for underlying storage"),
    Opt::text("target", "target for underlying storage").completes(super::FILE),
    Opt::text("source-format", "format for underlying storage"),
    Opt::text("auth-type", "auth type to be used for underlying storage"),
    Opt::text("auth-username", "auth username to be used for underlying storage"),
    Opt::text("secret-usage", "auth secret usage to be used for underlying storage"),
    Opt::text("secret-uuid", "auth secret UUID to be used for underlying storage"),
    Opt::text("adapter-name", "adapter name to be used for underlying storage"),
    Opt::text("adapter-wwnn", "adapter wwnn to be used for underlying storage"),
    Opt::text("adapter-wwpn", "adapter wwpn to be used for underlying storage"),
    Opt::text("adapter-parent", "adapter parent scsi_hostN to be used for underlying vHBA storage"),
    Opt::text("adapter-parent-wwnn", "adapter parent scsi_hostN wwnn to be used for underlying vHBA storage"),
    Opt::text("adapter-parent-wwpn", "adapter parent scsi_hostN wwpn to be used for underlying vHBA storage"),
    Opt::text(
        "adapter-parent-fabric-wwn",
        "adapter parent scsi_hostN fabric_wwn to be used for underlying vHBA storage",
    ),
    Opt::text("source-protocol-ver", "nfsvers value for NFS pool mount option"),
    Opt::text("source-initiator", "initiator iqn for underlying storage"),
];

/// The definition that the options describe.
pub(super) fn build(arguments: &Arguments) -> Result<String, Failure> {
    arguments.exclusive("secret-usage", "secret-uuid")?;
    // An empty value is refused, whether it would be used or not.
    for option in OPTIONS.iter().filter(|option| option.kind == OptKind::Text) {
        arguments.text(option.name)?;
    }
    let get = |name: &str| arguments.values.get(name).map(String::as_str);
    let (wwnn, wwpn) = (get("adapter-wwnn"), get("adapter-wwpn"));
    let has_source = [
        "source-host",
        "source-path",
        "source-dev",
        "source-initiator",
        "source-format",
        "source-name",
        "adapter-name",
    ]
    .iter()
    .any(|name| get(name).is_some())
        || wwnn.zip(wwpn).is_some();

    let mut w = Writer::new();
    w.element("pool").attr("type", get("type").unwrap_or_default()).children(|w| {
        w.text("name", get("name").unwrap_or_default());
        if has_source {
            w.element("source").children(|w| write_source(w, &get));
        }
        if let Some(target) = get("target") {
            w.element("target").children(|w| w.text("path", target));
        }
    });
    Ok(w.finish())
}

fn write_source<'a>(w: &mut Writer, get: &impl Fn(&str) -> Option<&'a str>) {
    for (element, attribute, option) in
        [("host", "name", "source-host"), ("dir", "path", "source-path"), ("device", "path", "source-dev")]
    {
        if let Some(value) = get(option) {
            w.element(element).attr(attribute, value).empty();
        }
    }
    if let Some(iqn) = get("source-initiator") {
        w.element("initiator").children(|w| w.element("iqn").attr("name", iqn).empty());
    }
    write_adapter(w, get);
    let secret =
        get("secret-usage").map(|usage| ("usage", usage)).or(get("secret-uuid").map(|uuid| ("uuid", uuid)));
    if let (Some(kind), Some(username), Some((attribute, value))) =
        (get("auth-type"), get("auth-username"), secret)
    {
        w.element("auth")
            .attr("type", kind)
            .attr("username", username)
            .children(|w| w.element("secret").attr(attribute, value).empty());
    }
    if let Some(format) = get("source-format") {
        w.element("format").attr("type", format).empty();
    }
    w.text_opt("name", get("source-name"));
    if let Some(ver) = get("source-protocol-ver") {
        w.element("protocol").attr("ver", ver).empty();
    }
}

fn write_adapter<'a>(w: &mut Writer, get: &impl Fn(&str) -> Option<&'a str>) {
    if let (Some(wwnn), Some(wwpn)) = (get("adapter-wwnn"), get("adapter-wwpn")) {
        let parent = get("adapter-parent");
        let parent_wwn =
            get("adapter-parent-wwnn").zip(get("adapter-parent-wwpn")).filter(|_| parent.is_none());
        let fabric = get("adapter-parent-fabric-wwn").filter(|_| parent.is_none() && parent_wwn.is_none());
        w.element("adapter")
            .attr("type", "fc_host")
            .attr_opt("parent", parent)
            .attr_opt("parent_wwnn", parent_wwn.map(|(node, _)| node))
            .attr_opt("parent_wwpn", parent_wwn.map(|(_, port)| port))
            .attr_opt("parent_fabric_wwn", fabric)
            .attr("wwnn", wwnn)
            .attr("wwpn", wwpn)
            .empty();
    } else if let Some(name) = get("adapter-name") {
        w.element("adapter").attr("type", "scsi_host").attr("name", name).empty();
    }
}
