//! `doctor`: what on this machine stands in the way of storage, and what to type against it.

mod clashes;
mod files;
mod tools;

use crate::args::Options;
use crate::command::Arguments;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use cenote_engine::Layout;
use cenote_host::Host;
use serde_json::json;
use std::path::Path;

/// Something that stands in the way.
pub(crate) struct Finding {
    pub(crate) weight: Weight,
    /// What is found.
    pub(crate) what: String,
    /// What to type.
    pub(crate) remedy: String,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// Nothing works, or something is open to others that must not be.
    Error,
    /// Something does not work.
    Warning,
    /// Something that may never be wanted does not work.
    Hint,
}

impl Weight {
    fn as_str(self) -> &'static str {
        match self {
            Weight::Error => "error",
            Weight::Warning => "warning",
            Weight::Hint => "hint",
        }
    }
}

impl Finding {
    fn new(weight: Weight, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { weight, what: what.into(), remedy: remedy.into() }
    }
}

/// A word as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_".contains(c);
    match text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Whose storage is looked at.
struct Place {
    layout: Layout,
    /// A daemon serves it, so that libvirt's daemons are in its way.
    is_served: bool,
}

fn place(options: &Options) -> Result<Place, Failure> {
    Ok(match &options.prefix {
        Some(prefix) => {
            let prefix = std::path::absolute(prefix)
                .map_err(|e| Failure::said(format!("cannot find '{}': {e}", prefix.display())))?;
            Place { layout: Layout::under(&prefix), is_served: false }
        }
        None if rustix::process::geteuid().is_root() => Place { layout: Layout::system(), is_served: true },
        None => Place { layout: Layout::embedded()?, is_served: false },
    })
}

/// Looks at everything. It is a failure if something is an error.
pub(crate) fn run(options: &Options, out: &Output, _arguments: &Arguments) -> Outcome {
    let (place, host) = (place(options)?, Host::new());
    let types = tools::types(&host, &place.layout);
    let mut findings = tools::findings(&types);
    findings.extend(files::findings(&place.layout, &host));
    findings.extend(clashes::findings(&place.layout, place.is_served));
    findings.sort_by_key(|finding| finding.weight);
    out.result(
        || {
            json!({
                "types": types.iter().map(tools::Type::to_json).collect::<Vec<_>>(),
                "findings": findings
                    .iter()
                    .map(|f| json!({"weight": f.weight.as_str(), "what": f.what, "remedy": f.remedy}))
                    .collect::<Vec<_>>(),
            })
        },
        || {
            let mut text = tools::table(&types);
            text.push('\n');
            for finding in &findings {
                text += &format!("{}: {}\n    {}\n", finding.weight.as_str(), finding.what, finding.remedy);
            }
            if findings.is_empty() {
                text += "Nothing stands in the way.\n";
            }
            text
        },
    );
    match findings.iter().any(|finding| finding.weight == Weight::Error) {
        true => Err(Failure::silent()),
        false => Ok(()),
    }
}
