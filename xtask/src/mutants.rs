//! Mistakes put in on purpose: each is a patch in `tests/mutants`, with the test that has to find it.

use crate::{cargo, root};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A test that is not at its end by then has found that something hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// A mistake.
struct Mutant {
    name: String,
    patch: PathBuf,
    /// The arguments of the `cargo test` that has to fail.
    test: Vec<String>,
}

fn mutants() -> Result<Vec<Mutant>, String> {
    let folder = root().join("tests/mutants");
    let mut mutants = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?.flatten() {
        let patch = entry.path();
        let Some(name) = patch.file_name().and_then(|name| name.to_str()?.strip_suffix(".patch")) else {
            continue;
        };
        let text = fs::read_to_string(&patch).map_err(|e| format!("{}: {e}", patch.display()))?;
        let test = text.lines().find_map(|line| line.strip_prefix("Found by: cargo test "));
        let test = test.ok_or_else(|| format!("{name}: nothing says what finds it"))?;
        let (name, test) = (name.to_owned(), test.split_whitespace().map(str::to_owned).collect());
        mutants.push(Mutant { name, patch, test });
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutants)
}

/// Every patch fits the code as it is.
pub(crate) fn check() -> Result<(), String> {
    for mutant in mutants()? {
        let mut apply = Command::new("git");
        apply.args(["apply", "--check"]).arg(&mutant.patch).current_dir(root());
        crate::run(apply)
            .map_err(|_| format!("tests/mutants/{}.patch does not fit any more", mutant.name))?;
    }
    Ok(())
}

/// Makes each mistake, or the one that is named, in a copy of the project, and runs the test that has to find it.
pub(crate) fn run(only: Option<&str>) -> Result<(), String> {
    let tree = copy()?;
    let mut survivors = Vec::new();
    for mutant in mutants()?.into_iter().filter(|mutant| only.is_none_or(|only| mutant.name == only)) {
        apply(&tree, &mutant.patch, &[])?;
        let started = Instant::now();
        let outcome = find(&tree, &mutant);
        apply(&tree, &mutant.patch, &["--reverse"])?;
        let took = started.elapsed().as_secs();
        match outcome? {
            Some(how) => println!("{}: found in {took} s: {how}", mutant.name),
            None => {
                println!("{}: NOT FOUND by {}", mutant.name, mutant.test.join(" "));
                survivors.push(mutant.name);
            }
        }
    }
    if survivors.is_empty() { Ok(()) } else { Err(format!("not found: {}", survivors.join(", "))) }
}

/// What is committed, beside what is worked on.
fn copy() -> Result<PathBuf, String> {
    let tree = root().join("target/mutants/tree");
    let _ = fs::remove_dir_all(&tree);
    fs::create_dir_all(&tree).map_err(|e| format!("{}: {e}", tree.display()))?;
    let mut copy = Command::new("sh");
    copy.args(["-c", "git archive HEAD | tar --extract --touch --directory \"$0\""])
        .arg(&tree)
        .current_dir(root());
    crate::run(copy)?;
    Ok(tree)
}

fn apply(tree: &Path, patch: &Path, how: &[&str]) -> Result<(), String> {
    let mut apply = Command::new("patch");
    apply.args(["--quiet", "--strip=1", "--input"]).arg(patch).args(how).current_dir(tree);
    crate::run(apply)
}

/// Runs the test. Says how it found the mistake, if it did.
fn find(tree: &Path, mutant: &Mutant) -> Result<Option<String>, String> {
    crate::run(into(cargo(&["build", "--quiet"]), tree))?;
    let log = tree.with_file_name(format!("{}.log", mutant.name));
    let file = || fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()));
    let mut test = cargo(&["test", "--quiet"]);
    test.args(&mutant.test);
    let mut child = into(test, tree)
        .stdout(file()?)
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("{}: {e}", mutant.name))?;
    let started = Instant::now();
    loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) if status.success() => return Ok(None),
            Some(_) => break,
            None if started.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return Ok(Some("it hangs".to_owned()));
            }
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    let text = fs::read_to_string(&log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let at = lines.iter().position(|line| line.contains("panicked at"));
    Ok(Some(at.and_then(|at| lines.get(at + 1)).map_or("it fails".to_owned(), |line| (*line).to_owned())))
}

fn into(mut command: Command, tree: &Path) -> Command {
    let target = tree.with_file_name("target");
    command.current_dir(tree).env("CARGO_TARGET_DIR", target).env("CENOTE_TEST_REQUIRE", "all");
    command
}
