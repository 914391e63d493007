//! Telling those who watch.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Those who watch for events of one sort.
#[derive(Debug)]
pub struct Events<E>(Mutex<Vec<Sender<E>>>);

impl<E> Default for Events<E> {
    fn default() -> Events<E> {
        Events(Mutex::default())
    }
}

impl<E: Clone> Events<E> {
    /// All events from now on.
    pub fn subscribe(&self) -> Receiver<E> {
        let (sender, receiver) = channel();
        self.lock().push(sender);
        receiver
    }

    pub(crate) fn emit(&self, event: &E) {
        // Who has gone away is forgotten.
        self.lock().retain(|watcher| watcher.send(event.clone()).is_ok());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Sender<E>>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
