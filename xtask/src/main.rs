//! Chores: `cargo xtask test`, `fuzz`, `bench`, and what takes long.

mod fuzz;
mod lab;
mod mutants;
mod setup;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test             install what the tests need, then run them all
  setup            install what the tests need
  lab [NAME…]      run the tests that need a kernel of their own, or those named like this, in a machine under QEMU
  lab shell        give a prompt in that machine
  lab record       have tools print there what the tests of their parsers read
  fuzz [SECONDS]   run every fuzz target for so long (default: 60)
  bench [PART]     compare with what there is (files, ceph), and print ratios
  simulate [STEPS] run the simulator for so many steps (default: 10,000,000)
  crash [ROUNDS]   kill the daemon so often (default: 1000), and a quarter of that on a full disk
  away [ROUNDS]    take servers away in the middle of calls so often (default: 100)
  soak [SECONDS]   mixed work with faults for so long (default: 3600)
  mutants [NAME]   make the mistakes in tests/mutants, one by one: a test has to find each
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["test"] => test(),
        ["setup"] => setup::install(),
        ["lab", "shell"] => lab::shell(),
        ["lab", "record"] => lab::record(),
        ["lab", names @ ..] => lab::run(names),
        ["fuzz"] => fuzz::run(60),
        ["fuzz", seconds] => seconds.parse().map_err(|_| USAGE.to_owned()).and_then(fuzz::run),
        ["bench", parts @ ..] => bench(parts),
        ["simulate"] => long("simulator", "cenote-engine", "CENOTE_SIM_STEPS", "10000000"),
        ["simulate", steps] => long("simulator", "cenote-engine", "CENOTE_SIM_STEPS", steps),
        ["crash"] => long("crash", "cenoted", "CENOTE_CRASH_ROUNDS", "1000"),
        ["crash", rounds] => long("crash", "cenoted", "CENOTE_CRASH_ROUNDS", rounds),
        ["away"] => long("away", "cenoted", "CENOTE_AWAY_ROUNDS", "100"),
        ["away", rounds] => long("away", "cenoted", "CENOTE_AWAY_ROUNDS", rounds),
        ["soak"] => long("soak", "cenoted", "CENOTE_SOAK_SECONDS", "3600"),
        ["soak", seconds] => long("soak", "cenoted", "CENOTE_SOAK_SECONDS", seconds),
        ["mutants"] => mutants::run(None),
        ["mutants", name] => mutants::run(Some(name)),
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
    every_test_is_run()?;
    mutants::check()?;
    run(cargo(&["fmt", "--all", "--check"]))?;
    run(cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    run(cargo(&["test", "--workspace"]))?;
    lab::run(&[])?;
    fuzz::run(30)
}

/// A file in `tests/` that no crate names would be passed over without a word.
fn every_test_is_run() -> Result<(), String> {
    let read = |path: PathBuf| std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()));
    let manifests =
        read(root().join("crates/cenote/Cargo.toml"))? + &read(root().join("crates/cenoted/Cargo.toml"))?;
    for folder in ["tests/host", "tests/clients"] {
        let entries = std::fs::read_dir(root().join(folder)).map_err(|e| format!("{folder}: {e}"))?;
        for name in entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()) {
            if name.ends_with(".rs") && !manifests.contains(&format!("path = \"../../{folder}/{name}\"")) {
                return Err(format!("{folder}/{name} is run by nobody: give it a [[test]] in a Cargo.toml"));
            }
        }
    }
    Ok(())
}

/// A test that goes on for as long as it is told to, with nothing skipped.
fn long(test: &str, package: &str, variable: &str, length: &str) -> Result<(), String> {
    setup::install()?;
    run(cargo(&["build", "--quiet", "--release", "--package", "cenote", "--package", "cenoted"]))?;
    let mut command = cargo(&["test", "--quiet", "--release", "--package", package, "--test", test]);
    command.args(["--", "--nocapture", "--test-threads=1"]);
    command.env(variable, length).env("CENOTE_TEST_REQUIRE", "all");
    run(command)
}

fn bench(parts: &[&str]) -> Result<(), String> {
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
    compare.args([release.join("cenote"), release.join("cenoted")]).args(parts);
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
