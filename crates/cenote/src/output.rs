//! What is printed: text in virsh's layout, or JSON.

use crate::failure::Failure;
use cenote_model::Error;
use serde_json::{Value, json};
use std::fmt::Display;
use std::io::{self, Write};
use unicode_width::UnicodeWidthChar;

/// Where results go.
#[derive(Clone)]
pub(crate) struct Output {
    quiet: bool,
    json: bool,
}

impl Output {
    pub(crate) fn new(quiet: bool, json: bool) -> Output {
        Output { quiet, json }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Prints a result as it is. A reader that has gone away ends the program, as a pipe's end does.
    pub(crate) fn print(&self, text: impl Display) {
        let mut stdout = io::stdout().lock();
        if write!(stdout, "{text}").and_then(|()| stdout.flush()).is_err() {
            std::process::exit(1);
        }
    }

    /// Prints what need not be text.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        let mut stdout = io::stdout().lock();
        if stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err() {
            std::process::exit(1);
        }
    }

    /// Prints what is not part of the result, unless it shall be quiet.
    pub(crate) fn extra(&self, text: impl Display) {
        if !self.quiet && !self.json {
            self.print(text);
        }
    }

    /// Says what was done.
    pub(crate) fn done(&self, text: impl Display, json: Value) {
        if self.json {
            self.print_json(&json);
        } else {
            self.extra(format_args!("{text}\n"));
        }
    }

    /// Prints a result in the form that was asked for.
    pub(crate) fn result(&self, json: impl FnOnce() -> Value, text: impl FnOnce() -> String) {
        if self.json {
            self.print_json(&json());
        } else {
            self.print(text());
        }
    }

    /// Says why something failed: in words, or as JSON.
    pub(crate) fn error(&self, failure: &Failure) {
        let cause = failure.cause.as_ref();
        if !self.json {
            for line in failure.said.iter().cloned().chain(cause.map(Error::to_string)) {
                eprintln!("error: {line}");
            }
            return;
        }
        eprintln!(
            "{}",
            json!({"error": {
                "what": failure.said.join("; "),
                "code": cause.map(|error| error.code as u32),
                "domain": cause.map(|error| error.domain as u32),
                "message": cause.map(Error::to_string),
            }})
        );
    }

    fn print_json(&self, json: &Value) {
        self.print(format_args!("{json:#}\n"));
    }

    /// Prints a table; without its head if it shall be quiet.
    pub(crate) fn table(&self, head: &[&str], rows: &[Vec<String>]) {
        self.print(table(head, rows, if self.quiet { Head::Hidden } else { Head::Shown }));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Head {
    Shown,
    Hidden,
}

fn table(head: &[&str], rows: &[Vec<String>], shown: Head) -> String {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let mut widths = vec![0; head.len()];
    let counted = rows.iter().chain((shown == Head::Shown).then_some(&head));
    for row in counted {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(width_of(cell));
        }
    }
    let line = |row: &[String]| {
        let last = row.len() - 1;
        let cells = row.iter().zip(&widths).enumerate().map(|(i, (cell, width))| {
            let padding = if i == last { 0 } else { width - width_of(cell) + 2 };
            format!(" {cell}{:padding$}", "")
        });
        cells.collect::<String>() + "\n"
    };
    let mut text = String::new();
    if shown == Head::Shown {
        text += &line(&head);
        text += &"-".repeat(widths.iter().map(|width| width + 3).sum());
        text.push('\n');
    }
    text + &rows.iter().map(|row| line(row)).collect::<String>()
}

/// Control characters, and the backslash of what looks like an escape, are written as escapes.
fn printable(cell: &str) -> String {
    let mut out = String::new();
    let mut rest = cell.chars().peekable();
    while let Some(c) = rest.next() {
        if c.is_control() || (c == '\\' && rest.peek() == Some(&'x')) {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                out.push_str(&format!("\\x{byte:02x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn width_of(cell: &str) -> usize {
    cell.chars().map(|c| c.width().unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_as_virsh_prints_them() {
        let rows = [vec!["a".to_owned(), "active".to_owned()], vec!["日本".to_owned(), "b\tc".to_owned()]];
        assert_eq!(
            table(&["Name", "State"], &rows, Head::Shown),
            " Name   State\n----------------\n a      active\n 日本   b\\x09c\n"
        );
        assert_eq!(table(&["Name", "State"], &rows, Head::Hidden), " a      active\n 日本   b\\x09c\n");
        assert_eq!(table(&["Name"], &[], Head::Shown), " Name\n-------\n");
    }
}
