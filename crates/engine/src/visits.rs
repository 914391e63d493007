//! Who is at a pool's storage, and whether it answers.
//!
//! A thread that touches storage says so, by a [`Visit`]. When it gives no sign of life for too long, whoever waits for
//! it is told (see [`Overdue`]), and until the storage answers, no further thread is sent there.

use crate::jobs::RunningJob;
use crate::pool::PoolEntry;
use crate::{Health, Jobs};
use cenote_backend::Pool;
use cenote_model::{Code, Error, Job, Result};
use std::cell::Cell;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// After so long a look is answered from what was published last.
const LOOK: Duration = Duration::from_secs(1);

/// What a thread is at storage for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To see whether what was published last is still true.
    Look,
    /// To find out what is not known, or to change something.
    Work,
    /// To bring what was made to its medium, however long that takes: nobody waits for it.
    Sync,
    /// To find out whether the storage answers: nobody waits for it.
    Pulse,
}

/// Whether a pool's storage answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// It does.
    Yes,
    /// Somebody has waited for long enough to be answered from what was published last.
    Slowly,
    /// Somebody has waited in vain, since this moment.
    NotSince(Instant),
}

/// Somebody's wait that has been too long.
#[derive(Debug, Clone)]
pub struct Overdue {
    /// Who waits.
    pub thread: ThreadId,
    /// Since when it is at storage.
    pub since: Instant,
    /// What is done about it.
    pub verdict: Verdict,
}

/// What is done about a wait that has been too long.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Asked again, the engine answers with what was published last.
    AskAgain,
    /// Nobody waits any longer.
    GivenUp(Error),
}

#[derive(Debug)]
pub(crate) struct Visits(Mutex<State>);

#[derive(Debug)]
struct State {
    next: u64,
    under_way: Vec<Record>,
    answering: Answering,
    /// When the storage answered last.
    answered: Instant,
    /// It answers again: what changed meanwhile is to be found out.
    is_back: bool,
}

#[derive(Debug)]
struct Record {
    id: u64,
    thread: ThreadId,
    since: Instant,
    purpose: Purpose,
    job: Option<Arc<Job>>,
    told: Told,
}

/// What has been told to whoever waits.
#[derive(Debug)]
enum Told {
    Nothing,
    ToAskAgain,
    ThatItIsGivenUp(Error),
}

impl Default for Visits {
    fn default() -> Visits {
        Visits(Mutex::new(State {
            next: 0,
            under_way: Vec::new(),
            answering: Answering::Yes,
            answered: Instant::now(),
            is_back: false,
        }))
    }
}

impl Visits {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether the storage answers.
    pub(crate) fn health(&self) -> Health {
        let state = self.lock();
        Health { answering: state.answering, age: state.answered.elapsed() }
    }

    /// True once after the storage has come back.
    pub(crate) fn take_is_back(&self) -> bool {
        std::mem::take(&mut self.lock().is_back)
    }

    /// How many threads are finding out whether it answers.
    pub(crate) fn pulses(&self) -> usize {
        self.lock().under_way.iter().filter(|record| record.purpose == Purpose::Pulse).count()
    }

    /// Those whose wait has been too long, each once. From then on the storage counts as slow or silent.
    pub(crate) fn overdue(&self, limit: Option<Duration>, pool: &PoolEntry) -> Vec<Overdue> {
        let mut state = self.lock();
        let State { under_way, answering, .. } = &mut *state;
        let mut overdue = Vec::new();
        let somebody_waits = |purpose| matches!(purpose, Purpose::Look | Purpose::Work);
        for record in under_way.iter_mut().filter(|record| somebody_waits(record.purpose)) {
            let silence = record.job.as_ref().map_or_else(|| record.since.elapsed(), |job| job.silence());
            if matches!(record.told, Told::ThatItIsGivenUp(_)) {
                continue;
            }
            let may_ask_again = record.purpose == Purpose::Look && matches!(record.told, Told::Nothing);
            if may_ask_again && silence >= LOOK {
                record.told = Told::ToAskAgain;
                if *answering == Answering::Yes {
                    *answering = Answering::Slowly;
                }
                overdue.push(Overdue {
                    thread: record.thread,
                    since: record.since,
                    verdict: Verdict::AskAgain,
                });
            } else if limit.is_some_and(|limit| silence >= limit) {
                let since = Instant::now().checked_sub(silence).unwrap_or(record.since);
                *answering = Answering::NotSince(since);
                let error = silent(pool, since, record.job.as_deref());
                if let Some(job) = &record.job {
                    job.give_up(error.clone());
                }
                record.told = Told::ThatItIsGivenUp(error.clone());
                overdue.push(Overdue {
                    thread: record.thread,
                    since: record.since,
                    verdict: Verdict::GivenUp(error),
                });
            }
        }
        overdue
    }

    fn enter(&self, purpose: Purpose, pool: &PoolEntry) -> Result<u64> {
        let mut state = self.lock();
        match (state.answering, purpose) {
            (Answering::NotSince(since), Purpose::Look | Purpose::Work | Purpose::Sync) => {
                return Err(silent(pool, since, None));
            }
            (Answering::Slowly, Purpose::Look) => return Err(silent(pool, state.answered, None)),
            _ => {}
        }
        let id = state.next;
        state.next += 1;
        let (thread, since) = (std::thread::current().id(), Instant::now());
        state.under_way.push(Record { id, thread, since, purpose, job: None, told: Told::Nothing });
        Ok(id)
    }

    fn leave(&self, id: u64, is_answer: bool) {
        let mut state = self.lock();
        state.under_way.retain(|record| record.id != id);
        if !is_answer {
            return;
        }
        state.is_back |= matches!(state.answering, Answering::NotSince(_));
        state.answering = Answering::Yes;
        state.answered = Instant::now();
    }

    fn attach(&self, id: u64, job: &Arc<Job>) {
        job.alive();
        if let Some(record) = self.lock().under_way.iter_mut().find(|record| record.id == id) {
            // It came out of its silence when nobody waited for it any more.
            if let Told::ThatItIsGivenUp(why) = &record.told {
                job.give_up(why.clone());
            }
            record.job = Some(Arc::clone(job));
        }
    }
}

fn silent(pool: &PoolEntry, since: Instant, job: Option<&Job>) -> Error {
    let what = job.map(|job| format!(", while {}", job.what())).unwrap_or_default();
    Error::new(
        Code::OperationTimeout,
        format!(
            "the storage of pool '{}' has not answered for {} s{what}: other pools are not affected, and it is used again \
             when it answers (storage_timeout in cenote.conf says how long it may take)",
            pool.name(),
            since.elapsed().as_secs(),
        ),
    )
}

/// A thread's stay at the storage of a pool.
pub(crate) struct Visit {
    entry: Arc<PoolEntry>,
    backend: Arc<dyn Pool>,
    id: u64,
    /// It did not come back with an answer.
    in_vain: Cell<bool>,
}

impl Visit {
    /// Goes to the storage of a pool, which may be inactive. Fails if it is known not to answer.
    pub(crate) fn begin(entry: &Arc<PoolEntry>, backend: Arc<dyn Pool>, purpose: Purpose) -> Result<Visit> {
        let id = entry.visits().enter(purpose, entry)?;
        Ok(Visit { entry: Arc::clone(entry), backend, id, in_vain: Cell::new(false) })
    }

    /// Starts a job, which gives the signs of life from now on. Fails if nobody waits for it any more.
    pub(crate) fn job(&self, jobs: &Jobs, what: impl Into<String>) -> Result<RunningJob> {
        let job = jobs.start(what, self.entry.name());
        self.goes_on(&job);
        job.check()?;
        Ok(job)
    }

    /// A job that was started before gives the signs of life.
    pub(crate) fn goes_on(&self, job: &RunningJob) {
        self.entry.visits().attach(self.id, job.shared());
    }

    /// What it came back with tells nothing about whether the storage answers.
    pub(crate) fn was_in_vain(&self) {
        self.in_vain.set(true);
    }

    /// The backend that is visited.
    pub(crate) fn backend(&self) -> &Arc<dyn Pool> {
        &self.backend
    }
}

impl Deref for Visit {
    type Target = dyn Pool;

    fn deref(&self) -> &Self::Target {
        &*self.backend
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.entry.visits().leave(self.id, !self.in_vain.get());
    }
}
