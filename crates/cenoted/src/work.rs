//! What threads do for a client, so that who waits for one that hangs in storage can be told.

use cenote_rpc::frame::{Header, Kind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, ThreadId};
use std::time::Instant;
use zeroize::Zeroizing;

/// The arguments of a call.
pub(crate) type Payload = Arc<Zeroizing<Vec<u8>>>;

/// The calls and streams of a client that threads work on. Whoever ends a piece of work tells what came of it; nobody
/// else does after that.
#[derive(Default)]
pub(crate) struct Work(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    pieces: Vec<Piece>,
}

/// A piece of work.
#[derive(Clone)]
pub(crate) struct Piece {
    /// Its number.
    pub(crate) id: u64,
    /// The call.
    pub(crate) header: Header,
    /// Whether the client waits for a reply, or for a message on a stream.
    pub(crate) kind: Kind,
    /// The call's arguments, where it can be answered again.
    pub(crate) payload: Option<Payload>,
    /// When it began.
    pub(crate) started: Instant,
    thread: ThreadId,
    /// Another thread that the first one waits for.
    helper: Option<ThreadId>,
}

impl Work {
    /// This thread begins to work.
    pub(crate) fn begin(&self, header: Header, kind: Kind, payload: Option<Payload>) -> u64 {
        let mut state = self.lock();
        let (id, thread) = (state.next, thread::current().id());
        state.next += 1;
        let started = Instant::now();
        state.pieces.push(Piece { id, header, kind, payload, started, thread, helper: None });
        id
    }

    /// This thread helps another one with its piece of work.
    pub(crate) fn help(&self, thread: ThreadId) {
        if let Some(piece) = self.lock().pieces.iter_mut().find(|piece| piece.thread == thread) {
            piece.helper = Some(thread::current().id());
        }
    }

    /// The work is done. False if it has been ended before.
    pub(crate) fn end(&self, id: u64) -> bool {
        let mut state = self.lock();
        let found = state.pieces.iter().position(|piece| piece.id == id);
        found.map(|at| state.pieces.swap_remove(at)).is_some()
    }

    /// What a thread has worked on since this moment. What it began later is something else.
    pub(crate) fn of(&self, thread: ThreadId, since: Instant) -> Option<Piece> {
        let works = |piece: &&Piece| {
            (piece.thread == thread && piece.started <= since) || piece.helper == Some(thread)
        };
        self.lock().pieces.iter().find(works).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
