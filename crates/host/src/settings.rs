//! libvirt's configuration files: `name = value` on a line, `#` before comments.

use cenote_model::{Code, Error, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What a configuration file says.
#[derive(Debug, Default)]
pub struct Settings {
    path: PathBuf,
    settings: Vec<Setting>,
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The number of its line, from 1.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// Its value, without quotes.
    pub value: String,
}

impl Settings {
    /// Reads a file. One that does not exist has no settings.
    pub fn read(path: &Path) -> Result<Settings> {
        match std::fs::read_to_string(path) {
            Ok(text) => Settings::parse(path, &text),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Settings::default()),
            Err(e) => Err(Error::system(format!("cannot read '{}'", path.display()), &e)),
        }
    }

    /// Reads the text of the file at this path.
    pub fn parse(path: &Path, text: &str) -> Result<Settings> {
        let mut settings = Settings { path: path.to_owned(), settings: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            let (number, line) = (number + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) =
                line.split_once('=').ok_or_else(|| settings.wrong(number, "expected NAME = VALUE"))?;
            settings.settings.push(Setting {
                line: number,
                name: name.trim().to_owned(),
                value: value.trim().trim_matches('"').to_owned(),
            });
        }
        Ok(settings)
    }

    /// All settings, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.settings.iter()
    }

    /// The last setting of this name.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().rfind(|setting| setting.name == name)
    }

    /// The error for what is wrong in a line.
    pub fn wrong(&self, line: usize, problem: impl std::fmt::Display) -> Error {
        Error::new(Code::ConfigUnsupported, format!("'{}', line {line}: {problem}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        let text = "# a comment\n\na = \"none\"\nb=1\na = x\n";
        let settings = Settings::parse(Path::new("/f"), text).unwrap();
        assert_eq!(settings.iter().count(), 3);
        assert_eq!(settings.get("a").map(|a| (a.line, a.value.as_str())), Some((5, "x")));
        assert!(settings.get("c").is_none());
        let error = Settings::parse(Path::new("/f"), "a = 1\nnonsense").unwrap_err();
        assert!(error.to_string().ends_with("'/f', line 2: expected NAME = VALUE"), "{error}");
        assert_eq!(Settings::read(Path::new("/nonexistent/f")).unwrap().iter().count(), 0);
    }
}
