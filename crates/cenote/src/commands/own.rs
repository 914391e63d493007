//! Commands of the program itself.

use crate::command::{Arguments, Command, Completion, GROUPS, Group, Naming, Opt, OptKind, Run, find};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use serde_json::json;
use std::fmt::Write;

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "cd",
        help: "change the current directory",
        about: "Change the current directory.",
        options: &[Opt::text("dir", "directory to switch to (default: home or else root)")
            .positional()
            .completes(Completion::File)],
        run: Run::Own(cd),
    },
    Command {
        name: "doctor",
        help: "find what stands in the way",
        about: "Look at this machine: what types of pool lack, permissions, sockets, and daemons in the way.\n    \
            Each finding comes with what to type against it.",
        options: &[],
        run: Run::Local(crate::doctor::run),
    },
    Command {
        name: "echo",
        help: "echo arguments",
        about: "Echo back arguments, possibly with quoting.",
        options: &[
            Opt::flag("shell", "escape for shell use"),
            Opt::flag("xml", "escape for XML use"),
            Opt::flag("err", "output to stderr"),
            Opt::text("prefix", "prefix the message").named(),
            Opt::words("string", "arguments to echo"),
        ],
        run: Run::Own(echo),
    },
    Command { name: "exit", help: "quit this interactive terminal", about: "", options: &[], run: Run::Quit },
    Command {
        name: "help",
        help: "print help",
        about: "Prints global help, command specific help, or help for a\n    group of related commands",
        options: &[Opt::text(
            "command",
            "Prints global help, command specific help, or help for a group of related commands",
        )
        .positional()
        .completes(Completion::OneOf(names))],
        run: Run::Own(help),
    },
    Command {
        name: "pwd",
        help: "print the current directory",
        about: "Print the current directory.",
        options: &[],
        run: Run::Own(pwd),
    },
    Command { name: "quit", help: "quit this interactive terminal", about: "", options: &[], run: Run::Quit },
    Command {
        name: "connect",
        help: "(re)connect to storage",
        about: "Connect to other storage. This is built-in command after shell start up.",
        options: &[
            Opt::text("name", "what to connect to").positional(),
            Opt::flag("readonly", "read-only connection"),
        ],
        run: Run::Connect,
    },
];

fn names() -> Vec<&'static str> {
    let commands = GROUPS.iter().flat_map(|group| group.commands).map(|command| command.name);
    commands.chain(GROUPS.iter().map(|group| group.keyword)).collect()
}

fn cd(_out: &Output, arguments: &Arguments) -> Outcome {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/".to_owned());
    let dir = arguments.text("dir")?.unwrap_or(&home);
    std::env::set_current_dir(dir)
        .map_err(|e| Failure::said(format!("cd: {}: {dir}", cenote_model::error::cause_text(&e))))
}

fn pwd(out: &Output, _arguments: &Arguments) -> Outcome {
    let dir = std::env::current_dir()
        .map_err(|e| Failure::said(format!("pwd: cannot get current directory: {e}")))?;
    out.result(|| json!({"directory": dir}), || format!("{}\n", dir.display()));
    Ok(())
}

fn echo(out: &Output, arguments: &Arguments) -> Outcome {
    let quoted = |word: &String| {
        let mut word = word.clone();
        if arguments.flag("xml") {
            word = word.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            word = word.replace('\'', "&apos;").replace('"', "&quot;");
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_".contains(c);
        if arguments.flag("shell") && (word.is_empty() || !word.chars().all(is_plain)) {
            word = format!("'{}'", word.replace('\'', "'\\''"));
        }
        word
    };
    let prefix = arguments.text("prefix")?.map(|prefix| format!("{prefix} ")).unwrap_or_default();
    let text = prefix + &arguments.words.iter().map(quoted).collect::<Vec<_>>().join(" ");
    if arguments.flag("err") {
        eprintln!("error: {text}");
    } else {
        out.result(|| json!({"echo": text}), || text.clone());
    }
    Ok(())
}

fn help(out: &Output, arguments: &Arguments) -> Outcome {
    let text = match arguments.text("command")? {
        None => {
            let groups: Vec<_> = GROUPS.iter().map(group_help).collect();
            format!("Grouped commands:\n\n{}\n", groups.join("\n"))
        }
        Some(name) => {
            match (find(name), GROUPS.iter().find(|group| group.keyword == name || group.name == name)) {
                (Some(command), _) => command_help(command),
                (None, Some(group)) => group_help(group),
                (None, None) => {
                    return Err(Failure::said(format!("command or command group '{name}' doesn't exist")));
                }
            }
        }
    };
    out.result(|| json!({"help": text}), || text.clone());
    Ok(())
}

fn group_help(group: &Group) -> String {
    let mut text = format!(" {} (help keyword '{}'):\n", group.name, group.keyword);
    for command in group.commands {
        let _ = writeln!(text, "    {:<30} {}", command.name, command.help);
    }
    text
}

fn command_help(command: &Command) -> String {
    let mut text =
        format!("  NAME\n    {} - {}\n\n  SYNOPSIS\n    {}", command.name, command.help, command.name);
    for option in command.options {
        let _ = write!(text, " {}", synopsis(option));
    }
    text.push('\n');
    if !command.about.is_empty() {
        let _ = write!(text, "\n  DESCRIPTION\n    {}\n", command.about);
    }
    if !command.options.is_empty() {
        text.push_str("\n  OPTIONS\n");
        for option in command.options {
            let _ = writeln!(text, "    {:<15}  {}", usage(option), option.help);
        }
    }
    text
}

fn synopsis(option: &Opt) -> String {
    let name = option.name;
    let inner = match option.kind {
        OptKind::Flag => return format!("[--{name}]"),
        OptKind::Words => return format!("[<{name}>]..."),
        _ if option.naming == Naming::Optional => format!("<{name}>"),
        OptKind::Number => format!("--{name} <number>"),
        OptKind::Text => format!("--{name} <string>"),
    };
    if option.required { inner } else { format!("[{inner}]") }
}

fn usage(option: &Opt) -> String {
    let name = match option.naming {
        Naming::Optional => format!("[--{}]", option.name),
        _ => format!("--{}", option.name),
    };
    match option.kind {
        OptKind::Flag => format!("--{}", option.name),
        OptKind::Text => format!("{name} <string>"),
        OptKind::Number => format!("{name} <number>"),
        OptKind::Words => format!("{name} <string>..."),
    }
}
