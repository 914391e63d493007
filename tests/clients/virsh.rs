//! The same command lines through virsh, against libvirtd, and through cenote.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Libvirtd, am_root, have};
use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const COMMANDS: &str = include_str!("commands.txt");
const DIFFERENCES: &str = include_str!("../../docs/differences.md");

/// What a side answered, with what must differ made alike.
#[derive(PartialEq, Eq)]
struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Answer {
    fn new(output: &Output, root: &Path) -> Answer {
        let text = |bytes: &[u8]| normalize(&String::from_utf8_lossy(bytes), root);
        Answer { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {:?}\n{}{}", self.code, self.stdout, self.stderr)
    }
}

/// Paths, UUIDs and times differ between the sides, and so does how full the file system is from one moment to the
/// next.
fn normalize(text: &str, root: &Path) -> String {
    let text = text.replace(root.to_str().unwrap(), "{D}");
    let mut in_pool = false;
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        in_pool = (in_pool || line.starts_with("<pool ")) && !line.starts_with("</pool>");
        let trimmed = line.trim_start();
        let is_time =
            ["<atime>", "<mtime>", "<ctime>", "<btime>"].iter().any(|time| trimmed.starts_with(time));
        let is_fullness = (in_pool
            && (trimmed.starts_with("<allocation") || trimmed.starts_with("<available")))
            || line.starts_with("Available:");
        if is_time || is_fullness {
            let label = trimmed.find(['>', ' ', ':']).unwrap_or(trimmed.len());
            let _ = writeln!(out, "{}…", &trimmed[..label]);
        } else {
            out.push_str(&without_uuids(line));
        }
    }
    out
}

fn without_uuids(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(end) = rest.char_indices().nth(36).map_or(Some(rest.len()), |(end, _)| Some(end)) {
        let candidate = &rest[..end];
        let looks = candidate.len() == 36
            && candidate.bytes().enumerate().all(|(i, c)| match i {
                8 | 13 | 18 | 23 => c == b'-',
                _ => c.is_ascii_hexdigit(),
            });
        if looks && candidate != "00000000-0000-0000-0000-000000000000" {
            out.push_str("UUID");
            rest = &rest[end..];
        } else {
            let Some(c) = rest.chars().next() else { break };
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// Splits a line as a shell would, for the few forms that the list uses.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn virsh_and_cenote_answer_alike() {
    if !am_root() || !have("libvirtd") || !have("virsh") || !have("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (theirs, ours) = (folder.path().join("a"), folder.path().join("b"));
    for root in [&theirs, &ours] {
        std::fs::create_dir(root).unwrap();
    }
    let prefix = folder.path().join("libvirt");
    let libvirtd = Libvirtd::start(&prefix);
    // There is no `default` pool where definitions have been kept before.
    let state = folder.path().join("cenote");
    std::fs::create_dir_all(state.join("etc/libvirt/storage")).unwrap();

    let (mut alike, mut different, mut wrong) = (0, 0, String::new());
    let mut reason = None;
    for line in COMMANDS.lines().filter(|line| !line.is_empty() && !line.starts_with("# ") && *line != "#") {
        if let Some(script) = line.strip_prefix("! ") {
            for root in [&theirs, &ours] {
                let script = script.replace("{D}", root.to_str().unwrap());
                let status = Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).status().unwrap();
                if !status.success() {
                    let _ = writeln!(wrong, "=== failed in {}: {script}", root.display());
                }
            }
            continue;
        }
        if let Some(id) = line.strip_prefix('~') {
            assert!(DIFFERENCES.contains(&format!("### {id}\n")), "{id} is not in docs/differences.md");
            reason = Some(id);
            continue;
        }
        let args = |root: &Path| {
            let line = line.replace("{D}", root.to_str().unwrap());
            match line.strip_prefix("@ ") {
                Some(line) => vec![line.to_owned()],
                None => words(&line),
            }
        };
        let their_args = args(&theirs);
        let output = libvirtd.virsh(&their_args.iter().map(String::as_str).collect::<Vec<_>>());
        let their_answer = Answer::new(&output, &theirs);
        let output = Command::new(env!("CARGO_BIN_EXE_cenote"))
            .arg("--prefix")
            .arg(&state)
            .args(args(&ours))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let our_answer = Answer::new(&output, &ours);
        match (their_answer == our_answer, reason.take()) {
            (true, None) => alike += 1,
            (false, Some(_)) => different += 1,
            (true, Some(id)) => {
                let _ = writeln!(wrong, "=== {line}\nis answered alike, but said to differ: {id}");
            }
            (false, None) => {
                let _ = writeln!(wrong, "=== {line}\n--- virsh: {their_answer}--- cenote: {our_answer}");
            }
        }
    }
    eprintln!("{alike} answered alike, {different} differently for reasons given");
    assert!(wrong.is_empty(), "{wrong}");
    assert!(alike >= 150);
}
