//! The same command lines on two sides, compared.

use crate::Libvirtd;
use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

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
pub fn normalize(text: &str, root: &Path) -> String {
    let text = text.replace(root.to_str().unwrap(), "{D}");
    let (mut in_pool, mut in_info) = (false, false);
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        in_pool = (in_pool || line.starts_with("<pool ")) && !line.starts_with("</pool>");
        let trimmed = line.trim_start();
        let is_time =
            ["<atime>", "<mtime>", "<ctime>", "<btime>"].iter().any(|time| trimmed.starts_with(time));
        // `pool-info` says whether it is persistent, `vol-info` does not.
        in_info = (in_info || line.starts_with("Persistent:")) && !line.trim().is_empty();
        let is_fullness = (in_pool
            && (trimmed.starts_with("<allocation") || trimmed.starts_with("<available")))
            || (in_info && line.starts_with("Allocation:"))
            || line.starts_with("Available:");
        // Only a row about a pool has three sizes.
        if line.matches("iB ").count() >= 2 && line.trim_end().ends_with("iB") {
            out.extend(line.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }));
        } else if is_time || is_fullness {
            let label = trimmed.find(['>', ' ', ':']).unwrap_or(trimmed.len());
            let _ = writeln!(out, "{}…", &trimmed[..label]);
        } else {
            out.push_str(&without_uuids(line));
        }
    }
    out
}

/// UUIDs, and those that LVM makes.
fn without_uuids(line: &str) -> String {
    let is_lvm = |word: &str| {
        let lengths = word
            .split('-')
            .map(|part| if part.bytes().all(|c| c.is_ascii_alphanumeric()) { part.len() } else { 0 });
        lengths.eq([6, 4, 4, 4, 4, 4, 6])
    };
    let word = line.split(|c: char| c.is_whitespace() || matches!(c, '<' | '>')).find(|word| is_lvm(word));
    let line = word.map_or_else(|| line.to_owned(), |word| line.replace(word, "LVM-UUID"));
    let mut out = String::new();
    let mut rest = line.as_str();
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

/// One of the two that are compared.
struct Side<'s> {
    /// A directory of its own, which `{D}` in a line stands for.
    root: &'s Path,
    /// Runs a command line.
    run: &'s dyn Fn(&[String]) -> Output,
}

/// The list of command lines, and where differences are explained.
const COMMANDS: &str = include_str!("../../clients/commands.txt");
const DIFFERENCES: &str = include_str!("../../../docs/differences.md");

/// Sends the list of command lines through virsh, on a libvirtd of its own, and through ours. `folder` is for both.
pub fn compare_with_virsh(who: &str, folder: &Path, ours: &dyn Fn(&[String]) -> Output) {
    assert!(compare_lines(COMMANDS, who, folder, ours) >= 150);
}

/// Sends every line of a list through virsh, on a libvirtd of its own, and then through ours; each has a directory in
/// `folder`. Lines that begin with `! ` are for a shell; `~NAME` says that our engine answers the next line differently,
/// for the reason that `docs/differences.md` has under the heading NAME, and `~NAME WHO...` that it is so where our side is
/// one of these: `embedded` (cenote by itself), `cenoted` (virsh on cenoted), `remote` (cenote on cenoted), `libvirtd`
/// (cenote on libvirtd). Panics with all that is not as it should be; says how many lines were answered alike.
pub fn compare_lines(list: &str, who: &str, folder: &Path, ours: &dyn Fn(&[String]) -> Output) -> usize {
    let (their_root, our_root) = (folder.join("a"), folder.join("b"));
    for root in [&their_root, &our_root] {
        std::fs::create_dir(root).unwrap();
    }
    let libvirtd = Libvirtd::start(&folder.join("libvirt"));
    let virsh = |args: &[String]| libvirtd.virsh(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let theirs = Side { root: &their_root, run: &virsh }.answers(list);
    drop(libvirtd);
    let ours = Side { root: &our_root, run: ours }.answers(list);
    compare(list, who, theirs, ours)
}

impl Side<'_> {
    /// What it answers to the command lines of a list, one after the other.
    fn answers(&self, list: &str) -> Vec<Answer> {
        let mut answers = Vec::new();
        for line in lines(list) {
            let line = line.replace("{D}", self.root.to_str().unwrap());
            if let Some(script) = line.strip_prefix("! ") {
                // What it says is shown if it fails, and does not get between the lines of the test. A pipe would be held
                // open by servers that it starts.
                let said = self.root.with_extension("said");
                let errors = std::fs::File::create(&said).unwrap();
                let mut shell = Command::new("sh");
                shell.args(["-ec", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
                let has_worked = shell.status().unwrap().success();
                let said = std::fs::read_to_string(&said).unwrap_or_default();
                assert!(has_worked, "failed in {}: {script}\n{said}", self.root.display());
            } else if !line.starts_with('~') {
                let words = match line.strip_prefix("@ ") {
                    Some(line) => vec![line.to_owned()],
                    None => words(&line),
                };
                answers.push(Answer::new(&(self.run)(&words), self.root));
            }
        }
        answers
    }
}

/// The lines of a list without its comments.
fn lines(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter(|line| !line.is_empty() && !line.starts_with("# ") && *line != "#")
}

fn compare(list: &str, who: &str, theirs: Vec<Answer>, ours: Vec<Answer>) -> usize {
    let (mut alike, mut different, mut wrong) = (0, 0, String::new());
    let mut reason = None;
    let mut answers = theirs.into_iter().zip(ours);
    for line in lines(list).filter(|line| !line.starts_with("! ")) {
        if let Some(mark) = line.strip_prefix('~') {
            let (id, sides) = mark.split_once(' ').unwrap_or((mark, "embedded cenoted remote"));
            assert!(DIFFERENCES.contains(&format!("### {id}\n")), "{id} is in no list of differences");
            reason = sides.split(' ').any(|side| side == who).then_some(id);
            continue;
        }
        let (their_answer, our_answer) = answers.next().unwrap();
        match (their_answer == our_answer, reason.take()) {
            (true, None) => alike += 1,
            (false, Some(_)) => different += 1,
            (true, Some(id)) => {
                let _ = writeln!(wrong, "=== {line}\nis answered alike, but said to differ: {id}");
            }
            (false, None) => {
                let _ = writeln!(wrong, "=== {line}\n--- theirs: {their_answer}--- ours: {our_answer}");
            }
        }
    }
    eprintln!("{alike} answered alike, {different} differently for reasons given");
    assert!(wrong.is_empty(), "{wrong}");
    alike
}
