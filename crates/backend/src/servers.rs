//! What the types have in common whose volumes are on servers: a connection that is kept, looks at many volumes at once, and
//! long work in steps.

use cenote_model::{Job, Result, VolumeDef};
use std::sync::{Arc, Mutex, PoisonError};

/// A connection that is made when it is used first, and then kept.
pub(crate) struct Kept<T>(Mutex<Option<Arc<T>>>);

impl<T> Kept<T> {
    /// Not made yet.
    pub(crate) fn new() -> Kept<T> {
        Kept(Mutex::new(None))
    }

    /// The connection. Whoever comes while it is being made waits for that.
    pub(crate) fn get(&self, connect: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = &*kept {
            return Ok(Arc::clone(connection));
        }
        let connection = Arc::new(connect()?);
        *kept = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// It is made anew when it is used next. Whoever has it goes on with it.
    pub(crate) fn give_up(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Looks at volumes, so many at once, and tells of those that there are.
pub(crate) fn look_at_all<N: Sync>(
    names: &[N],
    at_once: usize,
    look: impl Fn(&N) -> Result<Option<VolumeDef>> + Sync,
    found: &mut dyn FnMut(Arc<VolumeDef>),
    job: &Job,
) -> Result<()> {
    for names in names.chunks(at_once) {
        let looked: Vec<_> = std::thread::scope(|scope| {
            let looking: Vec<_> = names.iter().map(|name| scope.spawn(|| look(name))).collect();
            let looking = looking.into_iter();
            looking
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        for volume in looked {
            if let Some(volume) = volume? {
                found(Arc::new(volume));
            }
            job.advance(1)?;
        }
    }
    Ok(())
}

/// Does something with each step of `size` bytes, by its offset and its length.
pub(crate) fn in_steps(
    size: u64,
    step: u64,
    job: &Job,
    mut work: impl FnMut(u64, u64) -> Result<()>,
) -> Result<()> {
    job.expect(size);
    let mut offset = 0;
    while offset < size {
        let length = step.min(size - offset);
        work(offset, length)?;
        job.advance(length)?;
        offset += length;
    }
    Ok(())
}
