//! `cenoted`: libvirt's storage daemon, on libvirt's sockets, with libvirt's files.
//!
//! A [`server`] accepts connections; each is a [`client`], which reads frames. A call is taken apart and answered in
//! [`calls`], on a thread where it may wait for storage; data goes through [`streams`].

#![warn(missing_docs)]

mod calls;
mod client;
mod config;
mod frame_reader;
mod identity;
mod metrics;
mod pool_filter;
mod secrets;
mod server;
mod streams;
mod work;

use cenote_engine::{Access, Engine, Layout, Noticing, Setup};
use cenote_model::Result;
use client::{Rights, Service};
use identity::SystemToken;
use secrets::SecretsHome;
use server::Server;
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

/// So many threads work on calls at once, at most.
const MAX_THREADS: usize = 8192;

/// The threads that a daemon runs on.
pub fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        // Calls on storage that hangs take one each; they must not be all that there are.
        .max_blocking_threads(MAX_THREADS)
        .build()
}

/// The storage of this machine, ready to be served.
pub struct Daemon {
    server: Arc<Server>,
    layout: Layout,
}

impl Daemon {
    /// Opens the state, which nobody else may have open.
    pub fn open(layout: Layout) -> Result<Daemon> {
        let token = Arc::new(SystemToken::ensure(&layout)?);
        let secrets = SecretsHome::find(&layout, &token)?;
        let setup = Setup::new(layout.clone(), secrets.for_storage(), Access::Write);
        let engine = Engine::open(Setup { noticing: Noticing::FromTheStart, ..setup })?;
        Ok(Daemon { server: Arc::new(Server::new(engine, secrets, token)), layout })
    }

    /// Serves on libvirt's sockets until a signal says that it is enough.
    pub async fn run(&self) -> Result<()> {
        server::run(Arc::clone(&self.server), &self.layout).await
    }

    /// Serves one client, as on the storage socket for everything, until it goes.
    pub async fn serve(&self, stream: UnixStream) {
        client::serve(Arc::clone(&self.server), stream, (Service::Storage, Rights::Everything)).await;
    }

    /// Breaks off what is under way.
    pub fn cancel_jobs(&self) {
        self.server.engine.jobs().cancel_all();
    }

    /// Gives up the state, so that another daemon may have it, even if threads of this one hang in storage.
    pub fn release(&self) {
        self.server.engine.release();
        self.server.secrets.release();
    }

    /// Returns when all that was made is on its medium.
    pub fn flush(&self) -> Result<()> {
        self.server.engine.flush()
    }
}
