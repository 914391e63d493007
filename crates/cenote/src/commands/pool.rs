//! Commands about pools.

use super::{
    FILE, POOL, POOL_TYPES, VALIDATE, WRAP, XPATH, pool_event, pool_option, pool_xml, pretty, print_xml,
    read_xml_file, sort_by_name, yes_no,
};
use crate::command::{Arguments, Command, Opt, Run, Session};
use crate::connection::Which;
use crate::editor::Draft;
use crate::failure::{Context, Failure, Outcome};
use cenote_engine::{Answering, PoolInfo, PoolRun};
use cenote_model::flags::{BuildFirst, Overwrite, Validate};
use cenote_model::xml::Writer;
use cenote_model::{Error, PoolKind, PoolRef, Uuid};
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal};

const BUILD: Opt = Opt::flag("build", "build the pool as normal");
const NO_OVERWRITE: Opt = Opt::flag("no-overwrite", "do not overwrite any existing data");
const OVERWRITE: Opt = Opt::flag("overwrite", "overwrite any existing data");
const POOL_FILE: Opt =
    Opt::text("file", "file containing an XML pool description").required().completes(FILE);

const fn create_as_options() -> [Opt; 25] {
    let mut options = [BUILD; 25];
    let mut i = 0;
    while i < pool_xml::OPTIONS.len() {
        options[i] = pool_xml::OPTIONS[i];
        i += 1;
    }
    options[23] = NO_OVERWRITE;
    options[24] = OVERWRITE;
    options
}

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "find-storage-pool-sources-as",
        help: "find potential storage pool sources",
        about: "Returns XML <sources> document.",
        options: &[
            Opt::text("type", "type of storage pool sources to find").required().completes(POOL_TYPES),
            Opt::text("host", "optional host to query"),
            Opt::text("port", "optional port to query"),
            Opt::text("initiator", "optional initiator IQN to use for query"),
        ],
        run: Run::Read(find_sources_as),
    },
    Command {
        name: "find-storage-pool-sources",
        help: "discover potential storage pool sources",
        about: "Returns XML <sources> document.",
        options: &[
            Opt::text("type", "type of storage pool sources to discover").required().completes(POOL_TYPES),
            Opt::text("srcSpec", "optional file of source xml to query for pools").completes(FILE),
        ],
        run: Run::Read(find_sources),
    },
    Command {
        name: "pool-autostart",
        help: "autostart a pool",
        about: "Configure a pool to be automatically started at boot.",
        options: &[POOL, Opt::flag("disable", "disable autostarting")],
        run: Run::Write(autostart),
    },
    Command {
        name: "pool-build",
        help: "build a pool",
        about: "Build a given pool.",
        options: &[POOL, NO_OVERWRITE, OVERWRITE],
        run: Run::Write(build),
    },
    Command {
        name: "pool-create-as",
        help: "create a pool from a set of args",
        about: "Create a pool.",
        options: &create_as_options(),
        run: Run::Write(create_as),
    },
    Command {
        name: "pool-create",
        help: "create a pool from an XML file",
        about: "Create a pool.",
        options: &[POOL_FILE, BUILD, NO_OVERWRITE, OVERWRITE],
        run: Run::Write(create),
    },
    Command {
        name: "pool-define-as",
        help: "define a pool from a set of args",
        about: "Define a pool.",
        options: &pool_xml::OPTIONS,
        run: Run::Write(define_as),
    },
    Command {
        name: "pool-define",
        help: "define an inactive persistent storage pool or modify an existing persistent one from an XML file",
        about: "Define or modify a persistent storage pool.",
        options: &[POOL_FILE, VALIDATE],
        run: Run::Write(define),
    },
    Command {
        name: "pool-delete",
        help: "delete a pool",
        about: "Delete a given pool.",
        options: &[POOL],
        run: Run::Write(delete),
    },
    Command {
        name: "pool-destroy",
        help: "destroy (stop) a pool",
        about: "Forcefully stop a given pool. Raw data in the pool is untouched",
        options: &[POOL],
        run: Run::Write(destroy),
    },
    Command {
        name: "pool-dumpxml",
        help: "pool information in XML",
        about: "Output the pool information as an XML dump to stdout.",
        options: &[POOL, Opt::flag("inactive", "show inactive defined XML"), XPATH, WRAP],
        run: Run::Read(dumpxml),
    },
    Command {
        name: "pool-edit",
        help: "edit XML configuration for a storage pool",
        about: "Edit the XML configuration for a storage pool.",
        options: &[POOL],
        run: Run::Write(edit),
    },
    Command {
        name: "pool-info",
        help: "storage pool information",
        about: "Returns basic information about the storage pool.",
        options: &[POOL, Opt::flag("bytes", "Return pool info in bytes")],
        run: Run::Read(info),
    },
    Command {
        name: "pool-list",
        help: "list pools",
        about: "Returns list of pools.",
        options: &[
            Opt::flag("inactive", "list inactive pools"),
            Opt::flag("all", "list inactive & active pools"),
            Opt::flag("transient", "list transient pools"),
            Opt::flag("persistent", "list persistent pools"),
            Opt::flag("autostart", "list pools with autostart enabled"),
            Opt::flag("no-autostart", "list pools with autostart disabled"),
            Opt::text("type", "only list pool of specified type(s) (if supported)").completes(POOL_TYPES),
            Opt::flag("details", "display extended details for pools"),
            Opt::flag("uuid", "list UUID of active pools only"),
            Opt::flag("name", "list name of active pools only"),
        ],
        run: Run::Read(list),
    },
    Command {
        name: "pool-name",
        help: "convert a pool UUID to pool name",
        about: "",
        options: &[POOL],
        run: Run::Read(name),
    },
    Command {
        name: "pool-refresh",
        help: "refresh a pool",
        about: "Refresh a given pool.",
        options: &[POOL],
        run: Run::Write(refresh),
    },
    Command {
        name: "pool-start",
        help: "start a (previously defined) inactive pool",
        about: "Start a pool.",
        options: &[POOL, BUILD, NO_OVERWRITE, OVERWRITE],
        run: Run::Write(start),
    },
    Command {
        name: "pool-undefine",
        help: "undefine an inactive pool",
        about: "Undefine the configuration for an inactive pool.",
        options: &[POOL],
        run: Run::Write(undefine),
    },
    Command {
        name: "pool-uuid",
        help: "convert a pool name to pool UUID",
        about: "",
        options: &[POOL],
        run: Run::Read(uuid),
    },
    Command {
        name: "pool-event",
        help: "Storage Pool Events",
        about: "List event types, or wait for storage pool events to occur",
        options: &pool_event::OPTIONS,
        run: Run::Read(pool_event::run),
    },
    Command {
        name: "pool-capabilities",
        help: "storage pool capabilities",
        about: "Returns capabilities of storage pool support.",
        options: &[],
        run: Run::Read(capabilities),
    },
];

fn find_sources_as(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let kind = arguments.required("type")?;
    let (host, port) = (arguments.text("host")?, arguments.text("port")?);
    let initiator = arguments.text("initiator")?;
    let question = host.map(|host| {
        let mut w = Writer::new();
        w.element("source").children(|w| {
            w.element("host").attr("name", host).attr_opt("port", port).empty();
            if let Some(iqn) = initiator {
                w.element("initiator").children(|w| w.element("iqn").attr("name", iqn).empty());
            }
        });
        w.finish()
    });
    print_sources(session, kind, question.as_deref())
}

fn find_sources(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let kind = arguments.required("type")?;
    let question = arguments.text("srcSpec")?.map(read_xml_file).transpose()?;
    print_sources(session, kind, question.as_deref())
}

fn print_sources(session: &Session<'_>, kind: &str, question: Option<&str>) -> Outcome {
    let found = session.connection.find_sources(kind, question);
    let xml = found.context(|| format!("Failed to find any {kind} pool sources"))?;
    session.out.result(|| json!({"xml": xml}), || xml.clone());
    Ok(())
}

fn autostart(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let pool = pool_option(session, arguments, "pool")?;
    let name = arguments.required("pool")?;
    let (autostart, mark) = match arguments.flag("disable") {
        true => (false, "unmark"),
        false => (true, "mark"),
    };
    let set = session.connection.set_autostart(&pool, autostart);
    set.context(|| format!("failed to {mark} pool {name} as autostarted"))?;
    session.out.done(format_args!("Pool {name} {mark}ed as autostarted"), did(&pool, &format!("{mark}ed")));
    Ok(())
}

fn build(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let pool = pool_option(session, arguments, "pool")?;
    let name = arguments.required("pool")?;
    let overwrite = match (arguments.flag("no-overwrite"), arguments.flag("overwrite")) {
        (true, true) => {
            return Err(Failure::said(format!("Failed to build pool {name}")).and(
                "Flags 'VIR_STORAGE_POOL_BUILD_OVERWRITE' and 'VIR_STORAGE_POOL_BUILD_NO_OVERWRITE' are \
                 mutually exclusive",
            ));
        }
        (true, false) => Overwrite::Refuse,
        (false, true) => Overwrite::Allow,
        (false, false) => Overwrite::Default,
    };
    session.connection.build_pool(&pool, overwrite).context(|| format!("Failed to build pool {name}"))?;
    session.out.done(format_args!("Pool {name} built"), did(&pool, "built"));
    Ok(())
}

fn build_first(arguments: &Arguments) -> Result<BuildFirst, Failure> {
    arguments.exclusive("overwrite", "no-overwrite")?;
    Ok(match (arguments.flag("build"), arguments.flag("overwrite"), arguments.flag("no-overwrite")) {
        (_, true, _) => BuildFirst::Yes(Overwrite::Allow),
        (_, _, true) => BuildFirst::Yes(Overwrite::Refuse),
        (true, ..) => BuildFirst::Yes(Overwrite::Default),
        _ => BuildFirst::No,
    })
}

fn create_as(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let build = build_first(arguments)?;
    let xml = pool_xml::build(arguments)?;
    if arguments.flag("print-xml") {
        session.out.result(|| json!({"xml": xml}), || xml.clone());
        return Ok(());
    }
    let name = arguments.required("name")?;
    let pool =
        session.connection.create_pool(&xml, build).context(|| format!("Failed to create pool {name}"))?;
    session.out.done(format_args!("Pool {name} created"), did(&pool, "created"));
    Ok(())
}

fn create(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let build = build_first(arguments)?;
    let file = arguments.required("file")?;
    let xml = read_xml_file(file)?;
    let created = session.connection.create_pool(&xml, build);
    let pool = created.context(|| format!("Failed to create pool from {file}"))?;
    session.out.done(format_args!("Pool {} created from {file}", pool.name), did(&pool, "created"));
    Ok(())
}

fn define_as(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let xml = pool_xml::build(arguments)?;
    if arguments.flag("print-xml") {
        session.out.result(|| json!({"xml": xml}), || xml.clone());
        return Ok(());
    }
    let name = arguments.required("name")?;
    let defined = session.connection.define_pool(&xml, Validate::Lax);
    let pool = defined.context(|| format!("Failed to define pool {name}"))?;
    session.out.done(format_args!("Pool {name} defined"), did(&pool, "defined"));
    Ok(())
}

fn define(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let file = arguments.required("file")?;
    let validate = if arguments.flag("validate") { Validate::Strict } else { Validate::Lax };
    let xml = read_xml_file(file)?;
    let defined = session.connection.define_pool(&xml, validate);
    let pool = defined.context(|| format!("Failed to define pool from {file}"))?;
    session.out.done(format_args!("Pool {} defined from {file}", pool.name), did(&pool, "defined"));
    Ok(())
}

/// Commands that do one thing to a pool and say so.
fn simple(
    session: &Session<'_>,
    arguments: &Arguments,
    verb: &str,
    done: &str,
    call: impl FnOnce(&PoolRef) -> Result<(), Error>,
) -> Outcome {
    let pool = pool_option(session, arguments, "pool")?;
    let name = arguments.required("pool")?;
    call(&pool).context(|| format!("Failed to {verb} pool {name}"))?;
    let result = done.trim_start_matches("has been ").to_owned();
    session.out.done(format_args!("Pool {name} {done}"), did(&pool, &result));
    Ok(())
}

fn delete(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    simple(session, arguments, "delete", "deleted", |pool| session.connection.delete_pool(pool))
}

fn destroy(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    simple(session, arguments, "destroy", "destroyed", |pool| session.connection.stop_pool(pool))
}

fn refresh(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    simple(session, arguments, "refresh", "refreshed", |pool| session.connection.refresh_pool(pool))
}

fn undefine(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    simple(session, arguments, "undefine", "has been undefined", |pool| {
        session.connection.undefine_pool(pool)
    })
}

fn start(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let build = build_first(arguments)?;
    simple(session, arguments, "start", "started", |pool| session.connection.start_pool(pool, build))
}

fn dumpxml(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let pool = pool_option(session, arguments, "pool")?;
    let which = if arguments.flag("inactive") { Which::Inactive } else { Which::Current };
    let xml = session.connection.pool_xml(&pool, which)?;
    print_xml(session, arguments, &xml)
}

fn edit(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let pool = pool_option(session, arguments, "pool")?;
    let xml = session.connection.pool_xml(&pool, Which::Inactive)?;
    let draft = Draft::new(&xml)?;
    loop {
        let edited = draft.edit()?;
        if edited == xml {
            session.out.done(
                format_args!("Pool {} XML configuration not changed.", pool.name),
                did(&pool, "unchanged"),
            );
            return Ok(());
        }
        match session.connection.define_pool(&edited, Validate::Lax) {
            Ok(pool) => {
                session
                    .out
                    .done(format_args!("Pool {} XML configuration edited.", pool.name), did(&pool, "edited"));
                return Ok(());
            }
            Err(error) if shall_retry(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Asks a person whether to edit once more; nobody else is asked.
fn shall_retry(error: &Error) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    eprint!("error: {error}\nFailed. Try again? [y,n]: ");
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    answer.trim() == "y"
}

fn info(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let pool = pool_option(session, arguments, "pool")?;
    let info = session.connection.pool_info(&pool)?;
    let health = session.connection.pool_health(&pool)?.filter(|_| info.run == PoolRun::Active);
    session.out.result(
        || {
            let mut json = to_json(&pool, &info);
            if let Some(health) = health {
                json["answering"] = json!(!matches!(health.answering, Answering::NotSince(_)));
                json["age_ms"] = json!(health.age.as_millis() as u64);
            }
            json
        },
        || {
            let mut lines = vec![
                ("Name:", pool.name.to_string()),
                ("UUID:", pool.uuid.to_string()),
                ("State:", state(info.run).to_owned()),
                ("Persistent:", yes_no(info.persistent).to_owned()),
                ("Autostart:", yes_no(info.autostart).to_owned()),
            ];
            if info.run == PoolRun::Active {
                let size =
                    |bytes: u64| if arguments.flag("bytes") { bytes.to_string() } else { pretty(bytes) };
                lines.push(("Capacity:", size(info.usage.capacity)));
                lines.push(("Allocation:", size(info.usage.allocation)));
                lines.push(("Available:", size(info.usage.available)));
            }
            // Only then it is more than virsh says.
            if let Some(health) = health.filter(|health| health.answering != Answering::Yes) {
                let slowly = health.answering == Answering::Slowly;
                let answers = if slowly { "answers slowly" } else { "does not answer" };
                lines.push(("Storage:", answers.to_owned()));
                lines.push(("Known since:", format!("{:.1} s ago", health.age.as_secs_f64())));
            }
            lines.iter().map(|(label, value)| format!("{label:<15} {value}\n")).collect()
        },
    );
    Ok(())
}

fn list(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    arguments.exclusive("all", "inactive")?;
    let types = arguments.text("type")?;
    let kinds = types.map(pool_kinds).transpose()?;
    arguments.exclusive("details", "uuid")?;
    arguments.exclusive("details", "name")?;
    let mut pools = Vec::new();
    for pool in session.connection.pools().context(|| "Failed to list pools".to_owned())? {
        // A pool that went meanwhile is not listed.
        let Ok(info) = session.connection.pool_info(&pool) else { continue };
        if is_wanted(arguments, kinds.as_deref(), &info) {
            pools.push((pool, info));
        }
    }
    sort_by_name(&mut pools, |(pool, _)| pool.name.to_string());
    let out = session.out;
    if out.is_json() {
        out.result(|| pools.iter().map(|(pool, info)| to_json(pool, info)).collect(), String::new);
        return Ok(());
    }
    if arguments.flag("uuid") || arguments.flag("name") {
        for (pool, _) in &pools {
            match (arguments.flag("uuid"), arguments.flag("name")) {
                (true, true) => out.print(format_args!("{:<36} {}\n", pool.uuid.to_string(), pool.name)),
                (true, false) => out.print(format_args!("{:<36}\n", pool.uuid.to_string())),
                _ => out.print(format_args!("{}\n", pool.name)),
            }
        }
        return Ok(());
    }
    if !arguments.flag("details") {
        let rows: Vec<_> = pools.iter().map(|(pool, info)| row(pool, info)).collect();
        out.table(&["Name", "State", "Autostart"], &rows);
        return Ok(());
    }
    let rows: Vec<_> = pools.iter().map(|(pool, info)| detailed_row(pool, info)).collect();
    out.table(&["Name", "State", "Autostart", "Persistent", "Capacity", "Allocation", "Available"], &rows);
    Ok(())
}

fn row(pool: &PoolRef, info: &PoolInfo) -> Vec<String> {
    let state = if info.run == PoolRun::Active { "active" } else { "inactive" };
    vec![pool.name.to_string(), state.to_owned(), yes_no(info.autostart).to_owned()]
}

fn detailed_row(pool: &PoolRef, info: &PoolInfo) -> Vec<String> {
    let size = |bytes| if info.run == PoolRun::Active { pretty(bytes) } else { "-".to_owned() };
    vec![
        pool.name.to_string(),
        state(info.run).to_owned(),
        yes_no(info.autostart).to_owned(),
        yes_no(info.persistent).to_owned(),
        size(info.usage.capacity),
        size(info.usage.allocation),
        size(info.usage.available),
    ]
}

fn pool_kinds(types: &str) -> Result<Vec<PoolKind>, Failure> {
    types
        .split(',')
        .map(|name| {
            PoolKind::from_name(name).ok_or_else(|| Failure::said(format!("Invalid pool type '{name}'")))
        })
        .collect()
}

/// The filters of `pool-list`: both of a pair, or none, let everything through.
fn is_wanted(arguments: &Arguments, kinds: Option<&[PoolKind]>, info: &PoolInfo) -> bool {
    let pair = |yes: &str, no: &str, value: bool| match (arguments.flag(yes), arguments.flag(no)) {
        (true, false) => value,
        (false, true) => !value,
        _ => true,
    };
    let is_active = info.run == PoolRun::Active;
    let by_state = arguments.flag("all") || is_active != arguments.flag("inactive");
    by_state
        && pair("persistent", "transient", info.persistent)
        && pair("autostart", "no-autostart", info.autostart)
        && kinds.is_none_or(|kinds| kinds.contains(&info.kind))
}

fn name(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let text = arguments.required("pool")?;
    let failed = || format!("failed to get pool '{text}'");
    // virsh looks by UUID only, and only if it looks like one.
    if text.len() != 36 {
        return Err(Failure::said(failed()));
    }
    let uuid = Uuid::parse(text).ok_or_else(|| {
        Failure::said(failed()).and("uuidstr in virStoragePoolLookupByUUIDString must be a valid UUID")
    })?;
    let pool = session.connection.pool_by_uuid(&uuid).context(failed)?;
    session.out.result(|| json!({"name": pool.name.as_str()}), || format!("{}\n", pool.name));
    Ok(())
}

fn uuid(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let text = arguments.required("pool")?;
    let pool = session.connection.pool_by_name(text).context(|| format!("failed to get pool '{text}'"))?;
    session.out.result(|| json!({"uuid": pool.uuid.to_string()}), || format!("{}\n", pool.uuid));
    Ok(())
}

fn capabilities(session: &Session<'_>, _arguments: &Arguments) -> Outcome {
    let found = session.connection.capabilities();
    let xml = found.context(|| "failed to get storage pool capabilities".to_owned())?;
    session.out.result(|| json!({"xml": xml}), || format!("{xml}\n"));
    Ok(())
}

fn state(run: PoolRun) -> &'static str {
    match run {
        PoolRun::Inactive => "inactive",
        PoolRun::Changing => "building",
        PoolRun::Active => "running",
    }
}

fn did(pool: &PoolRef, what: &str) -> Value {
    json!({"pool": pool.name.as_str(), "uuid": pool.uuid.to_string(), "result": what})
}

fn to_json(pool: &PoolRef, info: &PoolInfo) -> Value {
    json!({
        "name": pool.name.as_str(),
        "uuid": pool.uuid.to_string(),
        "type": info.kind.as_str(),
        "state": state(info.run),
        "persistent": info.persistent,
        "autostart": info.autostart,
        "capacity": info.usage.capacity,
        "allocation": info.usage.allocation,
        "available": info.usage.available,
    })
}
