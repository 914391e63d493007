//! What `virtstoraged.conf` says: `name = value` on a line, `#` before comments.

use cenote_engine::Layout;
use cenote_model::{Code, Error, Result};
use std::io::ErrorKind;

/// The settings that are followed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The mode of the socket for everything.
    pub(crate) rw_mode: u32,
    /// The mode of the socket for reading.
    pub(crate) ro_mode: u32,
}

/// Without another authentication, who may open the socket is who may use it.
const DEFAULT: Config = Config { rw_mode: 0o700, ro_mode: 0o777 };

/// Reads the settings; without a file they are the defaults. A setting that would be safer than what this version can
/// do is an error.
pub(crate) fn read(layout: &Layout) -> Result<Config> {
    let path = layout.config().with_file_name("virtstoraged.conf");
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text).map_err(|problem| {
            Error::new(Code::ConfigUnsupported, format!("'{}': {problem}", path.display()))
        }),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(DEFAULT),
        Err(e) => Err(Error::system(format!("cannot read '{}'", path.display()), &e)),
    }
}

fn parse(text: &str) -> Result<Config, String> {
    let mut config = DEFAULT;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = format!("line {}", number + 1);
        let (name, value) = line.split_once('=').ok_or_else(|| format!("{at}: expected NAME = VALUE"))?;
        let (name, value) = (name.trim(), value.trim().trim_matches('"'));
        let mode = || {
            u32::from_str_radix(value, 8)
                .ok()
                .filter(|mode| *mode <= 0o777)
                .ok_or_else(|| format!("{at}: '{value}' is no mode"))
        };
        match name {
            "auth_unix_rw" | "auth_unix_ro" if value != "none" => {
                return Err(format!("{at}: {name} = \"{value}\" is not supported yet: there is \"none\""));
            }
            "unix_sock_rw_perms" => config.rw_mode = mode()?,
            "unix_sock_ro_perms" => config.ro_mode = mode()?,
            _ => {}
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        let text = "# a comment\n\nauth_unix_rw = \"none\"\nunix_sock_rw_perms=\"0770\"\nmax_clients = 5\n";
        assert_eq!(parse(text), Ok(Config { rw_mode: 0o770, ..DEFAULT }));
        assert!(parse("auth_unix_rw = \"polkit\"").unwrap_err().contains("not supported"));
        assert!(parse("unix_sock_rw_perms = \"9\"").is_err());
        assert!(parse("nonsense").is_err());
    }
}
