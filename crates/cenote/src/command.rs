//! What a command is, and the list of them all.

use crate::args::Options;
use crate::commands::{host, job, own, pool, secret, volume};
use crate::connection::Connection;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use std::collections::HashMap;

/// A command.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// A line about it.
    pub(crate) help: &'static str,
    /// More about it, perhaps nothing.
    pub(crate) about: &'static str,
    pub(crate) options: &'static [Opt],
    pub(crate) run: Run,
}

/// How a command is run: what it needs.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// Nothing but the shell.
    Own(fn(&Output, &Arguments) -> Outcome),
    /// What the options say, and no connection.
    Local(fn(&Options, &Output, &Arguments) -> Outcome),
    /// A connection, to look.
    Read(fn(&Session<'_>, &Arguments) -> Outcome),
    /// A connection, to change things.
    Write(fn(&Session<'_>, &Arguments) -> Outcome),
    /// Leaves the shell.
    Quit,
    /// Connects anew.
    Connect,
}

/// What commands work with.
pub(crate) struct Session<'s> {
    pub(crate) connection: &'s dyn Connection,
    pub(crate) out: &'s Output,
}

/// An option of a command.
#[derive(Clone, Copy)]
pub(crate) struct Opt {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: OptKind,
    pub(crate) naming: Naming,
    pub(crate) required: bool,
    pub(crate) completion: Completion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OptKind {
    Flag,
    Text,
    Number,
    /// All words that are left.
    Words,
}

/// Whether an option's name must stand before its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// It must.
    Always,
    /// It should: help shows it, though virsh has always taken the value alone.
    Usual,
    /// It need not.
    Optional,
}

/// What an option's value may be completed to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Completion {
    Nothing,
    File,
    Pool,
    Volume,
    Secret,
    OneOf(fn() -> Vec<&'static str>),
}

impl Opt {
    const fn new(name: &'static str, help: &'static str, kind: OptKind) -> Opt {
        let naming = if matches!(kind, OptKind::Flag) { Naming::Always } else { Naming::Usual };
        Opt { name, help, kind, naming, required: false, completion: Completion::Nothing }
    }

    /// An option without a value.
    pub(crate) const fn flag(name: &'static str, help: &'static str) -> Opt {
        Opt::new(name, help, OptKind::Flag)
    }

    /// An option with a value.
    pub(crate) const fn text(name: &'static str, help: &'static str) -> Opt {
        Opt::new(name, help, OptKind::Text)
    }

    /// An option with a number.
    pub(crate) const fn number(name: &'static str, help: &'static str) -> Opt {
        Opt::new(name, help, OptKind::Number)
    }

    /// All words that are left.
    pub(crate) const fn words(name: &'static str, help: &'static str) -> Opt {
        Opt::new(name, help, OptKind::Words).positional()
    }

    /// It may be given without its name.
    pub(crate) const fn positional(self) -> Opt {
        Opt { naming: Naming::Optional, ..self }
    }

    /// It must be given with its name.
    pub(crate) const fn named(self) -> Opt {
        Opt { naming: Naming::Always, ..self }
    }

    /// It must be given, and may be without its name.
    pub(crate) const fn required(self) -> Opt {
        Opt { naming: Naming::Optional, required: true, ..self }
    }

    pub(crate) const fn completes(self, completion: Completion) -> Opt {
        Opt { completion, ..self }
    }
}

/// The arguments of a command, as they were given.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) values: HashMap<&'static str, String>,
    pub(crate) words: Vec<String>,
}

impl Arguments {
    /// True if it was given.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The value that was given. An empty one is refused.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        match self.values.get(name).map(String::as_str) {
            Some("") => {
                Err(Failure::said(format!("Failed to get option '{name}': Option argument is empty")))
            }
            value => Ok(value),
        }
    }

    /// The value of an option that must be given.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Failure> {
        self.text(name)?.ok_or_else(|| {
            Failure::said(format!("Failed to get option '{name}': Mandatory option not present"))
        })
    }

    /// The number that was given.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        self.values
            .get(name)
            .map(|text| {
                text.trim_ascii_start().parse().map_err(|_| {
                    Failure::said(format!(
                        "Numeric value '{text}' for <{name}> option is malformed or out of range"
                    ))
                })
            })
            .transpose()
    }

    /// Refuses two options together.
    pub(crate) fn exclusive(&self, a: &str, b: &str) -> Outcome {
        if self.flag(a) && self.flag(b) {
            return Err(Failure::said(format!("Options --{a} and --{b} are mutually exclusive")));
        }
        Ok(())
    }
}

/// Commands that belong together.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) keyword: &'static str,
    pub(crate) commands: &'static [Command],
}

/// All commands.
pub(crate) const GROUPS: &[Group] = &[
    Group { name: "Storage Pool", keyword: "pool", commands: pool::COMMANDS },
    Group { name: "Storage Volume", keyword: "volume", commands: volume::COMMANDS },
    Group { name: "Secret", keyword: "secret", commands: secret::COMMANDS },
    Group { name: "Jobs and Events", keyword: "job", commands: job::COMMANDS },
    Group { name: "Host", keyword: "host", commands: host::COMMANDS },
    Group { name: "Cenote itself", keyword: "cenote", commands: own::COMMANDS },
];

/// The command of this name.
pub(crate) fn find(name: &str) -> Option<&'static Command> {
    GROUPS.iter().flat_map(|group| group.commands).find(|command| command.name == name)
}
