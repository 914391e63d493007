//! Long work: what it is, how far it is, and whether it shall stop.

use crate::{Code, Error, Result};
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
        self.check()
    }

    /// Fails if the job shall stop.
    pub fn check(&self) -> Result<()> {
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
