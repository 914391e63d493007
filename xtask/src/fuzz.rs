//! Running the fuzz targets with the compiler that there is: libFuzzer needs no other.

use crate::{cargo, root};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What cargo-fuzz tells the compiler, without the sanitizers, which only another compiler has. There is next to no
/// unsafe code for them to watch.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions --cfg fuzzing";
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

const TARGETS: [&str; 10] = [
    "xml_pool",
    "xml_volume",
    "xml_secret",
    "xml_sources",
    "image_probe",
    "image_names",
    "partitions",
    "tools",
    "wire",
    "session",
];

/// Runs every target for so many seconds, two at a time.
pub(crate) fn run(seconds: u32) -> Result<(), String> {
    let mut build = cargo(&["build", "--quiet", "--release", "--target", TRIPLE]);
    build.current_dir(root().join("fuzz")).env("RUSTFLAGS", FLAGS);
    crate::run(build)?;
    for pair in TARGETS.chunks(2) {
        let running: Vec<_> = pair
            .iter()
            .map(|target| Ok((*target, start(target, seconds)?)))
            .collect::<Result<_, String>>()?;
        for (target, child) in running {
            finish(target, child)?;
        }
    }
    Ok(())
}

fn start(target: &str, seconds: u32) -> Result<Child, String> {
    let fuzz = root().join("fuzz");
    let corpus = fuzz.join("corpus").join(target);
    let artifacts = fuzz.join("artifacts").join(target);
    for folder in [&corpus, &artifacts] {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    if target == "session" {
        write_sessions(&corpus).map_err(|e| format!("{}: {e}", corpus.display()))?;
    }
    if target == "tools" {
        write_outputs(&corpus).map_err(|e| format!("{}: {e}", corpus.display()))?;
    }
    // A pipe that nobody reads yet would hold it up.
    let log = File::create(log(target)).map_err(|e| format!("{target}: {e}"))?;
    Command::new(fuzz.join("target").join(TRIPLE).join("release").join(target))
        .arg(&corpus)
        .args(seeds(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=65536", "-print_final_stats=1"])
        // Where files may not grow, a write is to fail.
        .arg("-handle_xfsz=0")
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|e| format!("{target}: {e}"))
}

/// The examples of the tests are where fuzzing begins.
fn seeds(target: &str) -> Option<PathBuf> {
    let golden = root().join("crates/model/tests/golden");
    match target {
        "xml_pool" | "xml_sources" => Some(golden.join("pool")),
        "xml_volume" => Some(golden.join("volume")),
        "xml_secret" => Some(golden.join("secret")),
        _ => None,
    }
}

/// Sessions to begin with: each procedure, called with a pool, a volume or a secret that there is. The forms are those
/// of the target.
fn write_sessions(corpus: &Path) -> std::io::Result<()> {
    for procedure in 0..80 {
        for what in 1..=3 {
            let argument = [0xa5, what, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let record = [&[0, procedure, 1, argument.len() as u8][..], &argument].concat();
            std::fs::write(corpus.join(format!("call-{procedure}-{what}")), record)?;
        }
    }
    Ok(())
}

/// What tools have printed, each for its reader: the numbers are those of the target.
fn write_outputs(corpus: &Path) -> std::io::Result<()> {
    let golden = root().join("crates/backend/tests/golden");
    let outputs = [
        (0, "lvm-fullreport.json"),
        (1, "lvm-pvs.json"),
        (2, "zfs-list"),
        (3, "parted-gpt"),
        (3, "parted-dvh"),
        (5, "showmount"),
        (6, "iscsiadm-discovery"),
        (9, "mountinfo"),
    ];
    for (reader, name) in outputs {
        let output = [&[reader], std::fs::read(golden.join(name))?.as_slice()].concat();
        std::fs::write(corpus.join(name), output)?;
    }
    Ok(())
}

fn log(target: &str) -> PathBuf {
    root().join("fuzz/artifacts").join(format!("{target}.log"))
}

fn finish(target: &str, mut child: Child) -> Result<(), String> {
    let status = child.wait().map_err(|e| format!("{target}: {e}"))?;
    let log = std::fs::read(log(target)).map_err(|e| format!("{target}: {e}"))?;
    let log = String::from_utf8_lossy(&log);
    if !status.success() {
        return Err(format!("fuzzing {target} found a failure:\n{log}"));
    }
    let count = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    println!("fuzz {target}: {} runs", count.unwrap_or("?").trim());
    Ok(())
}
