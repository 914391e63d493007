//! The threads that serve clients, and how calls that wait for storage get along with them.
//!
//! A thread that waits for storage answers nobody else, and while no other thread is awake nobody even sees that
//! somebody has sent something. tokio can make room first (`block_in_place`), which takes as long as a short call does:
//! most calls are short. So a call keeps its thread at first, and a watchman wakes another thread when it does not end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

/// So many threads serve clients: more than there are processors, since calls may keep up to half of them.
const WORKERS: usize = 8;
/// So many threads work on calls at once, at most.
const MAX_THREADS: usize = 8192;
/// How long a call may keep others from being seen.
const STEP: Duration = Duration::from_millis(2);
/// After so many steps without a call the watchman sleeps until there is one.
const QUIET: u32 = 50;

/// The threads that a daemon runs on.
pub fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .worker_threads(WORKERS)
        // Calls on storage that hangs take one each; they must not be all that there are.
        .max_blocking_threads(MAX_THREADS)
        .build()
}

/// Does work that may wait for storage.
pub(crate) struct Threads {
    state: Arc<State>,
    watchman: Thread,
}

#[derive(Default)]
struct State {
    /// How many calls have kept their thread, and how many of them have ended.
    begun: AtomicUsize,
    ended: AtomicUsize,
    watchman_sleeps: AtomicBool,
    is_over: AtomicBool,
}

impl Threads {
    /// Those of the runtime that this is called in.
    pub(crate) fn new() -> std::io::Result<Threads> {
        let state = Arc::new(State::default());
        let (watched, runtime) = (Arc::clone(&state), Handle::current());
        let watchman =
            thread::Builder::new().name("watchman".to_owned()).spawn(move || watched.watch(&runtime))?;
        Ok(Threads { state, watchman: watchman.thread().clone() })
    }

    /// Does the work, on this thread.
    pub(crate) fn work<T>(&self, work: impl FnOnce() -> T) -> T {
        let state = &*self.state;
        let before = state.begun.fetch_add(1, Ordering::SeqCst);
        let _end = End(state);
        let under_way = before.saturating_sub(state.ended.load(Ordering::SeqCst));
        if state.watchman_sleeps.load(Ordering::SeqCst) {
            self.watchman.unpark();
        }
        if under_way < WORKERS / 2 { work() } else { tokio::task::block_in_place(work) }
    }
}

/// The end of a call, however it comes.
struct End<'s>(&'s State);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        self.watchman.unpark();
    }
}

impl State {
    fn watch(&self, runtime: &Handle) {
        let (mut seen, mut helped, mut quiet) = (0, 0, 0);
        while !self.is_over.load(Ordering::SeqCst) {
            let begun = self.begun.load(Ordering::SeqCst);
            let is_busy = self.ended.load(Ordering::SeqCst) < begun;
            if is_busy && begun == seen && begun != helped {
                // Whoever has had nothing to do looks, before it rests again, for what clients have sent.
                runtime.spawn(async {});
                helped = begun;
            }
            quiet = if begun == seen { quiet + 1 } else { 0 };
            seen = begun;
            if quiet < QUIET {
                thread::sleep(STEP);
                continue;
            }
            self.watchman_sleeps.store(true, Ordering::SeqCst);
            // A call that began before it could see that the watchman sleeps is not slept through.
            if self.begun.load(Ordering::SeqCst) == seen && !self.is_over.load(Ordering::SeqCst) {
                thread::park();
            }
            self.watchman_sleeps.store(false, Ordering::SeqCst);
            quiet = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::mpsc::channel;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    /// Calls of clients that wait for what another client is going to send: for ever, if nobody sees that it does.
    #[test]
    fn who_waits_keeps_nobody_from_being_seen() {
        for calls in [1, WORKERS / 2, 3 * WORKERS] {
            let runtime = runtime().unwrap();
            let (done, is_done) = channel();
            let (mut clients, mut senders) = (Vec::new(), Vec::new());
            runtime.block_on(async {
                let threads = Arc::new(Threads::new().unwrap());
                for _ in 0..calls {
                    let (ours, mut theirs) = UnixStream::pair().unwrap();
                    let (sender, receiver) = channel::<()>();
                    let (threads, done) = (Arc::clone(&threads), done.clone());
                    clients.push(ours);
                    senders.push(sender);
                    tokio::spawn(async move {
                        theirs.read_u8().await.unwrap();
                        threads.work(|| receiver.recv()).unwrap();
                        done.send(()).unwrap();
                    });
                }
                let (ours, mut theirs) = UnixStream::pair().unwrap();
                clients.push(ours);
                tokio::spawn(async move {
                    theirs.read_u8().await.unwrap();
                    senders.iter().for_each(|sender| sender.send(()).unwrap());
                });
            });
            // One after another, when all who have nothing to do rest.
            for client in clients {
                thread::sleep(Duration::from_millis(20));
                client.into_std().unwrap().write_all(&[1]).unwrap();
            }
            (0..calls).for_each(|_| is_done.recv_timeout(Duration::from_secs(60)).unwrap());
        }
    }
}
