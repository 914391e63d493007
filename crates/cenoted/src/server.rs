//! The sockets, and what all clients share.

use crate::client::{self, Client, Rights};
use crate::config::Config;
use cenote_engine::{Engine, Layout};
use cenote_model::event::PoolEvent;
use cenote_model::{Code, Error, Result};
use rustix::fs::Mode;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};

/// So many clients are served at once; more wait to be accepted.
const MAX_CLIENTS: usize = 5000;
/// How long streams may go on after the daemon was told to end.
const GRACE: Duration = Duration::from_secs(5);
/// How soon a new volume, and what was uploaded, is on its medium.
const FLUSH: Duration = Duration::from_secs(1);

/// Where the sockets are.
pub(crate) struct Sockets {
    rw: PathBuf,
    ro: PathBuf,
}

impl Sockets {
    pub(crate) fn under(prefix: &Path) -> Sockets {
        Sockets::in_folder(&prefix.join("run/libvirt"))
    }

    /// Those of this user.
    pub(crate) fn session() -> Result<Sockets> {
        let layout = Layout::session()?;
        Ok(Sockets::in_folder(layout.run().parent().unwrap_or(layout.run())))
    }

    fn in_folder(folder: &Path) -> Sockets {
        Sockets { rw: folder.join("virtstoraged-sock"), ro: folder.join("virtstoraged-sock-ro") }
    }
}

/// What all clients share.
pub(crate) struct Server {
    pub(crate) engine: Arc<Engine>,
    clients: Mutex<Vec<Weak<Client>>>,
    /// How many streams are open.
    pub(crate) streams: AtomicUsize,
}

impl Server {
    fn clients(&self) -> MutexGuard<'_, Vec<Weak<Client>>> {
        self.clients.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Tells all who want to know. Whoever does not take it is not waited for.
    fn tell(&self, event: &PoolEvent) {
        let clients: Vec<_> = self.clients().iter().filter_map(Weak::upgrade).collect();
        clients.iter().for_each(|client| client.tell(event));
    }
}

/// Serves until a signal says that it is enough.
pub(crate) async fn run(engine: Arc<Engine>, sockets: &Sockets, config: Config) -> Result<()> {
    let failed = |e: std::io::Error| Error::system("cannot wait for signals", &e);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let server = Arc::new(Server { engine, clients: Mutex::default(), streams: AtomicUsize::new(0) });
    let events = server.engine.events().subscribe();
    let teller = Arc::downgrade(&server);
    std::thread::spawn(move || {
        for event in events {
            let Some(server) = teller.upgrade() else { break };
            server.tell(&event);
        }
    });
    let flushing = tokio::spawn(flush(Arc::clone(&server.engine)));
    let rw = listen(&sockets.rw, config.rw_mode)?;
    let ro = listen(&sockets.ro, config.ro_mode)?;
    eprintln!("cenoted: serving on '{}'", sockets.rw.display());
    let slots = Arc::new(tokio::sync::Semaphore::new(MAX_CLIENTS));
    loop {
        // Waiting for a slot must not keep a signal waiting.
        let accept = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            let (stream, rights) = tokio::select! {
                accepted = rw.accept() => (accepted, Rights::Everything),
                accepted = ro.accept() => (accepted, Rights::Reading),
            };
            (slot, stream, rights)
        };
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            (slot, accepted, rights) = accept => match accepted {
                Ok((stream, _)) => server.welcome(stream, rights, slot),
                Err(e) => {
                    // Out of file descriptors, most likely: others have to go first.
                    eprintln!("cenoted: cannot accept a client: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    for socket in [&sockets.rw, &sockets.ro] {
        let _ = std::fs::remove_file(socket);
    }
    flushing.abort();
    server.wind_up().await;
    Ok(())
}

impl Server {
    fn welcome<S: Send + 'static>(self: &Arc<Server>, stream: UnixStream, rights: Rights, slot: S) {
        let server = Arc::clone(self);
        tokio::spawn(async move {
            client::serve(server, stream, rights).await;
            drop(slot);
        });
    }

    /// From now on the client is told what it wants to know.
    pub(crate) fn greet(&self, client: &Arc<Client>) {
        let mut clients = self.clients();
        clients.retain(|client| client.strong_count() > 0);
        clients.push(Arc::downgrade(client));
    }

    /// Lets streams end, for a while.
    async fn wind_up(&self) {
        let ended = async {
            while self.streams.load(Ordering::Acquire) > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            eprintln!("cenoted: streams that have not ended are broken off");
        }
    }
}

/// Brings new volumes to their medium, again and again.
async fn flush(engine: Arc<Engine>) {
    loop {
        tokio::time::sleep(FLUSH).await;
        let engine = Arc::clone(&engine);
        match tokio::task::spawn_blocking(move || engine.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("cenoted: {error}"),
            Err(_) => return,
        }
    }
}

/// A socket at this path, in place of one that a daemon left when it was killed: the lock says that none is alive.
fn listen(path: &Path, mode: u32) -> Result<UnixListener> {
    let failed = |e: std::io::Error| Error::system(format!("cannot listen on '{}'", path.display()), &e);
    let folder = path.parent().ok_or_else(|| Error::new(Code::Internal, "a socket needs a directory"))?;
    std::fs::create_dir_all(folder).map_err(failed)?;
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    // Nobody gets in before the mode is set.
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound.map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}
