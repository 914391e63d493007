//! A bar for long work, on a terminal.

use cenote_engine::Jobs;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::LazyLock;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Work that takes less is shown no bar.
const LONG: Duration = Duration::from_millis(400);
const REDRAW: Duration = Duration::from_millis(100);

/// Shows how far the jobs are until it is dropped.
pub(crate) struct Progress(Option<(Sender<()>, JoinHandle<()>)>);

impl Progress {
    pub(crate) fn show(jobs: Jobs) -> Progress {
        static TO_TERMINAL: LazyLock<bool> = LazyLock::new(|| std::io::stderr().is_terminal());
        if !*TO_TERMINAL {
            return Progress(None);
        }
        let (end, ended) = channel();
        let thread = std::thread::spawn(move || {
            let mut bar: Option<ProgressBar> = None;
            while ended.recv_timeout(REDRAW) == Err(RecvTimeoutError::Timeout) {
                let Some(job) = jobs.list().into_iter().find(|job| job.elapsed >= LONG) else { continue };
                let bar = bar.get_or_insert_with(new_bar);
                bar.set_message(job.what);
                bar.set_length(job.progress.total.max(job.progress.done));
                bar.set_position(job.progress.done);
            }
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        });
        Progress(Some((end, thread)))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.0.take() {
            drop(end);
            let _ = thread.join();
        }
    }
}

fn new_bar() -> ProgressBar {
    let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style.progress_chars("=> "))
}
