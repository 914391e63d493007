//! The daemon's program: arguments, limits, threads.

mod allocator;
mod args;

use args::Args;
use cenote_engine::Layout;
use cenote_model::{Code, Error};
use cenoted::Daemon;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// How long the last flush may take.
const FLUSH: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(Args::Run(prefix)) => prefix,
        Ok(Args::Say(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("cenoted: {message}");
            return ExitCode::from(2);
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cenoted: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(prefix: Option<std::path::PathBuf>) -> Result<(), Error> {
    let layout = match prefix {
        Some(prefix) => Layout::under(&prefix).without_default_pool(),
        None if rustix::process::geteuid().is_root() => Layout::system(),
        None => Layout::session()?,
    };
    allocator::keep_small();
    // Each client takes a file descriptor. With fewer than could be had, fewer are served.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let runtime = cenoted::runtime().map_err(|e| Error::system("cannot start threads", &e))?;
    let daemon = Daemon::open(layout)?;
    let result = runtime.block_on(daemon.run());
    daemon.cancel_jobs();
    // A call, or a file, that hangs in the system must not keep the daemon from ending.
    runtime.shutdown_timeout(Duration::from_secs(1));
    let (sender, flushed) = channel();
    let daemon = Arc::new(daemon);
    let flushing = Arc::clone(&daemon);
    thread::spawn(move || sender.send(flushing.flush()));
    let flushed = flushed.recv_timeout(FLUSH);
    // The system keeps a process whose threads hang in storage, with its locks, until they do so no more.
    daemon.release();
    result.and(flushed.unwrap_or_else(|_| {
        Err(Error::new(Code::OperationTimeout, "storage does not answer: not everything is on its medium"))
    }))
}
