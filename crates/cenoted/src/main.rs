//! `cenoted`: libvirt's storage daemon, on libvirt's sockets, with libvirt's files.
//!
//! A [`server`] accepts connections; each is a [`client`], which reads frames. A call is taken apart and answered in
//! [`calls`], on a thread where it may wait for storage; data goes through [`streams`].

mod args;
mod calls;
mod client;
mod config;
mod flags;
mod identity;
mod incoming;
mod secrets;
mod server;
mod streams;

use args::Args;
use cenote_engine::{Access, Engine, Jobs, Layout};
use cenote_host::Host;
use cenote_model::Error;
use identity::SystemToken;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use secrets::SecretsHome;
use server::Server;
use std::process::ExitCode;
use std::sync::Arc;

/// So many threads work on calls at once, at most.
const MAX_THREADS: usize = 8192;

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
    // Each client takes a file descriptor. With fewer than could be had, fewer are served.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Calls on storage that hangs take one each; they must not be all that there are.
        .max_blocking_threads(MAX_THREADS)
        .build()
        .map_err(|e| Error::system("cannot start threads", &e))?;
    let token = Arc::new(SystemToken::ensure(&layout)?);
    let secrets = SecretsHome::find(&layout, &token)?;
    // The lock on the state is what keeps another daemon from serving it.
    let engine =
        Engine::open(layout.clone(), Host::new(), secrets.for_storage(), Access::Write, Jobs::default())?;
    let engine = Arc::new(engine);
    let server = Arc::new(Server::new(Arc::clone(&engine), secrets, token));
    let result = runtime.block_on(server::run(server, &layout));
    engine.jobs().cancel_all();
    // A call that hangs in the system must not keep the daemon from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result.and(engine.flush())
}
