//! Running commands and saying how they went.

use crate::args::Options;
use crate::command::{Run, Session};
use crate::connection::{Connection, Intent, connect};
use crate::failure::{Context, Failure, Outcome};
use crate::output::Output;
use crate::parse::{Invocation, parse_line, parse_words};
use crate::progress::Progress;
use cenote_engine::Jobs;
use cenote_model::Error;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Where commands are run.
pub(crate) struct Shell {
    options: Options,
    connection: Option<Box<dyn Connection>>,
    out: Output,
    /// The jobs of the connection, for whom a signal reaches.
    jobs: Arc<Mutex<Jobs>>,
}

/// What comes after a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Go,
    Leave,
}

impl Shell {
    pub(crate) fn new(options: &Options) -> Shell {
        let jobs = Arc::new(Mutex::new(Jobs::default()));
        stop_jobs_on_signals(Arc::clone(&jobs));
        Shell {
            out: Output::new(options.quiet, options.json),
            options: options.clone(),
            connection: None,
            jobs,
        }
    }

    pub(crate) fn out(&self) -> &Output {
        &self.out
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.options.read_only
    }

    /// Runs what the command line holds: one word may hold several commands.
    pub(crate) fn run_words(mut self, words: &[String]) -> ExitCode {
        let parsed = match words {
            [line] => parse_line(line),
            words => parse_words(words).map(|invocation| invocation.into_iter().collect()),
        };
        let mut ok = true;
        match parsed {
            Ok(invocations) => {
                for invocation in &invocations {
                    let (outcome, next) = self.run(invocation);
                    ok = outcome;
                    if next == Next::Leave {
                        break;
                    }
                }
            }
            Err(message) => {
                self.out.error(&Failure::said(message));
                ok = false;
            }
        }
        ok &= self.rest();
        if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Runs a line; says whether all went well.
    pub(crate) fn run_line(&mut self, line: &str) -> (bool, Next) {
        match parse_line(line) {
            Ok(invocations) => {
                let mut ok = true;
                for invocation in &invocations {
                    let (outcome, next) = self.run(invocation);
                    ok &= outcome;
                    if next == Next::Leave {
                        return (ok, Next::Leave);
                    }
                }
                (ok, Next::Go)
            }
            Err(message) => {
                self.out.error(&Failure::said(message));
                (false, Next::Go)
            }
        }
    }

    /// Nothing comes for a while. Says whether that could be seen to.
    pub(crate) fn rest(&mut self) -> bool {
        let rested = self.connection.as_mut().map_or(Ok(()), |connection| connection.rest());
        if let Err(error) = rested {
            self.out.error(&Failure::from(error));
            return false;
        }
        true
    }

    /// The connection, for looking things up while a line is typed.
    pub(crate) fn look(&mut self) -> Option<&dyn Connection> {
        self.connect(Intent::Look).ok()?;
        self.connection.as_deref()
    }

    fn run(&mut self, invocation: &Invocation) -> (bool, Next) {
        let started = Instant::now();
        let command = invocation.command;
        let outcome = match command.run {
            Run::Quit => return (true, Next::Leave),
            Run::Connect => self.reconnect(invocation),
            Run::Own(run) => run(&self.out, &invocation.arguments),
            Run::Local(run) => {
                // It looks at the locks, and closing a file ends those that this process has on it.
                self.rest();
                run(&self.options, &self.out, &invocation.arguments)
            }
            Run::Read(run) => self.connected(Intent::Look, |session| run(session, &invocation.arguments)),
            Run::Write(run) => self.connected(Intent::Change, |session| run(session, &invocation.arguments)),
        };
        if let Err(failure) = &outcome {
            self.out.error(failure);
        }
        if self.options.timing {
            let milliseconds = started.elapsed().as_secs_f64() * 1000.0;
            self.out.extra(format_args!("\n(Time: {milliseconds:.3} ms)\n\n"));
        } else {
            self.out.extra("\n");
        }
        (outcome.is_ok(), Next::Go)
    }

    fn connected(&mut self, intent: Intent, run: impl FnOnce(&Session<'_>) -> Outcome) -> Outcome {
        self.connect(intent).context(|| "failed to connect to the hypervisor".to_owned())?;
        let Some(connection) = self.connection.as_deref() else { return Err(Failure::silent()) };
        let _progress = Progress::show(connection.jobs());
        run(&Session { connection, out: &self.out })
    }

    fn connect(&mut self, intent: Intent) -> Result<(), Error> {
        if self.connection.is_none() {
            let connection = connect(&self.options)?;
            *self.jobs.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = connection.jobs();
            self.connection = Some(connection);
        }
        self.connection.as_mut().map_or(Ok(()), |connection| connection.begin(intent))
    }

    fn reconnect(&mut self, invocation: &Invocation) -> Outcome {
        let arguments = &invocation.arguments;
        self.rest();
        self.connection = None;
        if let Some(uri) = arguments.text("name")? {
            self.options.uri = Some(uri.to_owned());
        }
        self.options.read_only = arguments.flag("readonly");
        self.connected(Intent::Look, |_| Ok(()))
    }
}

/// A signal asks the jobs to stop, so that what is half made is undone; without jobs it ends the program.
fn stop_jobs_on_signals(jobs: Arc<Mutex<Jobs>>) {
    // Without signals' being caught they end the program: what was half made is swept by the next use.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let stopped = jobs.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).cancel_all();
            if stopped == 0 {
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        }
    });
}
