//! Letting a person change a text.

use crate::failure::Failure;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;

/// A text in a file of its own, which is removed when the value is dropped.
pub(crate) struct Draft(PathBuf);

impl Draft {
    pub(crate) fn new(text: &str) -> Result<Draft, Failure> {
        let folder = std::env::temp_dir();
        let path = (0..1000).map(|n| folder.join(format!("cenote-{}-{n}.xml", std::process::id()))).find_map(
            |path| {
                let file = File::options().write(true).create_new(true).mode(0o600).open(&path).ok()?;
                Some((path, file))
            },
        );
        let Some((path, mut file)) = path else {
            return Err(Failure::said(format!("cannot create a temporary file in {}", folder.display())));
        };
        let draft = Draft(path);
        file.write_all(text.as_bytes()).map_err(|e| {
            Failure::said(format!("write: {}: failed to write to temporary file: {e}", draft.0.display()))
        })?;
        Ok(draft)
    }

    /// Runs the editor and returns the text as it is then.
    pub(crate) fn edit(&self) -> Result<String, Failure> {
        let editor =
            ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|e| !e.is_empty()));
        let editor = editor.unwrap_or_else(|| "vi".to_owned());
        let mut words = editor.split_ascii_whitespace();
        let program = words.next().unwrap_or("vi");
        let status = Command::new(program).args(words).arg(&self.0).status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(Failure::said(format!("{editor}: {status}"))),
            Err(e) => {
                return Err(Failure::said(format!("cannot run the editor '{editor}': {e}; set EDITOR")));
            }
        }
        let mut text = String::new();
        File::open(&self.0)
            .and_then(|mut file| file.read_to_string(&mut text))
            .map_err(|e| Failure::said(format!("cannot read '{}': {e}", self.0.display())))?;
        Ok(text)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
