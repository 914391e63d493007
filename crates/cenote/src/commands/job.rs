//! Commands about long work: Cenote's own.

use crate::command::{Arguments, Command, Opt, Run, Session};
use crate::failure::{Context, Outcome};
use cenote_engine::JobInfo;
use serde_json::json;

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "job-cancel",
        help: "ask a job to stop",
        about: "Ask a job of the daemon to stop. What is half made is undone.",
        options: &[Opt::number("job", "the job's number").required()],
        run: Run::Write(cancel),
    },
    Command {
        name: "job-list",
        help: "list jobs",
        about: "Returns list of the long work that the daemon is doing.",
        options: &[],
        run: Run::Read(list),
    },
];

fn list(session: &Session<'_>, _arguments: &Arguments) -> Outcome {
    let jobs = session.connection.job_list().context(|| "Failed to list jobs".to_owned())?;
    if session.out.is_json() {
        let json = |job: &JobInfo| {
            json!({
                "id": job.id,
                "job": job.what,
                "done": job.progress.done,
                "total": job.progress.total,
                "elapsed_ms": job.elapsed.as_millis() as u64,
            })
        };
        session.out.result(|| jobs.iter().map(json).collect(), String::new);
        return Ok(());
    }
    let row = |job: &JobInfo| {
        let progress = match job.progress.total {
            0 => "-".to_owned(),
            total => format!("{} %", job.progress.done.saturating_mul(100) / total),
        };
        vec![job.id.to_string(), progress, format!("{:.1} s", job.elapsed.as_secs_f64()), job.what.clone()]
    };
    let rows: Vec<_> = jobs.iter().map(row).collect();
    session.out.table(&["Id", "Progress", "Elapsed", "Job"], &rows);
    Ok(())
}

fn cancel(session: &Session<'_>, arguments: &Arguments) -> Outcome {
    let id = arguments.number("job")?.unwrap_or(0);
    session.connection.cancel_job(id).context(|| format!("Failed to cancel job {id}"))?;
    session.out.done(format_args!("Job {id} is asked to stop"), json!({"id": id, "result": "cancelled"}));
    Ok(())
}
