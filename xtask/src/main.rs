//! Chores: `cargo xtask test`, `fuzz`, `bench`, `setup`.

mod fuzz;
mod setup;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test             install what the tests need, then run them all
  setup            install what the tests need
  fuzz [SECONDS]   run every fuzz target for so long (default: 60)
  bench            compare with what there is, and print ratios
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["test"] => test(),
        ["setup"] => setup::install(),
        ["fuzz"] => fuzz::run(60),
        ["fuzz", seconds] => seconds.parse().map_err(|_| USAGE.to_owned()).and_then(fuzz::run),
        ["bench"] => bench(),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Everything: what has to hold before a change lands.
fn test() -> Result<(), String> {
    setup::install()?;
    run(cargo(&["fmt", "--all", "--check"]))?;
    run(cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    run(cargo(&["test", "--workspace"]))?;
    fuzz::run(60)
}

fn bench() -> Result<(), String> {
    run(cargo(&[
        "build",
        "--quiet",
        "--release",
        "--package",
        "cenote",
        "--package",
        "cenoted",
        "--package",
        "cenote-benches",
    ]))?;
    let release = root().join("target/release");
    let mut compare = Command::new(release.join("compare"));
    compare.args([release.join("cenote"), release.join("cenoted")]);
    run(compare)
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Runs a command that must succeed.
fn run(mut command: Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(e) => Err(format!("{command:?}: {e}")),
    }
}

/// The top of the project.
fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}
