//! The sockets, and what all clients share.

use crate::client::{self, Client, Rights, Service};
use crate::config::{self, MetricsSocket};
use crate::identity::SystemToken;
use crate::metrics::{self, Metrics};
use crate::secrets::SecretsHome;
use cenote_engine::{Engine, Layout};
use cenote_model::{Code, Error, Result};
use rustix::fs::Mode;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// So many clients are served at once; more wait to be accepted.
const MAX_CLIENTS: usize = 5000;
/// How long streams may go on after the daemon was told to end.
const GRACE: Duration = Duration::from_secs(5);
/// So many may ask for metrics at once.
const MAX_SCRAPERS: usize = 16;

/// What all clients share.
pub(crate) struct Server {
    pub(crate) engine: Arc<Engine>,
    pub(crate) secrets: SecretsHome,
    pub(crate) token: Arc<SystemToken>,
    pub(crate) metrics: Metrics,
    clients: Mutex<Vec<Weak<Client>>>,
    /// How many streams are open.
    pub(crate) streams: AtomicUsize,
}

impl Server {
    pub(crate) fn new(engine: Arc<Engine>, secrets: SecretsHome, token: Arc<SystemToken>) -> Server {
        Server {
            engine,
            secrets,
            token,
            metrics: Metrics::new(),
            clients: Mutex::default(),
            streams: AtomicUsize::new(0),
        }
    }

    fn clients(&self) -> MutexGuard<'_, Vec<Weak<Client>>> {
        self.clients.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How many clients are connected.
    pub(crate) fn clients_now(&self) -> usize {
        self.clients().iter().filter(|client| client.strong_count() > 0).count()
    }

    /// Has every client told of what happens from now on. Whoever does not take it is not waited for.
    fn tell<E: Send + 'static>(
        self: &Arc<Server>,
        events: Receiver<E>,
        tell: impl Fn(&Arc<Client>, &E) + Send + 'static,
    ) {
        let server = Arc::downgrade(self);
        std::thread::spawn(move || {
            for event in events {
                let Some(server) = server.upgrade() else { break };
                let clients: Vec<_> = server.clients().iter().filter_map(Weak::upgrade).collect();
                clients.iter().for_each(|client| tell(client, &event));
            }
        });
    }
}

/// Serves until a signal says that it is enough.
pub(crate) async fn run(server: Arc<Server>, layout: &Layout) -> Result<()> {
    let failed = |e: std::io::Error| Error::system("cannot wait for signals", &e);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    server.tell(server.engine.events().subscribe(), |client, event| client.tell_of_pool(event));
    server.tell(server.engine.volume_events().subscribe(), |client, event| client.tell_of_volume(event));
    server.tell(server.secrets.events(), |client, event| client.tell_of_secret(event));
    let runtime = Handle::current();
    server.tell(server.engine.overdue().subscribe(), move |client, overdue| {
        client::wait_no_longer(client, overdue, &runtime);
    });
    server.metrics.tell_of(&server);
    // Who finds the socket of storage finds all of them.
    let mut sockets = vec![(Service::Storage, "virtstoraged")];
    if matches!(server.secrets, SecretsHome::Here(_)) {
        sockets.insert(0, (Service::Secrets, "virtsecretd"));
    }
    let sockets = sockets.into_iter().map(|(service, name)| {
        config::read(&layout.settings(&format!("{name}.conf"))).map(|config| (service, name, config))
    });
    // Nobody is served where a setting is wrong.
    let sockets = sockets.collect::<Result<Vec<_>>>()?;
    let metrics = config::metrics_socket(layout)?;
    server.engine.keep();
    let slots = Arc::new(Semaphore::new(MAX_CLIENTS));
    let mut paths = Vec::new();
    let mut listening = JoinSet::new();
    match metrics {
        MetricsSocket::Nowhere => {}
        MetricsSocket::Unix(path) => {
            let listener = listen(&path, 0o600, None)?;
            paths.push(path);
            listening.spawn(scrapers(Arc::clone(&server), async move || Ok(listener.accept().await?.0)));
        }
        MetricsSocket::Loopback(address) => {
            let failed = |e| Error::system(format!("cannot listen on {address}"), &e);
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            listening.spawn(scrapers(Arc::clone(&server), async move || Ok(listener.accept().await?.0)));
        }
    }
    for (service, name, config) in sockets {
        for (ending, rights, mode) in
            [("sock", Rights::Everything, config.rw_mode), ("sock-ro", Rights::Reading, config.ro_mode)]
        {
            let path = layout.sockets().join(format!("{name}-{ending}"));
            let listener = listen(&path, mode, config.group)?;
            listening.spawn(accept(Arc::clone(&server), listener, (service, rights), Arc::clone(&slots)));
            paths.push(path);
        }
    }
    eprintln!("cenoted: serving on '{}'", layout.sockets().display());
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // `systemctl reload` must not end it.
            _ = hangup.recv() => eprintln!("cenoted: settings are read at the start: restart it to have them read again"),
        }
    }
    for path in paths {
        let _ = std::fs::remove_file(path);
    }
    listening.shutdown().await;
    server.wind_up().await;
    Ok(())
}

/// Welcomes whoever comes to a socket.
async fn accept(
    server: Arc<Server>,
    listener: UnixListener,
    usual: (Service, Rights),
    slots: Arc<Semaphore>,
) {
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let server = Arc::clone(&server);
                tokio::spawn(async move {
                    client::serve(server, stream, usual).await;
                    drop(slot);
                });
            }
            Err(e) => {
                // Out of file descriptors, most likely: others have to go first.
                eprintln!("cenoted: cannot accept a client: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Server {
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

/// Tells whoever asks of metrics.
async fn scrapers<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    server: Arc<Server>,
    accept: impl AsyncFn() -> std::io::Result<S>,
) {
    let slots = Arc::new(Semaphore::new(MAX_SCRAPERS));
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        match accept().await {
            Ok(stream) => {
                let server = Arc::clone(&server);
                tokio::spawn(async move {
                    metrics::serve(server, stream).await;
                    drop(slot);
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A socket at this path, in place of one that a daemon left when it was killed: the lock says that none is alive.
fn listen(path: &Path, mode: u32, group: Option<u32>) -> Result<UnixListener> {
    let failed = |e: std::io::Error| Error::system(format!("cannot listen on '{}'", path.display()), &e);
    let folder = path.parent().ok_or_else(|| Error::new(Code::Internal, "a socket needs a directory"))?;
    std::fs::create_dir_all(folder).map_err(failed)?;
    // What is there and is no socket is somebody's.
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path).map_err(failed)?,
        _ => {}
    }
    // Nobody gets in before the mode is set.
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound.map_err(failed)?;
    std::os::unix::fs::chown(path, None, group).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}
