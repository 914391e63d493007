//! The options before the command.

use crate::command::{GROUPS, Group};
use std::fmt::Write;
use std::path::PathBuf;

/// What was asked for.
pub(crate) struct Args {
    pub(crate) options: Options,
    pub(crate) mode: Mode,
}

/// How commands are run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// What to connect to.
    pub(crate) uri: Option<String>,
    /// The directory that holds the embedded state.
    pub(crate) prefix: Option<PathBuf>,
    pub(crate) quiet: bool,
    pub(crate) read_only: bool,
    pub(crate) timing: bool,
    pub(crate) json: bool,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Help,
    Version,
    LongVersion,
    /// Run this: one word that may hold several commands, or the words of one command.
    Commands(Vec<String>),
    /// Read commands from standard input.
    Interactive,
}

/// An option: its letter, its name, and whether a value follows.
struct Known {
    letter: Option<char>,
    name: &'static str,
    value: Value,
}

#[derive(PartialEq, Eq)]
enum Value {
    None,
    Needed,
    Optional,
}

const KNOWN: [Known; 10] = [
    Known { letter: Some('c'), name: "connect", value: Value::Needed },
    Known { letter: Some('h'), name: "help", value: Value::None },
    Known { letter: None, name: "json", value: Value::None },
    Known { letter: None, name: "prefix", value: Value::Needed },
    Known { letter: Some('q'), name: "quiet", value: Value::None },
    Known { letter: Some('r'), name: "readonly", value: Value::None },
    Known { letter: Some('t'), name: "timing", value: Value::None },
    Known { letter: Some('v'), name: "version", value: Value::Optional },
    Known { letter: Some('V'), name: "version=long", value: Value::None },
    Known { letter: Some('d'), name: "debug", value: Value::Needed },
];

impl Args {
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Args, String> {
        let mut words = words.peekable();
        let mut args = Args { options: Options::default(), mode: Mode::Interactive };
        while let Some(word) = words.next_if(|word| word.starts_with('-') && word != "-") {
            if word == "--" {
                break;
            }
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let known = long_option(name).ok_or_else(|| unsupported(&word))?;
                args.apply(known, value, &mut words)?;
            } else {
                let mut letters = word[1..].chars();
                while let Some(letter) = letters.next() {
                    let known = KNOWN
                        .iter()
                        .find(|known| known.letter == Some(letter))
                        .ok_or_else(|| unsupported(&format!("-{letter}")))?;
                    let rest = letters.as_str();
                    let value = (known.value == Value::Needed && !rest.is_empty()).then(|| rest.to_owned());
                    if value.is_some() {
                        letters = "".chars();
                    }
                    args.apply(known, value, &mut words)?;
                }
            }
            if args.mode != Mode::Interactive {
                return Ok(args);
            }
        }
        let commands: Vec<_> = words.collect();
        if !commands.is_empty() {
            args.mode = Mode::Commands(commands);
        }
        Ok(args)
    }

    fn apply(
        &mut self,
        known: &Known,
        value: Option<String>,
        words: &mut impl Iterator<Item = String>,
    ) -> Result<(), String> {
        let value = match known.value {
            Value::Needed => Some(value.or_else(|| words.next()).ok_or_else(|| {
                let letter = known.letter.map(|letter| format!("'-{letter}'/")).unwrap_or_default();
                format!("option {letter}'--{}' requires an argument", known.name)
            })?),
            Value::None if value.is_some() => {
                return Err(format!("option '--{}' takes no argument", known.name));
            }
            _ => value,
        };
        let options = &mut self.options;
        match known.name {
            "connect" => options.uri = value,
            "prefix" => options.prefix = value.map(PathBuf::from),
            "json" => options.json = true,
            "quiet" => options.quiet = true,
            "readonly" => options.read_only = true,
            "timing" => options.timing = true,
            "help" => self.mode = Mode::Help,
            "version=long" => self.mode = Mode::LongVersion,
            "version" => {
                self.mode = if value.as_deref() == Some("long") { Mode::LongVersion } else { Mode::Version };
            }
            // virsh takes a debug level; there is nothing to set here.
            _ => {}
        }
        Ok(())
    }
}

/// Long options may be shortened as long as they are clear, as getopt has it.
fn long_option(name: &str) -> Option<&'static Known> {
    let mut matching = KNOWN.iter().filter(|known| known.name.starts_with(name) && !known.name.contains('='));
    match (matching.next(), matching.next()) {
        (Some(known), None) => Some(known),
        (Some(first), Some(second)) => [first, second].into_iter().find(|known| known.name == name),
        _ => None,
    }
}

fn unsupported(option: &str) -> String {
    format!("unsupported option '{option}'. See --help.")
}

pub(crate) fn usage() -> String {
    let mut text = String::from(
        "
cenote [options]... [<command_string>]
cenote [options]... <command> [args...]

  options:
    -c | --connect=URI      what to connect to (default: CENOTE_URI, a cenoted of this
                            user, the embedded state; embedded: means the last)
         --prefix=DIR       keep the embedded state under DIR
    -h | --help             this help
         --json             print JSON
    -q | --quiet            quiet mode
    -r | --readonly         connect readonly
    -t | --timing           print timing information
    -v                      short version
    -V                      long version
         --version[=TYPE]   version, TYPE is short or long (default short)
  commands (non interactive mode):

",
    );
    for Group { name, keyword, commands } in GROUPS {
        let _ = writeln!(text, " {name} (help keyword '{keyword}')");
        for command in *commands {
            let _ = writeln!(text, "    {:<30} {}", command.name, command.help);
        }
        text.push('\n');
    }
    text.push_str("\n  (specify help <group> for details about the commands in the group)\n");
    text.push_str("\n  (specify help <command> for details about the command)\n\n");
    text
}

pub(crate) fn long_version() -> String {
    let kinds: Vec<_> = cenote_model::PoolKind::ALL.iter().map(|kind| kind.as_str()).collect();
    format!(
        "cenote {}: storage for virtual machines on Linux\n\nPool types: {}\n",
        env!("CARGO_PKG_VERSION"),
        kinds.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, String> {
        Args::parse(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn options_end_where_the_command_begins() {
        let args = parse(&["-qr", "--prefix", "/x", "pool-list", "--all"]).unwrap();
        assert!(args.options.quiet && args.options.read_only);
        assert_eq!(args.options.prefix, Some(PathBuf::from("/x")));
        assert_eq!(args.mode, Mode::Commands(vec!["pool-list".to_owned(), "--all".to_owned()]));
        assert_eq!(parse(&["-c", "embedded:", "--js"]).unwrap().mode, Mode::Interactive);
        assert_eq!(parse(&["-cembedded:"]).unwrap().options.uri.as_deref(), Some("embedded:"));
        assert_eq!(parse(&["--version=long"]).unwrap().mode, Mode::LongVersion);
        assert_eq!(parse(&["--vers"]).unwrap().mode, Mode::Version);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (words, message) in [
            (&["--foo"][..], "unsupported option '--foo'. See --help."),
            (&["-x"], "unsupported option '-x'. See --help."),
            (&["-c"], "option '-c'/'--connect' requires an argument"),
        ] {
            assert_eq!(parse(words).err().unwrap(), message);
        }
    }
}
