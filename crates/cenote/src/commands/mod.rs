//! The commands, with virsh's names, options and words.

mod event;
mod events;
pub(crate) mod host;
pub(crate) mod job;
pub(crate) mod own;
pub(crate) mod pool;
mod pool_event;
mod pool_xml;
pub(crate) mod secret;
mod secret_event;
mod transfer;
pub(crate) mod volume;

use crate::command::{Arguments, Completion, Opt, Session};
use crate::failure::{Context, Failure};
use crate::xpath::{self, Wrap};
use cenote_model::{Code, Error, PoolKind, PoolRef, Uuid, VolumeRef, units};
use serde_json::json;
use std::path::Path;

/// The longest XML file that is read, in bytes.
const MAX_XML_FILE: u64 = 10 << 20;

const POOL: Opt = Opt::text("pool", "pool name or uuid").required().completes(Completion::Pool);
const FILE: Completion = Completion::File;
const XPATH: Opt = Opt::text("xpath", "xpath expression to filter the XML document").named();
const WRAP: Opt = Opt::flag("wrap", "wrap xpath results in an common root element");
const VALIDATE: Opt = Opt::flag("validate", "validate the XML against the schema");
const POOL_TYPES: Completion = Completion::OneOf(|| PoolKind::ALL.iter().map(|kind| kind.as_str()).collect());

/// The pool that an option names, by UUID or name.
fn pool_option(session: &Session<'_>, arguments: &Arguments, option: &str) -> Result<PoolRef, Failure> {
    let text = arguments.required(option)?;
    find_pool(session, text).context(|| format!("failed to get pool '{text}'"))
}

fn find_pool(session: &Session<'_>, text: &str) -> Result<PoolRef, Error> {
    if text.len() == 36
        && let Some(uuid) = Uuid::parse(text)
        && let Ok(pool) = session.connection.pool_by_uuid(&uuid)
    {
        return Ok(pool);
    }
    session.connection.pool_by_name(text)
}

/// The volume that an option names: by name in the pool that another option names, else by key or path.
fn volume_option(
    session: &Session<'_>,
    arguments: &Arguments,
    option: &str,
    pool_name: &str,
) -> Result<VolumeRef, Failure> {
    let text = arguments.required(option)?;
    let connection = session.connection;
    let pool = match arguments.text(pool_name)? {
        None => None,
        Some(name) => {
            let pool = pool_option(session, arguments, pool_name)?;
            let is_active =
                connection.pool_info(&pool).is_ok_and(|info| info.run == cenote_engine::PoolRun::Active);
            if !is_active {
                return Err(Failure::said(format!("pool '{name}' is not active")));
            }
            Some(pool)
        }
    };
    let found = match pool.as_ref().map(|pool| connection.volume_by_name(pool, text)) {
        Some(Ok(volume)) => Ok(volume),
        // Storage that does not answer is why the volume is not found.
        Some(Err(error)) if error.code != Code::NoStorageVol => Err(error),
        _ => connection.volume_by_key(text).or_else(|_| connection.volume_by_path(text)),
    };
    let volume = found.context(|| match pool {
        Some(_) => format!("failed to get vol '{text}'"),
        None => format!("failed to get vol '{text}', specifying --{pool_name} might help"),
    })?;
    match pool {
        Some(pool) if pool.name != volume.pool => {
            Err(Failure::said(format!("Requested volume '{text}' is not in pool '{}'", pool.name)))
        }
        _ => Ok(volume),
    }
}

/// A size on the command line, with or without a unit.
fn size_option(text: &str) -> Result<u64, Failure> {
    units::parse(text).ok_or_else(|| {
        let failure = Failure::said(format!("Malformed size {text}"));
        // A number with a bad unit says more than what is no number at all.
        let text = text.trim_ascii_start();
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        match digits.parse().map(|number| units::scale(number, unit, u64::MAX)) {
            Ok(Err(cause)) => failure.because(cause),
            _ => failure,
        }
    })
}

/// The text of a file of XML.
fn read_xml_file(path: &str) -> Result<String, Failure> {
    let failed =
        |e: &std::io::Error| Failure::from(Error::system(format!("Failed to open file '{path}'"), e));
    let length = Path::new(path).metadata().map_err(|e| failed(&e))?.len();
    if length > MAX_XML_FILE {
        return Err(Failure::said(format!(
            "File '{path}' is too large: at most {MAX_XML_FILE} bytes are read"
        )));
    }
    let bytes = std::fs::read(path).map_err(|e| failed(&e))?;
    String::from_utf8(bytes).map_err(|_| Failure::said(format!("File '{path}' is no text in UTF-8")))
}

/// Prints a document, or the parts of it that were asked for.
fn print_xml(session: &Session<'_>, arguments: &Arguments, xml: &str) -> Result<(), Failure> {
    let text = match arguments.text("xpath")? {
        None => xml.to_owned(),
        Some(expression) => {
            let wrap = if arguments.flag("wrap") { Wrap::Yes } else { Wrap::No };
            xpath::select(xml, expression, wrap)?
        }
    };
    session.out.result(|| json!({"xml": text}), || text.clone());
    Ok(())
}

/// virsh's order of lists: by name, capitals or not.
fn sort_by_name<T>(items: &mut [T], name: impl Fn(&T) -> String) {
    items.sort_by_cached_key(|item| name(item).to_lowercase());
}

fn pretty(bytes: u64) -> String {
    let (value, unit) = units::pretty(bytes);
    format!("{value:.2} {unit}")
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
