//! Commands from standard input: typed, with history and completion, or from a file or pipe.

use crate::command::{Completion, GROUPS, Naming, OptKind, find};
use crate::shell::{Next, Shell};
use cenote_model::secret::SecretFilter;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Editor, Helper};
use std::cell::RefCell;
use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

/// Reads commands until there are no more. The exit code says whether all went well, which matters to scripts.
pub(crate) fn run(shell: Shell) -> ExitCode {
    let is_typed = std::io::stdin().is_terminal();
    let ok = if is_typed { typed(shell) } else { piped(shell) };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn piped(mut shell: Shell) -> bool {
    let mut ok = true;
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else {
            eprintln!("error: standard input is no text");
            ok = false;
            break;
        };
        let (went_well, next) = shell.run_line(&line);
        ok &= went_well;
        if next == Next::Leave {
            break;
        }
    }
    shell.rest() && ok
}

fn typed(shell: Shell) -> bool {
    if !shell.out().is_quiet() {
        shell.out().print("Welcome to cenote, the storage interactive terminal.\n\n");
        shell.out().print("Type:  'help' for help with commands\n       'quit' to quit\n\n");
    }
    let shell = Rc::new(RefCell::new(shell));
    let config = Config::builder().completion_type(CompletionType::List).auto_add_history(false).build();
    let Ok(mut editor) = Editor::with_config(config) else {
        eprintln!("error: this terminal cannot be used");
        return false;
    };
    editor.set_helper(Some(Completions(Rc::clone(&shell))));
    let history = history_file();
    if let Some(path) = &history {
        let _ = editor.load_history(path);
    }
    loop {
        shell.borrow_mut().rest();
        let prompt = if shell.borrow().is_read_only() { "cenote > " } else { "cenote # " };
        match editor.readline(prompt) {
            Ok(line) => {
                // What has a secret in it is not kept.
                if !line.contains("--base64") {
                    let _ = editor.add_history_entry(&line);
                }
                if shell.borrow_mut().run_line(&line).1 == Next::Leave {
                    break;
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(_) => break,
        }
    }
    if let Some(path) = &history {
        let _ = path.parent().map(std::fs::create_dir_all);
        let _ = editor.save_history(path);
    }
    shell.borrow_mut().rest()
}

fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("cenote/history"))
}

struct Completions(Rc<RefCell<Shell>>);

impl Completer for Completions {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _context: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        // Only the last command of a line is completed.
        let typed = &line[..position];
        let command_start = typed.rfind(';').map_or(0, |at| at + 1);
        let word_start =
            typed[command_start..].rfind([' ', '\t']).map_or(command_start, |at| command_start + at + 1);
        let mut words: Vec<&str> = typed[command_start..word_start].split_ascii_whitespace().collect();
        let prefix = &typed[word_start..];
        let candidates = if words.is_empty() {
            GROUPS.iter().flat_map(|group| group.commands).map(|command| command.name.to_owned()).collect()
        } else {
            self.candidates(words.remove(0), &words, prefix)
        };
        let mut matching: Vec<_> = candidates.into_iter().filter(|c| c.starts_with(prefix)).collect();
        matching.sort();
        // What is complete is followed by the next word.
        if let [only] = matching.as_mut_slice()
            && !only.ends_with('/')
        {
            only.push(' ');
        }
        Ok((word_start, matching))
    }
}

impl Completions {
    fn candidates(&self, name: &str, words: &[&str], prefix: &str) -> Vec<String> {
        let Some(command) = find(name) else { return Vec::new() };
        let named = |word: &str| {
            let name = word.strip_prefix("--")?;
            command.options.iter().find(|option| option.name == name)
        };
        if prefix.starts_with("--") {
            let unused = command
                .options
                .iter()
                .filter(|option| !words.iter().any(|w| named(w).is_some_and(|o| o.name == option.name)));
            return unused.map(|option| format!("--{}", option.name)).collect();
        }
        // The value of the option before, or the next one that needs no name.
        let last = words.last().and_then(|word| named(word)).filter(|option| option.kind != OptKind::Flag);
        let option = last.or_else(|| {
            let mut given = 0;
            let mut words = words.iter();
            while let Some(word) = words.next() {
                match named(word) {
                    Some(option) if option.kind != OptKind::Flag => {
                        words.next();
                    }
                    Some(_) => {}
                    None => given += 1,
                }
            }
            command.options.iter().filter(|option| option.naming == Naming::Optional).nth(given)
        });
        match option.map(|option| option.completion) {
            Some(Completion::Pool) => self.pools(),
            Some(Completion::Volume) => self.volumes(words),
            Some(Completion::Secret) => self.secrets(),
            Some(Completion::OneOf(all)) => all().into_iter().map(str::to_owned).collect(),
            Some(Completion::File) => files(prefix),
            Some(Completion::Nothing) | None => Vec::new(),
        }
    }

    fn pools(&self) -> Vec<String> {
        let mut shell = self.0.borrow_mut();
        let pools = shell.look().and_then(|connection| connection.pools().ok());
        pools.into_iter().flatten().map(|pool| pool.name.to_string()).collect()
    }

    fn secrets(&self) -> Vec<String> {
        let mut shell = self.0.borrow_mut();
        let secrets = shell.look().and_then(|connection| connection.secrets(SecretFilter::default()).ok());
        secrets.into_iter().flatten().map(|secret| secret.uuid.to_string()).collect()
    }

    /// The volumes of the pool that the line names, or of all.
    fn volumes(&self, words: &[&str]) -> Vec<String> {
        let mut shell = self.0.borrow_mut();
        let Some(connection) = shell.look() else { return Vec::new() };
        let named = words.iter().find_map(|word| connection.pool_by_name(word).ok());
        let pools = match named {
            Some(pool) => vec![pool],
            None => connection.pools().unwrap_or_default(),
        };
        let volumes = pools.iter().filter_map(|pool| connection.volumes(pool).ok()).flatten();
        volumes.map(|volume| volume.name).collect()
    }
}

fn files(prefix: &str) -> Vec<String> {
    let (folder, start) = prefix.rfind('/').map_or(("", prefix), |at| prefix.split_at(at + 1));
    let entries = std::fs::read_dir(if folder.is_empty() { "." } else { folder });
    let entries = entries.into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok().filter(|name| name.starts_with(start))?;
            let slash = if entry.path().is_dir() { "/" } else { "" };
            Some(format!("{folder}{name}{slash}"))
        })
        .collect()
}

impl Helper for Completions {}
impl Highlighter for Completions {}
impl Validator for Completions {}
impl Hinter for Completions {
    type Hint = String;
}
