//! The long work that is under way.

use cenote_model::job::Progress;
use cenote_model::{Code, Error, Job, Name, Result};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What is known of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobInfo {
    /// Its number.
    pub id: u64,
    /// What it does.
    pub what: String,
    /// The pool whose storage it is at.
    pub pool: Name,
    /// How far it is.
    pub progress: Progress,
    /// How long it has run.
    pub elapsed: Duration,
    /// How long there has been no sign of life.
    pub silence: Duration,
    /// Whether it has been asked to stop.
    pub cancelled: bool,
}

/// The long work of an engine. Clones are the same list, so that it can be watched while a call is under way.
#[derive(Debug, Clone, Default)]
pub struct Jobs {
    running: Arc<Mutex<Vec<Running>>>,
    last: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Running {
    job: Arc<Job>,
    pool: Name,
}

/// A job in the list, until it is dropped.
pub(crate) struct RunningJob {
    job: Arc<Job>,
    running: Arc<Mutex<Vec<Running>>>,
}

impl RunningJob {
    pub(crate) fn shared(&self) -> &Arc<Job> {
        &self.job
    }
}

impl Jobs {
    pub(crate) fn start(&self, what: impl Into<String>, pool: &Name) -> RunningJob {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let job = Arc::new(Job::new(id, what));
        lock(&self.running).push(Running { job: Arc::clone(&job), pool: pool.clone() });
        RunningJob { job, running: Arc::clone(&self.running) }
    }

    /// What is under way.
    pub fn list(&self) -> Vec<JobInfo> {
        lock(&self.running).iter().map(JobInfo::of).collect()
    }

    /// Asks a job to stop.
    pub fn cancel(&self, id: u64) -> Result<()> {
        let running = lock(&self.running);
        running.iter().find(|running| running.job.id() == id).ok_or_else(|| no_job(id))?.job.cancel();
        Ok(())
    }

    /// Asks all jobs to stop; says how many there were.
    pub fn cancel_all(&self) -> usize {
        let running = lock(&self.running);
        running.iter().for_each(|running| running.job.cancel());
        running.len()
    }
}

impl JobInfo {
    fn of(Running { job, pool }: &Running) -> JobInfo {
        JobInfo {
            id: job.id(),
            what: job.what().to_owned(),
            pool: pool.clone(),
            progress: job.progress(),
            elapsed: job.elapsed(),
            silence: job.silence(),
            cancelled: job.is_cancelled(),
        }
    }
}

fn no_job(id: u64) -> Error {
    Error::new(Code::InvalidArg, format!("there is no job {id}: it may have ended"))
}

impl Deref for RunningJob {
    type Target = Job;

    fn deref(&self) -> &Job {
        &self.job
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        lock(&self.running).retain(|running| running.job.id() != self.job.id());
    }
}

fn lock(running: &Mutex<Vec<Running>>) -> MutexGuard<'_, Vec<Running>> {
    running.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
