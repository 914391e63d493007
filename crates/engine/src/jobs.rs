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

#[derive(Debug, Default)]
pub(crate) struct Jobs {
    running: Arc<Mutex<Vec<Arc<Job>>>>,
    last: AtomicU64,
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

    pub(crate) fn list(&self) -> Vec<JobInfo> {
        let info = |job: &Arc<Job>| JobInfo {
            id: job.id(),
            what: job.what().to_owned(),
            progress: job.progress(),
            elapsed: job.elapsed(),
        };
        lock(&self.running).iter().map(info).collect()
    }

    pub(crate) fn cancel(&self, id: u64) -> Result<()> {
        let running = lock(&self.running);
        let job = running.iter().find(|job| job.id() == id);
        job.ok_or_else(|| Error::new(Code::InvalidArg, format!("there is no job {id}")))?.cancel();
        Ok(())
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
