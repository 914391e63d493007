//! Long work: what it is, how far it is, and whether it shall stop.

use crate::{Code, Error, Result};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A piece of long work. Whoever does the work calls [`advance`](Job::advance) as it goes on; whoever watches it
/// reads [`progress`](Job::progress) and may [`cancel`](Job::cancel).
#[derive(Debug)]
pub struct Job {
    id: u64,
    what: String,
    started: Instant,
    deadline: Option<Instant>,
    total: AtomicU64,
    done: AtomicU64,
    cancelled: AtomicBool,
    /// When it last gave a sign of life, in milliseconds since it started.
    sign: AtomicU64,
    /// Why nobody waits for it any more.
    given_up: OnceLock<Error>,
}

/// How far a job is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Done.
    pub done: u64,
    /// To do in all; 0 while that is unknown.
    pub total: u64,
}

impl Job {
    /// A job with this number that does `what`.
    pub fn new(id: u64, what: impl Into<String>) -> Job {
        Job {
            id,
            what: what.into(),
            started: Instant::now(),
            deadline: None,
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
            sign: AtomicU64::new(0),
            given_up: OnceLock::new(),
        }
    }

    /// The same job, which must end within this time.
    pub fn with_deadline(mut self, limit: Duration) -> Job {
        self.deadline = Some(self.started + limit);
        self
    }

    /// Its number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What it does, for people.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress { done: self.done.load(Ordering::Relaxed), total: self.total.load(Ordering::Relaxed) }
    }

    /// Says that there are `bytes` more to do.
    pub fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Says that `bytes` more are done. Fails if the job shall stop.
    pub fn advance(&self, bytes: u64) -> Result<()> {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        self.alive();
        self.check()
    }

    /// Says that the work goes on, though nothing can be counted.
    pub fn alive(&self) {
        self.sign.store(self.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How long there has been no sign of life.
    pub fn silence(&self) -> Duration {
        self.elapsed().saturating_sub(Duration::from_millis(self.sign.load(Ordering::Relaxed)))
    }

    /// Fails if the job shall stop.
    pub fn check(&self) -> Result<()> {
        if let Some(error) = self.given_up.get() {
            return Err(error.clone());
        }
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::new(Code::OperationAborted, format!("{}: canceled by client", self.what)));
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => {
                Err(Error::new(Code::OperationTimeout, format!("{}: took too long", self.what)))
            }
            _ => Ok(()),
        }
    }

    /// The time left, where there is a deadline.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Asks it to stop.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// True if it has been asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || self.given_up.get().is_some()
    }

    /// Nobody waits for it any more, for this reason: if it goes on some time, it is to stop and to undo what it did.
    pub fn give_up(&self, why: Error) {
        // The first reason is the one that was told.
        let _ = self.given_up.set(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_job_stops_at_its_next_step() {
        let job = Job::new(1, "copying");
        job.expect(10);
        job.advance(4).unwrap();
        assert_eq!(job.progress(), Progress { done: 4, total: 10 });
        job.cancel();
        assert!(job.advance(1).unwrap_err().is_cancelled());
    }

    #[test]
    fn a_deadline_ends_a_job() {
        let job = Job::new(1, "copying").with_deadline(Duration::ZERO);
        assert_eq!(job.check().unwrap_err().code, Code::OperationTimeout);
    }
}
