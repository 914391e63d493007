//! `cenote`: virsh's storage commands, with no daemon needed.

mod args;
mod command;
mod commands;
mod connection;
mod doctor;
mod editor;
mod failure;
mod interactive;
mod output;
mod parse;
mod progress;
mod shell;
mod xpath;

use args::{Args, Mode};
use shell::Shell;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = match words().and_then(|words| Args::parse(words.into_iter())) {
        Ok(args) => args,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    match args.mode {
        Mode::Help => {
            print!("{}", args::usage());
            ExitCode::SUCCESS
        }
        Mode::Version => {
            println!("{}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Mode::LongVersion => {
            print!("{}", args::long_version());
            ExitCode::SUCCESS
        }
        Mode::Commands(words) => Shell::new(&args.options).run_words(&words),
        Mode::Interactive => interactive::run(Shell::new(&args.options)),
    }
}

/// The words of the command line.
fn words() -> Result<Vec<String>, String> {
    std::env::args_os()
        .skip(1)
        .map(|word| word.into_string().map_err(|word| format!("argument {word:?} is no text in UTF-8")))
        .collect()
}
