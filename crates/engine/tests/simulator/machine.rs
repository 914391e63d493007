//! A machine that is made up: a disk that loses what was not synced, and threads of which one at a time runs.
//!
//! Every call of the disk is a step. At each step the machine decides by its random numbers which thread goes on, whether
//! the call fails, and whether this is the end: then the disk is frozen, every call fails, and the threads run out. The
//! same seed makes the same decisions.

use cenote_host::{LockFile, SecretValue, System};
use fastrand::Rng;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// A thread that does nothing for so long waits for one that has a lock and is not its turn.
const STUCK: Duration = Duration::from_secs(10);
/// What is under this path is the kernel's: it is lost when the machine is, and never fails.
pub const KERNEL: &str = "/kernel";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How often things go wrong.
#[derive(Debug, Clone, Copy)]
pub struct Dangers {
    /// One call in so many fails; none, if this is 0.
    pub fault: u32,
    /// After so many steps the machine, or the daemon, ends.
    pub end: Option<u32>,
}

impl Dangers {
    pub const NONE: Dangers = Dangers { fault: 0, end: None };
}

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The daemon is killed: what it has written is there.
    Killed,
    /// The power fails: what was not synced may be there or not.
    PowerLoss,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
    Link(PathBuf),
}

#[derive(Debug, Clone, Default)]
struct Content {
    now: Vec<u8>,
    synced: Option<Vec<u8>>,
}

type Names = BTreeMap<PathBuf, Node>;

struct State {
    rng: Rng,
    names: Names,
    /// The names as they are on the medium.
    synced: Names,
    files: Vec<Content>,
    dangers: Dangers,
    /// The steps until it ends.
    left: Option<u32>,
    is_frozen: bool,
    faults: u64,
    steps: u64,
    boots: u32,
    /// Those that are not at their end, by number; the one whose turn it is.
    alive: Vec<usize>,
    turn: Option<usize>,
    next: usize,
    has_panicked: bool,
}

pub struct Machine {
    state: Mutex<State>,
    /// For each thread: it is its turn.
    turns: Mutex<Vec<Arc<Condvar>>>,
    idle: Condvar,
}

thread_local! {
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Machine {
    pub fn new(seed: u64) -> Arc<Machine> {
        let names: Names = ["/", KERNEL].into_iter().map(|path| (path.into(), Node::Folder)).collect();
        Arc::new(Machine {
            state: Mutex::new(State {
                rng: Rng::with_seed(seed),
                synced: names.clone(),
                names,
                files: Vec::new(),
                dangers: Dangers::NONE,
                left: None,
                is_frozen: false,
                faults: 0,
                steps: 0,
                boots: 1,
                alive: Vec::new(),
                turn: None,
                next: 0,
                has_panicked: false,
            }),
            turns: Mutex::default(),
            idle: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A random number below this one.
    pub fn below(&self, limit: u32) -> u32 {
        self.lock().rng.u32(0..limit)
    }

    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// How many calls have failed, be it because the end has come.
    pub fn faults(&self) -> u64 {
        self.lock().faults
    }

    pub fn has_ended(&self) -> bool {
        self.lock().is_frozen
    }

    /// Runs threads, and those that they start, to their end. Fails if one of them waits for a lock of another.
    pub fn run(
        self: &Arc<Machine>,
        dangers: Dangers,
        threads: Vec<Box<dyn FnOnce() + Send>>,
    ) -> Result<(), String> {
        {
            let mut state = self.lock();
            state.dangers = dangers;
            state.left = dangers.end;
        }
        for work in threads {
            self.start(work);
        }
        let mut state = self.lock();
        self.pass_on(&mut state);
        let mut seen = (state.steps, Instant::now());
        while !state.alive.is_empty() {
            let waited = self.idle.wait_timeout(state, Duration::from_millis(200));
            state = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            if seen.0 != state.steps {
                seen = (state.steps, Instant::now());
            } else if seen.1.elapsed() > STUCK {
                return Err(
                    "a thread waits for a lock that another one holds while it is at storage".to_owned()
                );
            }
        }
        state.dangers = Dangers::NONE;
        state.left = None;
        match state.has_panicked {
            true => Err("a thread has panicked".to_owned()),
            false => Ok(()),
        }
    }

    fn start(self: &Arc<Machine>, work: Box<dyn FnOnce() + Send>) {
        let turn = Arc::new(Condvar::new());
        let number = {
            let mut state = self.lock();
            let number = state.next;
            state.next += 1;
            state.alive.push(number);
            self.turns.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(turn);
            number
        };
        let machine = Arc::clone(self);
        thread::spawn(move || {
            NUMBER.set(Some(number));
            drop(machine.wait_for_turn(number, machine.lock()));
            // One that panics is at its end too.
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            let mut state = machine.lock();
            state.has_panicked |= ended.is_err();
            state.alive.retain(|other| *other != number);
            state.steps += 1;
            machine.pass_on(&mut state);
        });
    }

    /// Gives the turn to one of the threads.
    fn pass_on(&self, state: &mut State) {
        if state.alive.is_empty() {
            state.turn = None;
            self.idle.notify_all();
            return;
        }
        let chosen = state.alive[state.rng.usize(0..state.alive.len())];
        state.turn = Some(chosen);
        let turns = self.turns.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        turns[chosen].notify_one();
    }

    fn wait_for_turn<'m>(&self, number: usize, mut state: MutexGuard<'m, State>) -> MutexGuard<'m, State> {
        let turn = Arc::clone(&self.turns.lock().unwrap_or_else(|poisoned| poisoned.into_inner())[number]);
        while state.turn != Some(number) {
            state = turn.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        state
    }

    /// A step: another thread may have its turn first.
    fn step(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.steps += 1;
        if let Some(left) = &mut state.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                state.is_frozen = true;
            }
        }
        if let Some(number) = NUMBER.get() {
            self.pass_on(&mut state);
            state = self.wait_for_turn(number, state);
        }
        state
    }

    /// A step of the disk, which may fail.
    fn call(&self, path: &Path) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.step();
        if state.is_frozen {
            state.faults += 1;
            return Err(io::Error::other("this is the end"));
        }
        let fault = state.dangers.fault;
        if fault > 0 && !path.starts_with(KERNEL) && state.rng.u32(0..fault) == 0 {
            state.faults += 1;
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        }
        Ok(state)
    }

    /// The machine, or the daemon, starts again after its end.
    pub fn restart(&self, end: End) {
        let state = &mut *self.lock();
        state.is_frozen = false;
        if end == End::Killed {
            return;
        }
        state.boots += 1;
        let paths: Vec<_> = state.names.keys().chain(state.synced.keys()).cloned().collect();
        let mut names = Names::new();
        for path in paths {
            if path.starts_with(KERNEL) && path != Path::new(KERNEL) {
                continue;
            }
            // Each name that was not synced may be as it was or as it is.
            let (now, before) = (state.names.get(&path), state.synced.get(&path));
            let found = if now == before || state.rng.bool() { now } else { before };
            if let Some(node) = found {
                names.insert(path, node.clone());
            }
        }
        for content in &mut state.files {
            if content.synced.as_ref() == Some(&content.now) {
                continue;
            }
            match state.rng.u32(0..3) {
                0 => {}
                1 => content.now.truncate(state.rng.usize(0..=content.now.len())),
                _ => content.now = content.synced.clone().unwrap_or_default(),
            }
            content.synced = Some(content.now.clone());
        }
        state.synced = names.clone();
        state.names = names;
    }

    /// What is on the disk, without a step.
    pub fn look(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock();
        match state.names.get(path) {
            Some(Node::File(file)) => Some(state.files[*file].now.clone()),
            _ => None,
        }
    }

    /// The names in a folder, without a step.
    pub fn list(&self, folder: &Path) -> Vec<String> {
        let state = self.lock();
        let children = state.names.keys().filter(|path| path.parent() == Some(folder));
        children.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect()
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl State {
    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Node::File(file)) => Ok(*file),
            Some(Node::Link(target)) => self.file(&target.clone()),
            Some(Node::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(missing()),
        }
    }

    fn has_folder_of(&self, path: &Path) -> io::Result<()> {
        match path.parent().and_then(|folder| self.names.get(folder)) {
            Some(Node::Folder) => Ok(()),
            _ => Err(missing()),
        }
    }
}

/// The machine as an engine has it.
pub struct Shared(pub Arc<Machine>);

impl System for Shared {
    fn create_dirs(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.0.call(folder)?;
        for path in folder.ancestors() {
            if !state.names.contains_key(path) {
                // The directories of a first use are not what is tried here.
                state.names.insert(path.to_owned(), Node::Folder);
                state.synced.insert(path.to_owned(), Node::Folder);
            }
        }
        Ok(())
    }

    fn create_private_dir(&self, folder: &Path) -> io::Result<()> {
        self.create_dirs(folder)
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let state = self.0.call(folder)?;
        if state.names.get(folder) != Some(&Node::Folder) {
            return Err(missing());
        }
        let children = state.names.keys().filter(|path| path.parent() == Some(folder));
        Ok(children.filter_map(|path| path.file_name().map(OsString::from)).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.0.call(path)?.names.contains_key(path))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == Path::new(BOOT_ID) {
            return Ok(format!("boot {}", self.0.lock().boots).into_bytes());
        }
        let state = self.0.call(path)?;
        Ok(state.files[state.file(path)?].now.clone())
    }

    fn read_secret(&self, path: &Path, _limit: usize) -> io::Result<SecretValue> {
        Ok(SecretValue::copy_of(&self.read(path)?))
    }

    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        {
            let mut state = self.0.call(path)?;
            state.has_folder_of(path)?;
            let file = match state.file(path) {
                Ok(file) => file,
                Err(_) => {
                    state.files.push(Content::default());
                    let file = state.files.len() - 1;
                    state.names.insert(path.to_owned(), Node::File(file));
                    file
                }
            };
            state.files[file].now.clear();
        }
        // In two steps: between them there is half of it.
        for half in [&content[..content.len() / 2], content] {
            let mut state = self.0.call(path)?;
            let file = state.file(path)?;
            state.files[file].now = half.to_vec();
        }
        Ok(())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.call(path)?;
        if state.names.get(path) != Some(&Node::Folder) {
            let file = state.file(path)?;
            state.files[file].synced = Some(state.files[file].now.clone());
            return Ok(());
        }
        let is_in = |child: &Path| child.parent() == Some(path);
        state.synced.retain(|child, _| !is_in(child));
        let children: Vec<_> = state
            .names
            .iter()
            .filter(|(child, _)| is_in(child))
            .map(|(c, n)| (c.clone(), n.clone()))
            .collect();
        state.synced.extend(children);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.call(from)?;
        let node = state.names.remove(from).ok_or_else(missing)?;
        state.names.insert(to.to_owned(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.call(path)?.names.remove(path).map(drop).ok_or_else(missing)
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        let mut state = self.0.call(link)?;
        state.has_folder_of(link)?;
        if state.names.contains_key(link) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.names.insert(link.to_owned(), Node::Link(target.to_owned()));
        Ok(())
    }

    fn read_link(&self, link: &Path) -> io::Result<PathBuf> {
        match self.0.call(link)?.names.get(link) {
            Some(Node::Link(target)) => Ok(target.clone()),
            Some(_) => Err(io::ErrorKind::InvalidInput.into()),
            None => Err(missing()),
        }
    }

    fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        self.0.call(path)?.names.get(path).map(|_| SystemTime::UNIX_EPOCH).ok_or_else(missing)
    }

    fn try_lock(&self, _path: &Path) -> io::Result<Option<LockFile>> {
        Ok(Some(LockFile::alone()))
    }

    fn spawn(&self, _name: &str, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        self.0.start(work);
        Ok(())
    }

    fn pause(&self) {
        drop(self.0.step());
    }
}
