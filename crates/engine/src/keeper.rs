//! What an engine that lives long sees to by itself: who waits for too long is told, storage that was silent is used
//! again when it answers, and what was made gets to its medium.

use crate::pool::{PoolEntry, PoolRun};
use crate::visits::{Answering, Purpose, Verdict, Visit};
use crate::watching::Before;
use crate::{Engine, Health, Overdue};
use cenote_model::Code;
use cenote_model::event::PoolChange;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// How often it looks around.
const TICK: Duration = Duration::from_millis(250);
/// In so many ticks what was made is on its medium.
const FLUSH: u32 = 4;
/// So many threads may hang in a pool's storage to find out whether it answers. Each is given longer than the one before.
const PULSES: usize = 4;

impl Engine {
    /// Has the engine notice what others do in its pools.
    pub fn watch(self: &Arc<Engine>) {
        self.ask_all();
        self.is_watching.store(true, Ordering::Release);
        for pool in self.registry().all() {
            if let Ok(backend) = pool.active() {
                self.spawn("watch", move |engine| {
                    let watch = engine.begin_watch(&pool, &backend);
                    engine.follow(&pool, &backend, watch, Before::Unknown);
                });
            }
        }
    }

    /// Has the engine see to its pools until it is dropped, and notice what others do in them.
    pub fn keep(self: &Arc<Engine>) {
        self.watch();
        let engine = Arc::downgrade(self);
        thread::spawn(move || {
            for tick in 0u32.. {
                thread::sleep(TICK);
                let Some(engine) = engine.upgrade() else { return };
                for overdue in engine.look_around() {
                    if let Verdict::GivenUp(error) = &overdue.verdict {
                        eprintln!("cenote: {error}");
                    }
                    engine.overdue.emit(&overdue);
                }
                if tick % FLUSH == 0 {
                    engine.flush_soon();
                }
            }
        });
    }

    /// Finds those who wait for too long, and sees to pools whose storage is silent or has come back.
    pub fn look_around(self: &Arc<Engine>) -> Vec<Overdue> {
        let mut all_overdue = Vec::new();
        for pool in self.registry().all() {
            all_overdue.extend(pool.visits().overdue(self.limit, &pool));
            if pool.visits().take_is_back() {
                let pool = Arc::clone(&pool);
                self.spawn("refresh", move |engine| engine.after_silence(&pool));
            }
            if let Health { answering: Answering::NotSince(since), .. } = pool.visits().health() {
                let pulses = pool.visits().pulses();
                let patience = self.limit.unwrap_or_default() * (1 << pulses);
                if pulses == 0 || (pulses < PULSES && since.elapsed() > patience) {
                    let pool = Arc::clone(&pool);
                    self.spawn("pulse", move |engine| engine.feel_pulse(&pool));
                }
            }
        }
        all_overdue
    }

    /// The storage of a pool answers again.
    fn after_silence(&self, pool: &Arc<PoolEntry>) {
        eprintln!("cenote: the storage of pool '{}' answers again", pool.name());
        if !pool.with(|state| state.run == PoolRun::Active) {
            return;
        }
        // Not as a refresh, which stops a pool that cannot be read: nobody has asked for that.
        match pool.visit(Purpose::Work).and_then(|visit| self.scan(pool, &visit)) {
            Ok(_) => self.emit(pool, PoolChange::Refreshed),
            Err(error) => eprintln!("warning: {error}"),
        }
    }

    /// Returns when the storage of a pool answers.
    fn feel_pulse(&self, pool: &Arc<PoolEntry>) {
        let Ok(backend) = pool.active().or_else(|_| self.open_backend(pool)) else { return };
        if let Ok(visit) = Visit::begin(pool, backend, Purpose::Pulse)
            && visit.measure().is_err()
        {
            visit.was_in_vain();
        }
    }

    /// Brings what was made to its medium, each pool on a thread of its own.
    fn flush_soon(self: &Arc<Engine>) {
        for pool in self.registry().all() {
            if pool.unsynced().is_empty() || pool.is_flushing.swap(true, Ordering::AcqRel) {
                continue;
            }
            self.spawn("flush", move |_| {
                // One whose storage is silent is flushed when it answers.
                let visit = pool.active().and_then(|backend| Visit::begin(&pool, backend, Purpose::Sync));
                let is_silent = visit.as_ref().is_err_and(|error| error.code == Code::OperationTimeout);
                if !is_silent && let Err(error) = pool.flush() {
                    eprintln!("cenote: {error}");
                }
                pool.is_flushing.store(false, Ordering::Release);
            });
        }
    }
}
