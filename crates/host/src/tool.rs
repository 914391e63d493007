//! Running tools: an argument vector, no shell, a bounded output, a way to stop it.

use crate::tied::tie;
use cenote_model::Job;
use cenote_model::error::cause_text;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// What is kept of each of a tool's outputs.
const MAX_OUTPUT: u64 = 16 << 20;
/// How often it is looked whether a tool has ended, or shall end.
const POLL: Duration = Duration::from_millis(2);
/// How often it is looked whether a tool gives a sign of life.
const LOOK: Duration = Duration::from_millis(500);

/// Why a tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not installed.
    #[error("unable to find {0}: it is not installed")]
    Missing(&'static str),
    /// It could not be started.
    #[error("cannot run {tool}: {}", cause_text(.cause))]
    Start {
        /// The tool.
        tool: &'static str,
        /// The system's reason.
        cause: io::Error,
    },
    /// It ended with an error.
    #[error("{tool} {args} failed: {status}: {stderr}")]
    Failed {
        /// The tool.
        tool: &'static str,
        /// Its arguments, for people.
        args: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// The job was told to stop.
    #[error(transparent)]
    Stopped(#[from] cenote_model::Error),
}

/// A run of a tool, being prepared.
pub struct Tool {
    name: &'static str,
    path: PathBuf,
    args: Vec<OsString>,
    secrets: Vec<File>,
    input: Option<File>,
}

/// File descriptors that a child shall inherit are inheritable for the moment of its start; no other child may be
/// started in that moment.
static STARTING: Mutex<()> = Mutex::new(());

impl Tool {
    pub(crate) fn at(name: &'static str, path: PathBuf) -> Tool {
        Tool { name, path, args: Vec::new(), secrets: Vec::new(), input: None }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Tool {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Tool {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Gives the tool a secret to read, from memory that no other process sees. Returns the path to name it by.
    pub fn secret(&mut self, value: &[u8]) -> io::Result<String> {
        let mut memory = File::from(memfd_create("secret", MemfdFlags::CLOEXEC)?);
        memory.write_all(value)?;
        let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
        self.secrets.push(memory);
        Ok(path)
    }

    /// Gives the tool something to read.
    pub fn input(mut self, bytes: &[u8]) -> io::Result<Tool> {
        let mut memory = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
        memory.write_all(bytes)?;
        memory.rewind()?;
        self.input = Some(memory);
        Ok(self)
    }

    /// Runs it to its end and returns what it printed. It is killed if the job shall stop.
    pub fn run(self, job: &Job) -> Result<Vec<u8>, ToolError> {
        let mut child = self.start().map_err(|cause| ToolError::Start { tool: self.name, cause })?;
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        let ended = wait(&mut child, job);
        let collected = |thread: Option<thread::JoinHandle<Vec<u8>>>| {
            thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
        };
        let (stdout, stderr) = (collected(stdout), collected(stderr));
        let status = ended.map_err(|stop| match stop {
            Stop::Job(error) => ToolError::Stopped(error),
            Stop::System(cause) => ToolError::Start { tool: self.name, cause },
        })?;
        if status.success() {
            return Ok(stdout);
        }
        let args: Vec<_> = self.args.iter().map(|arg| arg.to_string_lossy()).collect();
        Err(ToolError::Failed {
            tool: self.name,
            args: args.join(" "),
            status,
            stderr: String::from_utf8_lossy(&stderr).trim().to_owned(),
        })
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        command
            .args(&self.args)
            .env("LC_ALL", "C")
            .stdin(self.input.as_ref().map_or(Ok(Stdio::null()), |input| input.try_clone().map(Stdio::from))?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        tie(&mut command);
        // A poisoned lock guards nothing but the moment.
        let _alone = STARTING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for secret in &self.secrets {
            fcntl_setfd(secret, FdFlags::empty())?;
        }
        let started = command.spawn();
        for secret in &self.secrets {
            fcntl_setfd(secret, FdFlags::CLOEXEC)?;
        }
        started
    }
}

enum Stop {
    Job(cenote_model::Error),
    System(io::Error),
}

fn wait(child: &mut Child, job: &Job) -> Result<ExitStatus, Stop> {
    let (mut looked, mut seen) = (Instant::now(), None);
    loop {
        if looked.elapsed() >= LOOK {
            let activity = activity(child.id());
            if activity != seen {
                job.alive();
            }
            (looked, seen) = (Instant::now(), activity);
        }
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => {}
            Err(cause) => return Err(Stop::System(cause)),
        }
        if let Err(error) = job.check() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Stop::Job(error));
        }
        thread::sleep(POLL);
    }
}

/// What a process has done: the time that it and its children have worked, and what it has read and written.
fn activity(process: u32) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, which may be anything, is in parentheses; the times are four fields, from the 12th after it on.
    let times = stat.rsplit(')').next()?.split_whitespace().skip(11).take(4).collect();
    Some((times, fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default()))
}

/// Reads an output to its end so that the tool never waits, and keeps a bounded part of it.
fn collect(output: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        let mut output = output.take(MAX_OUTPUT);
        let _ = output.read_to_end(&mut kept);
        let _ = io::copy(&mut output.into_inner(), &mut io::sink());
        kept
    })
}

/// Looks for a tool on the path, and where administrators' tools are.
pub(crate) fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Host;

    fn sh(script: &str) -> Tool {
        Host::new().tool("sh").unwrap().arg("-c").arg(script)
    }

    #[test]
    fn output_and_failure() {
        let job = Job::new(0, "test");
        assert_eq!(sh("echo out; echo err >&2").run(&job).unwrap(), b"out\n");
        let error = sh("echo reason >&2; exit 3").run(&job).unwrap_err();
        assert!(error.to_string().ends_with("exit status: 3: reason"), "{error}");
        let error = Host::new().tool("no-such-tool").err().unwrap();
        assert_eq!(error.to_string(), "unable to find no-such-tool: it is not installed");
    }

    #[test]
    fn what_it_is_given_to_read() {
        let job = Job::new(0, "test");
        assert_eq!(sh("wc -c").input(&[7; 100_000]).unwrap().run(&job).unwrap(), b"100000\n");
    }

    #[test]
    fn endless_output_is_bounded_and_a_cancelled_tool_is_killed() {
        let job = Job::new(0, "test");
        let kept = sh("head -c 20000000 /dev/zero").run(&job).unwrap();
        assert_eq!(kept.len() as u64, MAX_OUTPUT);
        job.cancel();
        let started = std::time::Instant::now();
        assert!(matches!(sh("exec sleep 60").run(&job), Err(ToolError::Stopped(_))));
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_tool_that_works_gives_signs_of_life_and_one_that_waits_gives_none() {
        let silence = |script: &str| {
            let job = Job::new(0, "test");
            let _ = sh(script).run(&job);
            job.silence()
        };
        let (works, waits) = (
            silence("end=$(($(date +%s) + 4)); while [ $(date +%s) -lt $end ]; do :; done"),
            silence("exec sleep 3"),
        );
        // The first look may find that it has begun.
        assert!(waits >= Duration::from_secs(2), "{waits:?}");
        assert!(works < waits, "{works:?}, {waits:?}");
    }

    #[test]
    fn a_secret_reaches_the_tool_and_no_other() {
        let job = Job::new(0, "test");
        let mut tool = sh("cat \"$0\"; cat \"$0\"");
        let path = tool.secret(b"xyzzy").unwrap();
        assert_eq!(tool.arg(&path).run(&job).unwrap(), b"xyzzyxyzzy");
        let mut holder = sh("true");
        let held = holder.secret(b"other").unwrap();
        assert!(sh("cat \"$0\"").arg(held).run(&job).is_err());
    }
}
