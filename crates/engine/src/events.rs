//! Telling those who watch.

use cenote_model::event::PoolEvent;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Those who watch.
#[derive(Debug, Default)]
pub struct Events(Mutex<Vec<Sender<PoolEvent>>>);

impl Events {
    /// All events from now on.
    pub fn subscribe(&self) -> Receiver<PoolEvent> {
        let (sender, receiver) = channel();
        self.lock().push(sender);
        receiver
    }

    pub(crate) fn emit(&self, event: &PoolEvent) {
        // Who has gone away is forgotten.
        self.lock().retain(|watcher| watcher.send(event.clone()).is_ok());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Sender<PoolEvent>>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
