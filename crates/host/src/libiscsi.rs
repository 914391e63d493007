//! libiscsi, loaded at run time: sessions with iSCSI targets in this process, without the kernel's initiator. After
//! `iscsi/iscsi.h` and `iscsi/scsi-lowlevel.h` of libiscsi 1.18 and later, of whose structures only beginnings are read.

#![allow(unsafe_code, reason = "calls into a library that is loaded at run time")]

use crate::native::library;
use crate::{Account, Chap};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::ptr::null_mut;
use std::time::{Duration, Instant};

type Context = *mut c_void;
type Task = *mut c_void;
type Callback = extern "C" fn(Context, c_int, *mut c_void, *mut c_void);

library! {
    /// The functions that are used.
    Functions = "libiscsi.so.7" {
        fn iscsi_create_context(*const c_char) -> Context;
        fn iscsi_destroy_context(Context) -> c_int;
        fn iscsi_set_targetname(Context, *const c_char) -> c_int;
        fn iscsi_set_session_type(Context, c_int) -> c_int;
        fn iscsi_set_initiator_username_pwd(Context, *const c_char, *const c_char) -> c_int;
        fn iscsi_set_target_username_pwd(Context, *const c_char, *const c_char) -> c_int;
        fn iscsi_set_noautoreconnect(Context, c_int);
        fn iscsi_set_timeout(Context, c_int) -> c_int;
        fn iscsi_get_error(Context) -> *const c_char;
        fn iscsi_get_fd(Context) -> c_int;
        fn iscsi_which_events(Context) -> c_int;
        fn iscsi_service(Context, c_int) -> c_int;
        fn iscsi_connect_async(Context, *const c_char, Callback, *mut c_void) -> c_int;
        fn iscsi_login_async(Context, Callback, *mut c_void) -> c_int;
        fn iscsi_logout_async(Context, Callback, *mut c_void) -> c_int;
        fn iscsi_discovery_async(Context, Callback, *mut c_void) -> c_int;
        fn iscsi_scsi_command_async(Context, c_int, Task, Callback, *mut c_void, *mut c_void) -> c_int;
        fn scsi_create_task(c_int, *mut u8, c_int, c_int) -> Task;
        fn scsi_task_add_data_in_buffer(Task, c_int, *mut u8) -> c_int;
        fn scsi_task_add_data_out_buffer(Task, c_int, *mut u8) -> c_int;
        fn scsi_free_scsi_task(Task);
    }
}

/// How long connecting, logging in, or a command may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of the longest name and password (`MAX_STRING_SIZE`).
const LONGEST: usize = 255;
/// A good end, of SCSI's and libiscsi's.
const GOOD: c_int = 0;
const CHECK_CONDITION: c_int = 2;

/// Who logs in, and where.
#[derive(Debug, Clone, Copy)]
pub struct Login<'l> {
    /// `ADDRESS:PORT`
    pub portal: &'l str,
    /// The name of this side.
    pub initiator: &'l str,
    /// Names and passwords, where there is CHAP.
    pub chap: Option<&'l Chap>,
}

/// Data that goes with a command.
#[derive(Debug)]
pub enum Data<'d> {
    /// None.
    None,
    /// To here.
    In(&'d mut [u8]),
    /// From here.
    Out(&'d [u8]),
}

/// A command of SCSI.
#[derive(Debug)]
pub struct Command<'c> {
    /// The command itself, of 6, 10, 12 or 16 bytes.
    pub block: &'c [u8],
    /// Its data.
    pub data: Data<'c>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Well.
    Good,
    /// There is something to be told, such as that the unit has been reset.
    Check,
    /// In another way.
    Otherwise,
}

/// A session with a target.
pub struct Session {
    connection: Connection,
}

/// A context of libiscsi. It is used by one thread at a time.
struct Connection {
    functions: &'static Functions,
    context: Context,
    /// How connecting ended. libiscsi writes to it once more when the connection ends.
    connected: Box<Connected>,
    portal: String,
}

/// How connecting ended, and why it failed, which libiscsi forgets soon.
#[derive(Default)]
struct Connected {
    ended: Cell<Option<c_int>>,
    why: Cell<Option<String>>,
}

// SAFETY: nothing in a context belongs to a thread, and it is used through `&mut`.
unsafe impl Send for Connection {}

extern "C" fn note(_: Context, status: c_int, _: *mut c_void, ended: *mut c_void) {
    // SAFETY: it is the cell that was given with the call, which is kept until the context is destroyed.
    unsafe { &*ended.cast::<Cell<Option<c_int>>>() }.set(Some(status));
}

extern "C" fn connected(context: Context, status: c_int, _: *mut c_void, connected: *mut c_void) {
    // SAFETY: it is what was given with the call, which is kept until the context is destroyed; the context is open.
    unsafe {
        let connected = &*connected.cast::<Connected>();
        if status != GOOD && connected.ended.get().is_none() {
            connected.why.set(Functions::get().ok().map(|functions| last_error(functions, context)));
        }
        connected.ended.set(Some(status));
    }
}

/// What libiscsi says about its last failure.
///
/// # Safety
/// The context is open.
unsafe fn last_error(functions: &Functions, context: Context) -> String {
    // SAFETY: by this function's own condition. What it says ends with a zero, and is there until the next call.
    unsafe {
        let text = (functions.iscsi_get_error)(context);
        if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
    }
}

/// What a discovery found, and how it ended.
#[derive(Default)]
struct Discovered {
    ended: Cell<Option<c_int>>,
    targets: Cell<Vec<String>>,
}

extern "C" fn discovered(_: Context, status: c_int, list: *mut c_void, found: *mut c_void) {
    /// The beginning of `struct iscsi_discovery_address`.
    #[repr(C)]
    struct Address {
        next: *const Address,
        target_name: *const c_char,
    }
    // SAFETY: it is what was given with the call, which is kept until the context is destroyed; and where a discovery ends
    // well, the list is there for as long as this call, and its strings end with a zero.
    unsafe {
        let found = &*found.cast::<Discovered>();
        let mut targets = Vec::new();
        let mut address = list.cast_const().cast::<Address>();
        while status == GOOD && !address.is_null() {
            targets.push(CStr::from_ptr((*address).target_name).to_string_lossy().into_owned());
            address = (*address).next;
        }
        found.targets.set(targets);
        found.ended.set(Some(status));
    }
}

impl Connection {
    fn open(login: Login<'_>, target: Option<&str>) -> io::Result<Connection> {
        let functions = Functions::get()?;
        let initiator = CString::new(login.initiator)?;
        // SAFETY: the name ends with a zero.
        let context = unsafe { (functions.iscsi_create_context)(initiator.as_ptr()) };
        if context.is_null() {
            return Err(io::Error::other("Failed to create iscsi context"));
        }
        let portal = login.portal.to_owned();
        let mut connection = Connection { functions, context, connected: Box::default(), portal };
        let target = target.map(CString::new).transpose()?;
        // SAFETY: the context is open, and the strings end with a zero; libiscsi copies them.
        unsafe {
            (functions.iscsi_set_noautoreconnect)(context, 1);
            connection.check((functions.iscsi_set_timeout)(context, PATIENCE.as_secs() as c_int))?;
            if let Some(target) = &target {
                connection.check((functions.iscsi_set_targetname)(context, target.as_ptr()))?;
            }
            let kind = if target.is_some() { 2 } else { 1 };
            connection.check((functions.iscsi_set_session_type)(context, kind))?;
        }
        if let Some(Chap { initiator, target }) = login.chap {
            connection.set_account(functions.iscsi_set_initiator_username_pwd, initiator)?;
            if let Some(target) = target {
                connection.set_account(functions.iscsi_set_target_username_pwd, target)?;
            }
        }
        let portal = CString::new(login.portal)?;
        let noted = (&raw const *connection.connected).cast_mut().cast();
        // SAFETY: as above; what is written to is kept as long as the context.
        let begun = unsafe { (functions.iscsi_connect_async)(context, portal.as_ptr(), connected, noted) };
        connection.check(begun)?;
        let status = connection.wait(|connection| connection.connected.ended.get())?;
        if let Some(why) = connection.connected.why.take() {
            return Err(connection.told(why));
        }
        connection.check(status)?;
        connection.call(functions.iscsi_login_async)?;
        Ok(connection)
    }

    fn set_account(
        &mut self,
        set: unsafe extern "C" fn(Context, *const c_char, *const c_char) -> c_int,
        account: &Account,
    ) -> io::Result<()> {
        let name = CString::new(account.name.as_str())?;
        // libiscsi passes over accounts without a name or a password, and cuts off what is too long.
        let is_possible = |length: usize| (1..=LONGEST).contains(&length);
        if !is_possible(name.as_bytes().len()) || !is_possible(account.password.expose().len()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the name and the password of '{}' need 1 to {LONGEST} bytes", account.name),
            ));
        }
        let text = account.password.with_nul();
        let text = CStr::from_bytes_with_nul(text.expose()).map_err(io::Error::other)?;
        // SAFETY: the context is open, and the strings end with a zero; libiscsi copies them.
        let set = unsafe { set(self.context, name.as_ptr(), text.as_ptr()) };
        self.check(set)
    }

    /// Begins something that ends once, and waits until it has ended.
    fn call(
        &mut self,
        begin: unsafe extern "C" fn(Context, Callback, *mut c_void) -> c_int,
    ) -> io::Result<()> {
        let ended = Box::new(Cell::new(None));
        // SAFETY: the context is open; the cell is kept until what was begun has ended, or the context is destroyed.
        let begun = unsafe { begin(self.context, note, (&raw const *ended).cast_mut().cast()) };
        self.check(begun)?;
        let status = self.wait(|_| ended.get())?;
        self.check(status)
    }

    /// Serves the connection until something has ended. If that fails or takes too long, the connection is given up, and with
    /// it all that was begun: nothing is written to what was given to libiscsi from then on.
    fn wait<T>(&mut self, ended: impl Fn(&Connection) -> Option<T>) -> io::Result<T> {
        let started = Instant::now();
        loop {
            if let Some(ended) = ended(self) {
                return Ok(ended);
            }
            if let Err(e) = self.serve(started) {
                // It may be what has ended that the connection did not survive.
                if let Some(ended) = ended(self) {
                    return Ok(ended);
                }
                self.close();
                return Err(e);
            }
        }
    }

    fn serve(&mut self, started: Instant) -> io::Result<()> {
        if self.context.is_null() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if started.elapsed() > PATIENCE {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{} does not answer: Connection timed out", self.portal),
            ));
        }
        // SAFETY: the context is open, and the descriptor is open while it is.
        unsafe {
            let events = (self.functions.iscsi_which_events)(self.context);
            let descriptor = (self.functions.iscsi_get_fd)(self.context);
            let mut happened = 0;
            if descriptor >= 0 {
                let wanted = PollFlags::from_bits_truncate(events as u16);
                let mut descriptors = [PollFd::from_borrowed_fd(BorrowedFd::borrow_raw(descriptor), wanted)];
                let step = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
                match poll(&mut descriptors, Some(&step)) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(e) => return Err(e.into()),
                }
                happened = c_int::from(descriptors[0].revents().bits());
            }
            let served = (self.functions.iscsi_service)(self.context, happened);
            self.check(served)
        }
    }

    /// What libiscsi says about its last failure.
    fn error(&self) -> io::Error {
        if self.context.is_null() {
            return io::ErrorKind::NotConnected.into();
        }
        // SAFETY: the context is open.
        self.told(unsafe { last_error(self.functions, self.context) })
    }

    fn told(&self, text: String) -> io::Error {
        let text = if text.is_empty() { "the connection was lost".to_owned() } else { text };
        io::Error::other(format!("{}: {text}", self.portal))
    }

    fn check(&self, result: c_int) -> io::Result<()> {
        if result == 0 { Ok(()) } else { Err(self.error()) }
    }

    fn close(&mut self) {
        let context = std::mem::replace(&mut self.context, null_mut());
        if !context.is_null() {
            // SAFETY: the context is open, and is not used again. Callbacks of what is under way are called now, and what
            // they write to is kept by whoever called this.
            unsafe { (self.functions.iscsi_destroy_context)(context) };
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

/// The names of the targets at a portal.
pub fn discover(login: Login<'_>) -> io::Result<Vec<String>> {
    let mut connection = Connection::open(login, None)?;
    let found = Box::new(Discovered::default());
    // SAFETY: the context is open; what is written to is kept until the discovery has ended, or the context is destroyed.
    let begun = unsafe {
        let found = (&raw const *found).cast_mut().cast();
        (connection.functions.iscsi_discovery_async)(connection.context, discovered, found)
    };
    connection.check(begun)?;
    let status = connection.wait(|_| found.ended.get())?;
    connection.check(status)?;
    let _ = connection.call(connection.functions.iscsi_logout_async);
    Ok(found.targets.take())
}

/// A command that libiscsi has.
struct Sent {
    ended: Cell<Option<c_int>>,
    task: Task,
}

impl Session {
    /// Connects and logs in.
    pub fn open(login: Login<'_>, target: &str) -> io::Result<Session> {
        Ok(Session { connection: Connection::open(login, Some(target))? })
    }

    /// Has a LUN do commands, all at once, and tells how each ended. An error means that the session is lost.
    pub fn run(&mut self, lun: u16, commands: &mut [Command<'_>]) -> io::Result<Vec<Ended>> {
        let functions = self.connection.functions;
        let sent: Box<[Sent]> = commands
            .iter()
            .map(|command| Sent { ended: Cell::new(None), task: task(functions, command) })
            .collect();
        let result = self.send(lun, commands, &sent);
        for sent in &sent {
            // SAFETY: the command has ended, or the context is destroyed, or it was never sent.
            unsafe { (functions.scsi_free_scsi_task)(sent.task) };
        }
        result?;
        let ended = sent.iter().map(|sent| match sent.ended.get() {
            Some(GOOD) => Ended::Good,
            Some(CHECK_CONDITION) => Ended::Check,
            _ => Ended::Otherwise,
        });
        Ok(ended.collect())
    }

    fn send(&mut self, lun: u16, commands: &mut [Command<'_>], sent: &[Sent]) -> io::Result<()> {
        let connection = &mut self.connection;
        let functions = connection.functions;
        if connection.context.is_null() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        for (command, sent) in commands.iter_mut().zip(sent) {
            // SAFETY: the task was made for this command. Its buffer is as long as is said, and borrowed until this function
            // returns, when the command has ended or the context is destroyed. What goes out is not written to.
            let begun = unsafe {
                let added = match &mut command.data {
                    Data::None => 0,
                    Data::In(buffer) => (functions.scsi_task_add_data_in_buffer)(
                        sent.task,
                        length(buffer.len()),
                        buffer.as_mut_ptr(),
                    ),
                    Data::Out(buffer) => (functions.scsi_task_add_data_out_buffer)(
                        sent.task,
                        length(buffer.len()),
                        buffer.as_ptr().cast_mut(),
                    ),
                };
                let private = (&raw const sent.ended).cast_mut().cast();
                match added {
                    0 => (functions.iscsi_scsi_command_async)(
                        connection.context,
                        c_int::from(lun),
                        sent.task,
                        note,
                        null_mut(),
                        private,
                    ),
                    failed => failed,
                }
            };
            if let Err(e) = connection.check(begun) {
                connection.close();
                return Err(e);
            }
        }
        connection.wait(|_| sent.iter().all(|sent| sent.ended.get().is_some()).then_some(()))
    }

    /// What libiscsi says about the command that ended badly last.
    pub fn error(&self) -> io::Error {
        self.connection.error()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.connection.context.is_null() {
            let _ = self.connection.call(self.connection.functions.iscsi_logout_async);
        }
    }
}

fn task(functions: &Functions, command: &Command<'_>) -> Task {
    let mut block = [0; 16];
    let size = command.block.len().min(block.len());
    block[..size].copy_from_slice(&command.block[..size]);
    let (direction, expected) = match &command.data {
        Data::None => (0, 0),
        Data::In(buffer) => (1, buffer.len()),
        Data::Out(buffer) => (2, buffer.len()),
    };
    // SAFETY: the block is as long as is said, and copied.
    unsafe { (functions.scsi_create_task)(length(size), block.as_mut_ptr(), direction, length(expected)) }
}

fn length(length: usize) -> c_int {
    c_int::try_from(length).unwrap_or(c_int::MAX)
}
