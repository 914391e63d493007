//! Commands about volumes.

use super::transfer::{receive, send};
use super::{
    FILE, POOL, VALIDATE, WRAP, XPATH, pool_option, pretty, print_xml, read_xml_file, size_option,
    sort_by_name, volume_option,
};
use crate::command::{Arguments, Command, Completion, Opt, Run, Session};
use crate::failure::{Context, Failure, Outcome};
use crate::xpath::{self, Wrap};
use cenote_engine::VolumeInfo;
use cenote_model::flags::{CreateOptions, DeleteOptions, Holes, ResizeOptions, Validate, WipeAlgorithm};
use cenote_model::xml::Writer;
use cenote_model::{PoolRef, VolumeRef};
use serde_json::{Value, json};
use std::fs::File;

const POOL_NAME: Opt = Opt::text("pool", "pool name").required().completes(Completion::Pool);
const POOL_OPTIONAL: Opt = Opt::text("pool", "pool name or uuid").positional().completes(Completion::Pool);
const VOL: Opt = vol("vol name, key or path");
const VOL_KEY: Opt = vol("volume key or path");
const VOL_FILE: Opt = Opt::text("file", "file containing an XML vol description").required().completes(FILE);
const PREALLOC: Opt =
    Opt::flag("prealloc-metadata", "preallocate metadata (for qcow2 instead of full allocation)");
const REFLINK: Opt = Opt::flag("reflink", "use btrfs COW lightweight copy");
const SPARSE: Opt = Opt::flag("sparse", "preserve sparseness of volume");
const ALGORITHMS: Completion =
    Completion::OneOf(|| WipeAlgorithm::ALL.iter().map(|algorithm| algorithm.as_str()).collect());

const fn vol(help: &'static str) -> Opt {
    Opt::text("vol", help).required().completes(Completion::Volume)
}

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "vol-clone",
        help: "clone a volume.",
        about: "Clone an existing volume within the parent pool.",
        options: &[
            VOL,
            Opt::text("newname", "clone name").required(),
            POOL_OPTIONAL,
            PREALLOC,
            REFLINK,
            Opt::flag("print-xml", "print XML document rather than clone the volume"),
        ],
        run: Run::Write(clone),
    },
    Command {
        name: "vol-create-as",
        help: "create a volume from a set of args",
        about: "Create a vol.",
        options: &[
            POOL_NAME,
            Opt::text("name", "name of the volume").required(),
            Opt::text("capacity", "size of the vol, as scaled integer (default bytes)").required(),
            Opt::text("allocation", "initial allocation size, as scaled integer (default bytes)"),
            Opt::text("format", "file format type raw,bochs,qcow,qcow2,qed,vmdk"),
            Opt::text("backing-vol", "the backing volume if taking a snapshot").completes(Completion::Volume),
            Opt::text("backing-vol-format", "format of backing volume if taking a snapshot"),
            PREALLOC,
            Opt::flag("print-xml", "print XML document, but don't define/create"),
        ],
        run: Run::Write(create_as),
    },
    Command {
        name: "vol-create",
        help: "create a vol from an XML file",
        about: "Create a vol.",
        options: &[POOL_NAME, VOL_FILE, PREALLOC, VALIDATE],
        run: Run::Write(create),
    },
    Command {
        name: "vol-create-from",
        help: "create a vol, using another volume as input",
        about: "Create a vol from an existing volume.",
        options: &[
            POOL,
            VOL_FILE,
            VOL,
            Opt::text("inputpool", "pool name or uuid of the input volume's pool")
                .completes(Completion::Pool),
            PREALLOC,
            REFLINK,
            VALIDATE,
        ],
        run: Run::Write(create_from),
    },
    Command {
        name: "vol-delete",
        help: "delete a vol",
        about: "Delete a given vol.",
        options: &[
            VOL,
            POOL_OPTIONAL,
            Opt::flag(
                "delete-snapshots",
                "delete snapshots associated with volume (must be supported by storage driver)",
            ),
        ],
        run: Run::Write(delete),
    },
    Command {
        name: "vol-download",
        help: "download volume contents to a file",
        about: "Download volume contents to a file",
        options: &[
            VOL,
            Opt::text("file", "file").required().completes(FILE),
            POOL_OPTIONAL,
            Opt::number("offset", "volume offset to download from"),
            Opt::number("length", "amount of data to download"),
            SPARSE,
        ],
        run: Run::Read(download),
    },
    Command {
        name: "vol-dumpxml",
        help: "vol information in XML",
        about: "Output the vol information as an XML dump to stdout.",
        options: &[VOL, POOL_OPTIONAL, XPATH, WRAP],
        run: Run::Read(dumpxml),
    },
    Command {
        name: "vol-info",
        help: "storage vol information",
        about: "Returns basic information about the storage vol.",
        options: &[
            VOL,
            POOL_OPTIONAL,
            Opt::flag("bytes", "sizes are represented in bytes rather than pretty units"),
            Opt::flag("physical", "return the physical size of the volume in allocation field"),
        ],
        run: Run::Read(info),
    },
    Command {
        name: "vol-key",
        help: "returns the volume key for a given volume name or path",
        about: "",
        options: &[vol("volume name or path"), POOL_OPTIONAL],
        run: Run::Read(key),
    },
    Command {
        name: "vol-list",
        help: "list vols",
        about: "Returns list of vols by pool.",
        options: &[POOL, Opt::flag("details", "display extended details for volumes")],
        run: Run::Read(list),
    },
    Command {
        name: "vol-name",
        help: "returns the volume name for a given volume key or path",
        about: "",
        options: &[VOL_KEY],
        run: Run::Read(name),
    },
    Command {
        name: "vol-path",
        help: "returns the volume path for a given volume name or key",
        about: "",
        options: &[vol("volume name or key"), POOL_OPTIONAL],
        run: Run::Read(path),
    },
    Command {
        name: "vol-pool",
        help: "returns the storage pool for a given volume key or path",
        about: "",
        options: &[VOL_KEY, Opt::flag("uuid", "return the pool uuid rather than pool name")],
        run: Run::Read(pool),
    },
    Command {
        name: "vol-resize",
        help: "resize a vol",
        about: "Resizes a storage volume. This is safe only for storage volumes not in use by an active guest.\n\
                See blockresize for live resizing.",
        options: &[
            VOL,
            Opt::text("capacity", "new capacity for the vol, as scaled integer (default bytes)").required(),
            POOL_OPTIONAL,
            Opt::flag("allocate", "allocate the new capacity, rather than leaving it sparse"),
            Opt::flag("delta", "use capacity as a delta to current size, rather than the new size"),
            Opt::flag("shrink", "allow the resize to shrink the volume"),
        ],
        run: Run::Write(resize),
    },
    Command {
        name: "vol-upload",
        help: "upload file contents to a volume",
        about: "Upload file contents to a volume",
        options: &[
            VOL,
            Opt::text("file", "file").required().completes(FILE),
            POOL_OPTIONAL,
            Opt::number("offset", "volume offset to upload to"),
            Opt::number("length", "amount of data to upload"),
            SPARSE,
        ],
        run: Run::Write(upload),
    },
    Command {
        name: "vol-wipe",
        help: "wipe a vol",
        about: "Ensure data previously on a volume is not accessible to future reads",
        options: &[
            VOL,
            POOL_OPTIONAL,
            Opt::text("algorithm", "perform selected wiping algorithm").completes(ALGORITHMS),
        ],
        run: Run::Write(wipe),
    },
];

fn create_options(arguments: &Arguments) -> CreateOptions {
    CreateOptions {
        prealloc_metadata: arguments.flag("prealloc-metadata"),
        reflink: arguments.flag("reflink"),
        validate: if arguments.flag("validate") { Validate::Strict } else { Validate::Lax },
    }
}

fn clone(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let original = volume_option(session, arguments, "vol", "pool")?;
    let pool =
        session.connection.pool_of_volume(&original).context(|| "failed to get parent pool".to_owned())?;
    let xml = with_name(&session.connection.volume_xml(&original)?, arguments.required("newname")?);
    if arguments.flag("print-xml") {
        let shown = xpath::select(&xml, "/volume", Wrap::No)?;
        session.out.result(|| json!({"xml": shown}), || shown.trim_end().to_owned());
        return Ok(());
    }
    let options = create_options(arguments);
    let cloned = session.connection.create_volume_from(&pool, &xml, &original, options);
    let volume = cloned.context(|| format!("Failed to clone vol from {}", original.name))?;
    session
        .out
        .done(format_args!("Vol {} cloned from {}", volume.name, original.name), did(&volume, "cloned"));
    Ok(())
}

/// The document with another name in it, which is the first element.
fn with_name(xml: &str, name: &str) -> String {
    let mut w = Writer::new();
    w.text("name", name);
    let element = w.finish();
    match (xml.find("<name>"), xml.find("</name>")) {
        (Some(start), Some(end)) => {
            format!("{}{}{}", &xml[..start], element.trim_end(), &xml[end + "</name>".len()..])
        }
        _ => xml.to_owned(),
    }
}

fn create_as(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let pool = pool_option(session, arguments, "pool")?;
    let name = arguments.required("name")?;
    let capacity = size_option(arguments.required("capacity")?)?;
    let allocation = arguments.text("allocation")?.map(size_option).transpose()?;
    let format = arguments.text("format")?;
    let backing_format = arguments.text("backing-vol-format")?;
    let backing = match arguments.text("backing-vol")? {
        None => None,
        Some(text) => Some(backing_path(session, &pool, text)?),
    };
    let mut w = Writer::new();
    w.element("volume").children(|w| {
        w.text("name", name);
        w.text("capacity", capacity);
        w.text_opt("allocation", allocation);
        if let Some(format) = format {
            w.element("target").children(|w| w.element("format").attr("type", format).empty());
        }
        if let Some(path) = &backing {
            w.element("backingStore").children(|w| {
                w.text("path", path);
                if let Some(format) = backing_format {
                    w.element("format").attr("type", format).empty();
                }
            });
        }
    });
    let xml = w.finish();
    if arguments.flag("print-xml") {
        session.out.result(|| json!({"xml": xml}), || xml.clone());
        return Ok(());
    }
    let created = session.connection.create_volume(&pool, &xml, create_options(arguments));
    let volume = created.context(|| format!("Failed to create vol {name}"))?;
    session.out.done(format_args!("Vol {name} created"), did(&volume, "created"));
    Ok(())
}

/// The path of a backing volume, given by its name in the pool, its key or its path.
fn backing_path(session: &Session<'_>, pool: &PoolRef, text: &str) -> Result<String, Failure> {
    let connection = session.connection;
    let volume = connection
        .volume_by_name(pool, text)
        .or_else(|_| connection.volume_by_key(text))
        .or_else(|_| connection.volume_by_path(text))
        .context(|| format!("failed to get vol '{text}'"))?;
    Ok(connection.volume_path(&volume)?)
}

fn create(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let pool = pool_option(session, arguments, "pool")?;
    let file = arguments.required("file")?;
    let xml = read_xml_file(file)?;
    let created = session.connection.create_volume(&pool, &xml, create_options(arguments));
    let volume = created.context(|| format!("Failed to create vol from {file}"))?;
    session.out.done(format_args!("Vol {} created from {file}", volume.name), did(&volume, "created"));
    Ok(())
}

fn create_from(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let pool = pool_option(session, arguments, "pool")?;
    let file = arguments.required("file")?;
    let input = volume_option(session, arguments, "vol", "inputpool")?;
    let xml = read_xml_file(file)?;
    let created = session.connection.create_volume_from(&pool, &xml, &input, create_options(arguments));
    let volume = created.context(|| format!("Failed to create vol from {file}"))?;
    session.out.done(
        format_args!("Vol {} created from input vol {}", volume.name, input.name),
        did(&volume, "created"),
    );
    Ok(())
}

fn delete(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let volume = volume_option(session, arguments, "vol", "pool")?;
    let text = arguments.required("vol")?;
    let options = DeleteOptions { with_snapshots: arguments.flag("delete-snapshots"), zeroed: false };
    let deleted = session.connection.delete_volume(&volume, options);
    deleted.context(|| format!("Failed to delete vol {text}"))?;
    session.out.done(format_args!("Vol {text} deleted"), did(&volume, "deleted"));
    Ok(())
}

fn upload(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let offset = arguments.number("offset")?.unwrap_or(0);
    let length = arguments.number("length")?.filter(|length| *length != 0);
    let volume = volume_option(session, arguments, "vol", "pool")?;
    let path = arguments.required("file")?;
    let text = arguments.required("vol")?;
    let file = File::open(path).map_err(|_| Failure::said(format!("cannot read {path}")))?;
    let stream = session.connection.upload(&volume, offset, length.unwrap_or(0), holes(arguments));
    let stream = stream.context(|| format!("cannot upload to volume {text}"))?;
    send(&file, path, text, length, holes(arguments), stream)?;
    if session.out.is_json() {
        session.out.done("", did(&volume, "uploaded"));
    }
    Ok(())
}

fn download(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let offset = arguments.number("offset")?.unwrap_or(0);
    let length = arguments.number("length")?.unwrap_or(0);
    let volume = volume_option(session, arguments, "vol", "pool")?;
    let path = arguments.required("file")?;
    let text = arguments.required("vol")?;
    let (file, is_new) = match File::options().write(true).create_new(true).open(path) {
        Ok(file) => (Ok(file), true),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            (File::options().write(true).truncate(true).open(path), false)
        }
        Err(e) => (Err(e), false),
    };
    let file = file.map_err(|_| Failure::said(format!("cannot create {path}")))?;
    let received = session
        .connection
        .download(&volume, offset, length, holes(arguments))
        .context(|| format!("cannot download from volume {text}"))
        .and_then(|stream| receive(&file, path, text, holes(arguments), stream));
    if received.is_err() && is_new {
        let _ = std::fs::remove_file(path);
    }
    received?;
    if session.out.is_json() {
        session.out.done("", did(&volume, "downloaded"));
    }
    Ok(())
}

fn holes(arguments: &Arguments) -> Holes {
    if arguments.flag("sparse") { Holes::Kept } else { Holes::Filled }
}

fn dumpxml(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let volume = volume_option(session, arguments, "vol", "pool")?;
    let xml = session.connection.volume_xml(&volume)?;
    print_xml(session, arguments, &xml)
}

fn info(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let volume = volume_option(session, arguments, "vol", "pool")?;
    let info = session.connection.volume_info(&volume)?;
    session.out.result(
        || {
            let mut json = info_json(&info);
            json["name"] = volume.name.as_str().into();
            json["pool"] = volume.pool.as_str().into();
            json["key"] = volume.key.as_str().into();
            json
        },
        || {
            let size = |bytes: u64| {
                if arguments.flag("bytes") { format!("{bytes} bytes") } else { pretty(bytes) }
            };
            let (label, taken) = match arguments.flag("physical") {
                true => ("Physical:", info.physical),
                false => ("Allocation:", info.allocation),
            };
            [
                ("Name:", volume.name.to_string()),
                ("Type:", info.kind.to_string()),
                ("Capacity:", size(info.capacity)),
                (label, size(taken)),
            ]
            .iter()
            .map(|(label, value)| format!("{label:<15} {value}\n"))
            .collect()
        },
    );
    Ok(())
}

fn list(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let pool = pool_option(session, arguments, "pool")?;
    let mut volumes = session.connection.volumes(&pool).context(|| "Failed to list volumes".to_owned())?;
    sort_by_name(&mut volumes, |volume| volume.name.clone());
    let out = session.out;
    if out.is_json() {
        let json = |volume: &crate::connection::ListedVolume| {
            let mut json = info_json(&volume.info);
            json["name"] = volume.name.as_str().into();
            json["path"] = volume.path.as_str().into();
            json["format"] = volume.format.into();
            json
        };
        out.result(|| volumes.iter().map(json).collect(), String::new);
    } else if arguments.flag("details") {
        let row = |volume: &crate::connection::ListedVolume| {
            let info = &volume.info;
            vec![
                volume.name.clone(),
                volume.path.clone(),
                info.kind.to_string(),
                pretty(info.capacity),
                pretty(info.allocation),
            ]
        };
        let rows: Vec<_> = volumes.iter().map(row).collect();
        out.table(&["Name", "Path", "Type", "Capacity", "Allocation"], &rows);
    } else {
        let rows: Vec<_> = volumes.into_iter().map(|volume| vec![volume.name, volume.path]).collect();
        out.table(&["Name", "Path"], &rows);
    }
    Ok(())
}

/// The volume that a key or path names.
fn by_key(session: &Session<'_>, arguments: &Arguments) -> Result<VolumeRef, Failure> {
    let text = arguments.required("vol")?;
    let connection = session.connection;
    connection
        .volume_by_key(text)
        .or_else(|_| connection.volume_by_path(text))
        .context(|| format!("failed to get vol '{text}'"))
}

fn name(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let volume = by_key(session, arguments)?;
    session.out.result(|| json!({"name": volume.name.as_str()}), || format!("{}\n", volume.name));
    Ok(())
}

fn pool(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let volume = by_key(session, arguments)?;
    let pool =
        session.connection.pool_of_volume(&volume).context(|| "failed to get parent pool".to_owned())?;
    session.out.result(
        || json!({"pool": pool.name.as_str(), "uuid": pool.uuid.to_string()}),
        || if arguments.flag("uuid") { format!("{}\n", pool.uuid) } else { format!("{}\n", pool.name) },
    );
    Ok(())
}

fn key(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let volume = volume_option(session, arguments, "vol", "pool")?;
    session.out.result(|| json!({"key": volume.key}), || format!("{}\n", volume.key));
    Ok(())
}

fn path(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let volume = volume_option(session, arguments, "vol", "pool")?;
    let path = session.connection.volume_path(&volume)?;
    session.out.result(|| json!({"path": path}), || format!("{path}\n"));
    Ok(())
}

fn resize(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let volume = volume_option(session, arguments, "vol", "pool")?;
    let text = arguments.required("capacity")?.trim_ascii_start();
    let mut options = ResizeOptions {
        allocate: arguments.flag("allocate"),
        delta: arguments.flag("delta"),
        shrink: arguments.flag("shrink"),
    };
    let text = match text.strip_prefix('-') {
        None => text,
        Some(_) if !options.shrink => return Err(Failure::said("negative size requires --shrink")),
        Some(positive) => {
            options.delta = true;
            positive
        }
    };
    let size = size_option(text)?;
    let to = if options.delta { "by" } else { "to" };
    let resized = session.connection.resize_volume(&volume, size, options);
    resized.context(|| format!("Failed to change size of volume '{}' {to} {text}", volume.name))?;
    session.out.done(
        format_args!("Size of volume '{}' successfully changed {to} {text}", volume.name),
        did(&volume, "resized"),
    );
    Ok(())
}

fn wipe(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let volume = volume_option(session, arguments, "vol", "pool")?;
    let text = arguments.required("vol")?;
    let algorithm = match arguments.text("algorithm")? {
        None => WipeAlgorithm::Zero,
        Some(name) => WipeAlgorithm::from_name(name)
            .ok_or_else(|| Failure::said(format!("Unsupported algorithm '{name}'")))?,
    };
    let wiped = session.connection.wipe_volume(&volume, algorithm);
    wiped.context(|| format!("Failed to wipe vol {text}"))?;
    session.out.done(format_args!("Vol {text} wiped"), did(&volume, "wiped"));
    Ok(())
}

fn did(volume: &VolumeRef, what: &str) -> Value {
    json!({
        "pool": volume.pool.as_str(),
        "volume": volume.name.as_str(),
        "key": volume.key,
        "result": what,
    })
}

fn info_json(info: &VolumeInfo) -> Value {
    json!({
        "type": info.kind.as_str(),
        "capacity": info.capacity,
        "allocation": info.allocation,
        "physical": info.physical,
    })
}
