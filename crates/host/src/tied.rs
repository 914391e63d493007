//! A child that dies with its parent: what kills this process must not leave a tool at work on a half made file.

#![allow(unsafe_code, reason = "the standard library has no safe way to do something between fork and exec")]

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has the system kill the child when the thread that starts it ends. That thread therefore waits for the child.
pub fn tie(command: &mut Command) {
    let parent = getpid();
    let tie = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // A parent that was gone before sends no signal any more.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::NotConnected.into()) }
    };
    // SAFETY: between fork and exec only async-signal-safe functions may be called. The closure calls prctl and
    // getppid, allocates nothing (an `ErrorKind` is no allocation) and takes no lock.
    unsafe {
        command.pre_exec(tie);
    }
}
