//! Commands about secrets.

use super::{FILE, VALIDATE, WRAP, XPATH, print_xml, read_xml_file, secret_event, sort_by_name};
use crate::command::{Arguments, Command, Completion, Opt, Run, Session};
use crate::failure::{Context, Failure, Outcome};
use cenote_host::SecretValue;
use cenote_model::flags::Validate;
use cenote_model::secret::{SecretFilter, SecretId};
use cenote_model::{Code, Error, Uuid};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::path::Path;

/// The largest value that is read from a file: what fits over the wire, in base64 with its line ends, in bytes.
const MAX_FILE: usize = 96 << 10;

/// The longest value that is typed, in bytes.
const MAX_LINE: usize = 1 << 10;

const SECRET: Opt = Opt::text("secret", "secret UUID").required().completes(Completion::Secret);

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "secret-define",
        help: "define or modify a secret from an XML file",
        about: "Define or modify a secret.",
        options: &[
            Opt::text("file", "file containing secret attributes in XML").required().completes(FILE),
            VALIDATE,
        ],
        run: Run::Write(define),
    },
    Command {
        name: "secret-dumpxml",
        help: "secret attributes in XML",
        about: "Output attributes of a secret as an XML dump to stdout.",
        options: &[SECRET, XPATH, WRAP],
        run: Run::Read(dumpxml),
    },
    Command {
        name: "secret-event",
        help: "Secret Events",
        about: "List event types, or wait for secret events to occur",
        options: &secret_event::OPTIONS,
        run: Run::Read(secret_event::run),
    },
    Command {
        name: "secret-get-value",
        help: "Output a secret value",
        about: "Output a secret value to stdout.",
        options: &[SECRET, Opt::flag("plain", "get value without converting to base64")],
        run: Run::Read(get_value),
    },
    Command {
        name: "secret-list",
        help: "list secrets",
        about: "Returns a list of secrets",
        options: &[
            Opt::flag("ephemeral", "list ephemeral secrets"),
            Opt::flag("no-ephemeral", "list non-ephemeral secrets"),
            Opt::flag("private", "list private secrets"),
            Opt::flag("no-private", "list non-private secrets"),
        ],
        run: Run::Read(list),
    },
    Command {
        name: "secret-set-value",
        help: "set a secret value",
        about: "Set a secret value.",
        options: &[
            SECRET,
            Opt::text("file", "read secret from file").named().completes(FILE),
            Opt::flag("plain", "read the secret from file without converting from base64"),
            Opt::flag("interactive", "read the secret from the terminal"),
            Opt::text("base64", "base64-encoded secret value"),
        ],
        run: Run::Write(set_value),
    },
    Command {
        name: "secret-undefine",
        help: "undefine a secret",
        about: "Undefine a secret.",
        options: &[SECRET],
        run: Run::Write(undefine),
    },
];

/// The secret that an option names, by UUID.
pub(super) fn secret_option(session: &Session<'_>, arguments: &Arguments) -> Result<SecretId, Failure> {
    let text = arguments.required("secret")?;
    let find = || {
        let invalid = "uuidstr in virSecretLookupByUUIDString must be a valid UUID";
        let uuid = Uuid::parse(text).ok_or_else(|| Error::plain(Code::InvalidArg, invalid))?;
        session.connection.secret_by_uuid(&uuid)
    };
    find().context(|| format!("failed to get secret '{text}'"))
}

fn define(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let file = arguments.required("file")?;
    let xml = read_xml_file(file)?;
    let validate = if arguments.flag("validate") { Validate::Strict } else { Validate::Lax };
    let secret = session
        .connection
        .define_secret(&xml, validate)
        .context(|| format!("Failed to set attributes from {file}"))?;
    session.out.done(format_args!("Secret {} created", secret.uuid), done_json(&secret, "defined"));
    Ok(())
}

fn done_json(secret: &SecretId, result: &str) -> Value {
    json!({"secret": secret.uuid.to_string(), "result": result})
}

fn dumpxml(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let secret = secret_option(session, arguments)?;
    print_xml(session, arguments, &session.connection.secret_xml(&secret)?)
}

fn list(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let pair = |yes: &str, no: &str| match (arguments.flag(yes), arguments.flag(no)) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    };
    let filter =
        SecretFilter { ephemeral: pair("ephemeral", "no-ephemeral"), private: pair("private", "no-private") };
    let mut secrets =
        session.connection.secrets(filter).context(|| "Failed to list node secrets".to_owned())?;
    sort_by_name(&mut secrets, |secret| secret.uuid.to_string());
    if session.out.is_json() {
        let json = |secret: &SecretId| {
            let usage = secret.usage.as_ref();
            json!({
                "uuid": secret.uuid.to_string(),
                "usage": usage.map(|usage| json!({"type": usage.kind.as_str(), "id": usage.id})),
            })
        };
        session.out.result(|| secrets.iter().map(json).collect(), String::new);
        return Ok(());
    }
    let row = |secret: &SecretId| {
        let usage = secret.usage.as_ref();
        let usage = usage.map_or_else(|| "Unused".to_owned(), |usage| format!("{} {}", usage.kind, usage.id));
        vec![secret.uuid.to_string(), usage]
    };
    session.out.table(&["UUID", "Usage"], &secrets.iter().map(row).collect::<Vec<_>>());
    Ok(())
}

fn undefine(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let secret = secret_option(session, arguments)?;
    let text = arguments.required("secret")?;
    session.connection.undefine_secret(&secret).context(|| format!("Failed to delete secret {text}"))?;
    session.out.done(format_args!("Secret {text} deleted"), done_json(&secret, "undefined"));
    Ok(())
}

fn get_value(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let secret = secret_option(session, arguments)?;
    let value = session.connection.secret_value(&secret)?;
    if arguments.flag("plain") && !session.out.is_json() {
        session.out.bytes(value.expose());
        return Ok(());
    }
    let text = value.to_base64();
    if session.out.is_json() {
        let text = String::from_utf8_lossy(text.expose());
        session.out.result(|| json!({"secret": secret.uuid.to_string(), "base64": text}), String::new);
    } else {
        session.out.bytes(text.expose());
    }
    Ok(())
}

fn set_value(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    for (a, b) in [
        ("file", "base64"),
        ("plain", "base64"),
        ("interactive", "base64"),
        ("interactive", "plain"),
        ("interactive", "file"),
    ] {
        arguments.exclusive(a, b)?;
    }
    let secret = secret_option(session, arguments)?;
    let (value, is_plain) = if let Some(text) = arguments.text("base64")? {
        eprintln!("error: Passing secret value as command-line argument is insecure!");
        (SecretValue::copy_of(text.as_bytes()), false)
    } else if let Some(file) = arguments.text("file")? {
        let value = SecretValue::read_file(Path::new(file), MAX_FILE)
            .map_err(|e| Failure::from(Error::system(format!("Failed to open file '{file}'"), &e)))?;
        (value, arguments.flag("plain"))
    } else if arguments.flag("interactive") {
        session.out.print("Enter new value for secret:");
        let value = read_hidden().map_err(|e| {
            Failure::said("Failed to read secret").because(Error::system("cannot read the terminal", &e))
        })?;
        (value, true)
    } else {
        return Err(Failure::said("Input secret value is missing"));
    };
    let value = match is_plain {
        true => value,
        false => SecretValue::from_base64(value.expose()).ok_or_else(|| {
            Failure::said("The value is not in base64: use --plain with a file that holds it as it is")
        })?,
    };
    session
        .connection
        .set_secret_value(&secret, value)
        .context(|| "Failed to set secret value".to_owned())?;
    session.out.done("Secret value set", done_json(&secret, "value-set"));
    Ok(())
}

/// Reads a line that the terminal does not show. Where there is no terminal it is the next line of standard input.
fn read_hidden() -> io::Result<SecretValue> {
    let mut input = File::open("/dev/tty").or_else(|_| File::open("/dev/stdin"))?;
    let before = tcgetattr(&input).ok();
    if let Some(mut hidden) = before.clone() {
        // An interrupt must not leave the terminal as it is now: it ends the line, and nothing more.
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        hidden.special_codes[SpecialCodeIndex::VEOL] = hidden.special_codes[SpecialCodeIndex::VINTR];
        tcsetattr(&input, OptionalActions::Flush, &hidden)?;
    }
    let read = SecretValue::read_line(&mut input, MAX_LINE);
    if let Some(before) = before {
        tcsetattr(&input, OptionalActions::Flush, &before)?;
    }
    read
}
