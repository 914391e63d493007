//! The lab: a machine with a real kernel, under QEMU's software emulation, for what this machine's kernel may lack.

mod image;
mod machine;

use crate::{cargo, root, run as must_run};
use machine::{Machine, UP};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The part of a test's name that says that it belongs before, or after, the lab's reboot.
const PARTS: [&str; 2] = ["before_reboot", "after_reboot"];

/// What measures is run when it is asked for.
const MEASURING: &str = "measure::";

/// Runs the lab's tests, or those whose name contains one of these, and says which of them did not pass.
pub(crate) fn run(filters: &[&str]) -> Result<(), String> {
    // What is measured is what people run.
    let is_measured = filters.iter().any(|filter| filter.starts_with("measure"));
    let machine = prepare(if is_measured { Build::Release } else { Build::Debug })?;
    let tests = machine.share("lab");
    let wanted = |name: &String| {
        name.starts_with(MEASURING) == is_measured
            && (filters.is_empty() || filters.iter().any(|filter| name.contains(filter)))
    };
    let (parts, whole): (Vec<_>, Vec<_>) = names(&tests)?
        .into_iter()
        .filter(wanted)
        .partition(|name| PARTS.iter().any(|part| name.contains(part)));
    if parts.is_empty() && whole.is_empty() {
        return Err(format!("no test of the lab is named like '{}'", filters.join("' or '")));
    }
    let [before, after] =
        PARTS.map(|part| parts.iter().filter(|name| name.contains(part)).cloned().collect());
    let output = machine.run(&script(&[whole, before, after]))?;
    if let Ok(measured) = std::fs::read_to_string(machine.share("measured")) {
        print!("{measured}");
    }
    let passed = |name: &String| output.lines().any(|line| line == format!("test {name} ... ok"));
    let missing: Vec<_> = names(&tests)?.into_iter().filter(wanted).filter(|name| !passed(name)).collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!("in the lab these did not pass: {}", missing.join(", "))),
    }
}

/// Gives a prompt in the lab.
pub(crate) fn shell() -> Result<(), String> {
    prepare(Build::Debug)?.shell()
}

/// Has tools print in the lab what the tests of their parsers read.
pub(crate) fn record() -> Result<(), String> {
    let machine = prepare(Build::Debug)?;
    let script = root().join("tests/lab/record");
    let script = std::fs::read_to_string(&script).map_err(|e| format!("{}: {e}", script.display()))?;
    machine.run(&script)?;
    let mut copy = Command::new("cp");
    copy.arg("-rT").arg(machine.share("golden")).arg(root().join("crates/backend/tests/golden"));
    must_run(copy)
}

/// What the lab runs: the tests that need no reboot, what comes before it, and what comes after it.
fn script([whole, before, after]: &[Vec<String>; 3]) -> String {
    let tests = |names: &[String]| match names {
        [] => "true".to_owned(),
        names => format!("/share/lab --exact --include-ignored --test-threads=1 {}", names.join(" ")),
    };
    let reboot = match after.is_empty() {
        true => "exit 0",
        false => {
            &format!("touch /share/rebooted; sync; rm /share/{UP}; echo b > /proc/sysrq-trigger; sleep 60")
        }
    };
    format!(
        "export CENOTE_TEST_REQUIRE=all RUST_BACKTRACE=1\n\
         if [ -e /share/rebooted ]; then {after}; exit; fi\n\
         {whole}\n{before}\n{reboot}\n",
        whole = tests(whole),
        before = tests(before),
        after = tests(after),
    )
}

/// How what is under test is built.
#[derive(Clone, Copy)]
enum Build {
    Debug,
    Release,
}

/// The machine, with what is under test in its shared folder.
fn prepare(build: Build) -> Result<Machine, String> {
    let image = image::ready()?;
    let (profile, folder) = match build {
        Build::Debug => ("dev", "debug"),
        Build::Release => ("release", "release"),
    };
    must_run(cargo(&[
        "build",
        "--quiet",
        "--profile",
        profile,
        "--package",
        "cenote",
        "--package",
        "cenoted",
    ]))?;
    let machine = Machine::new(image)?;
    let built = root().join("target").join(folder);
    for (program, name) in
        [(built.join("cenote"), "cenote"), (built.join("cenoted"), "cenoted"), (build_tests()?, "lab")]
    {
        // What is for debuggers would be most of what has to be read through QEMU.
        let mut strip = Command::new("strip");
        strip.arg("--strip-debug").arg("-o").arg(machine.share(name)).arg(program);
        must_run(strip)?;
    }
    Ok(machine)
}

fn build_tests() -> Result<PathBuf, String> {
    let args =
        ["test", "--quiet", "--package", "cenoted", "--test", "lab", "--no-run", "--message-format=json"];
    let built = cargo(&args).stderr(Stdio::inherit()).output().map_err(|e| format!("cargo: {e}"))?;
    let messages = String::from_utf8_lossy(&built.stdout);
    let executable = messages
        .lines()
        .filter(|line| line.contains("\"name\":\"lab\""))
        .find_map(|line| line.split_once("\"executable\":\"")?.1.split_once('"'))
        .map(|(path, _)| PathBuf::from(path));
    executable.filter(|_| built.status.success()).ok_or_else(|| "the lab's tests do not build".to_owned())
}

fn names(tests: &Path) -> Result<Vec<String>, String> {
    let listed = Command::new(tests)
        .args(["--list", "--format=terse"])
        .output()
        .map_err(|e| format!("{tests:?}: {e}"))?;
    let text = String::from_utf8_lossy(&listed.stdout);
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}
