//! Commands about long work, and about what happens to volumes: Cenote's own.

use super::event;
use crate::command::{Arguments, Command, Opt, Run, Session};
use crate::failure::{Context, Failure, Outcome};
use cenote_engine::JobInfo;
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "event",
        help: "Volume Events",
        about: "List event types, or wait for volumes to appear, go or change, by whoever's doing",
        options: &event::OPTIONS,
        run: Run::Read(event::run),
    },
    Command {
        name: "job-abort",
        help: "ask a job to stop",
        about: "Ask a job of the daemon to stop. What is half made is undone.",
        options: &[JOB],
        run: Run::Write(abort),
    },
    Command {
        name: "job-info",
        help: "job information",
        about: "Returns what is known of a job of the daemon.",
        options: &[JOB],
        run: Run::Read(info),
    },
    Command {
        name: "job-list",
        help: "list jobs",
        about: "Returns list of the long work that the daemon is doing.",
        options: &[],
        run: Run::Read(list),
    },
];

const JOB: Opt = Opt::number("job", "the job's number").required();

/// A job that has given no sign of life for so long is told to be waiting for its storage.
const SILENT: Duration = Duration::from_secs(2);

fn state(job: &JobInfo) -> &'static str {
    match job.cancelled {
        true => "stopping",
        false if job.silence >= SILENT => "waiting for storage",
        false => "running",
    }
}

fn progress(job: &JobInfo) -> String {
    match job.progress.total {
        0 => "-".to_owned(),
        total => format!("{} %", job.progress.done.saturating_mul(100) / total),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn to_json(job: &JobInfo) -> Value {
    json!({
        "id": job.id,
        "job": job.what,
        "pool": job.pool.as_str(),
        "state": state(job),
        "done": job.progress.done,
        "total": job.progress.total,
        "elapsed_ms": job.elapsed.as_millis() as u64,
        "silent_ms": job.silence.as_millis() as u64,
    })
}

fn list(session: &Session<'_>, _arguments: &Arguments) -> Outcome {
    let jobs = session.connection.job_list().context(|| "Failed to list jobs".to_owned())?;
    if session.out.is_json() {
        session.out.result(|| jobs.iter().map(to_json).collect(), String::new);
        return Ok(());
    }
    let row = |job: &JobInfo| vec![job.id.to_string(), progress(job), seconds(job.elapsed), job.what.clone()];
    let rows: Vec<_> = jobs.iter().map(row).collect();
    session.out.table(&["Id", "Progress", "Elapsed", "Job"], &rows);
    Ok(())
}

fn info(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let id = arguments.number("job")?.unwrap_or(0);
    let jobs = session.connection.job_list().context(|| format!("Failed to get job {id}"))?;
    let job = jobs.into_iter().find(|job| job.id == id);
    let job = job.ok_or_else(|| Failure::said(format!("there is no job {id}: it may have ended")))?;
    session.out.result(
        || to_json(&job),
        || {
            let mut lines = vec![
                ("Id:", job.id.to_string()),
                ("Job:", job.what.clone()),
                ("Pool:", job.pool.to_string()),
                ("State:", state(&job).to_owned()),
                ("Progress:", progress(&job)),
                ("Elapsed:", seconds(job.elapsed)),
            ];
            if let Some(left) = time_left(&job) {
                lines.push(("Time left:", seconds(left)));
            }
            lines.iter().map(|(label, value)| format!("{label:<15} {value}\n")).collect()
        },
    );
    Ok(())
}

/// How long it will take if it goes on as it did.
fn time_left(job: &JobInfo) -> Option<Duration> {
    let left = job.progress.total.checked_sub(job.progress.done)?;
    (job.progress.done > 0).then(|| job.elapsed.mul_f64(left as f64 / job.progress.done as f64))
}

fn abort(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let id = arguments.number("job")?.unwrap_or(0);
    session.connection.cancel_job(id).context(|| format!("Failed to abort job {id}"))?;
    session.out.done(format_args!("Job {id} is asked to stop"), json!({"id": id, "result": "aborted"}));
    Ok(())
}
