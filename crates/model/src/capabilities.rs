//! What this machine's storage can do, after libvirt's `formatstoragecaps`.

use crate::PoolKind;
use crate::xml::Writer;

/// The `<storagepoolCapabilities>` document: every type, with its formats, and whether it works here.
pub fn to_xml(is_supported: impl Fn(PoolKind) -> bool) -> String {
    let mut w = Writer::new();
    w.element("storagepoolCapabilities").children(|w| {
        for &kind in PoolKind::ALL {
            let supported = if is_supported(kind) { "yes" } else { "no" };
            w.element("pool").attr("type", kind).attr("supported", supported).children(|w| {
                if let Some(default) = kind.default_source_format() {
                    let names = kind.source_format_names();
                    write_options(w, "poolOptions", default.as_str(), "sourceFormatType", &names);
                }
                if let Some(default) = kind.default_volume_format() {
                    let names = kind.volume_format_names();
                    write_options(w, "volOptions", default.as_str(), "targetFormatType", &names);
                }
            });
        }
    });
    w.finish()
}

/// The `<capabilities>` document of a host that has storage only: the types that work here, in libvirt's layout.
pub fn host_to_xml(is_supported: impl Fn(PoolKind) -> bool) -> String {
    let mut w = Writer::new();
    w.element("pool").children(|w| {
        w.element("enum").attr("name", "type").children(|w| {
            PoolKind::ALL.iter().filter(|kind| is_supported(**kind)).for_each(|kind| w.text("value", kind));
        });
    });
    let pool: String = w.finish().lines().map(|line| format!("  {line}\n")).collect();
    format!("<capabilities>\n\n{pool}\n</capabilities>\n")
}

fn write_options(w: &mut Writer, element: &str, default: &str, list: &str, names: &[&str]) {
    w.element(element).children(|w| {
        w.element("defaultFormat").attr("type", default).empty();
        w.element("enum").attr("name", list).children(|w| {
            for name in names {
                w.text("value", name);
            }
        });
    });
}
