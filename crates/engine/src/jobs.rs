//! The long work that is under way.

use cenote_model::job::Progress;
use cenote_model::{Code, Error, Job, Result};
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
    /// How far it is.
    pub progress: Progress,
    /// How long it has run.
    pub elapsed: Duration,
}

/// The long work of an engine. Clones are the same list, so that it can be watched while a call is under way.
#[derive(Debug, Clone, Default)]
pub struct Jobs {
    running: Arc<Mutex<Vec<Arc<Job>>>>,
    last: Arc<AtomicU64>,
}

/// A job in the list, until it is dropped.
pub(crate) struct RunningJob {
    job: Arc<Job>,
    running: Arc<Mutex<Vec<Arc<Job>>>>,
}

impl Jobs {
    pub(crate) fn start(&self, what: impl Into<String>) -> RunningJob {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let job = Arc::new(Job::new(id, what));
        lock(&self.running).push(Arc::clone(&job));
        RunningJob { job, running: Arc::clone(&self.running) }
    }

    /// What is under way.
    pub fn list(&self) -> Vec<JobInfo> {
        let info = |job: &Arc<Job>| JobInfo {
            id: job.id(),
            what: job.what().to_owned(),
            progress: job.progress(),
            elapsed: job.elapsed(),
        };
        lock(&self.running).iter().map(info).collect()
    }

    /// Asks a job to stop.
    pub fn cancel(&self, id: u64) -> Result<()> {
        let running = lock(&self.running);
        let job = running.iter().find(|job| job.id() == id);
        job.ok_or_else(|| Error::new(Code::InvalidArg, format!("there is no job {id}")))?.cancel();
        Ok(())
    }

    /// Asks all jobs to stop; says how many there were.
    pub fn cancel_all(&self) -> usize {
        let running = lock(&self.running);
        running.iter().for_each(|job| job.cancel());
        running.len()
    }
}

impl Deref for RunningJob {
    type Target = Job;

    fn deref(&self) -> &Job {
        &self.job
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        lock(&self.running).retain(|job| job.id() != self.job.id());
    }
}

fn lock(running: &Mutex<Vec<Arc<Job>>>) -> MutexGuard<'_, Vec<Arc<Job>>> {
    running.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
