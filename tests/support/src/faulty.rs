//! A file system that hangs, delays and fails at chosen calls: a folder of this machine, seen through FUSE.

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use rustix::fs::{FallocateFlags, RenameFlags as HostRenameFlags};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// So many calls may hang at once and others still go on.
const THREADS: usize = 24;
/// Nothing is cached, so that every call comes here.
const NOT_AT_ALL: Duration = Duration::ZERO;

/// A call of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "they are FUSE's")]
pub enum Call {
    Lookup,
    Getattr,
    Setattr,
    Open,
    Create,
    Read,
    Write,
    Fsync,
    Fallocate,
    Unlink,
    Rename,
    Readdir,
    Statfs,
}

impl Call {
    /// All of them.
    pub const ALL: [Call; 13] = [
        Call::Lookup,
        Call::Getattr,
        Call::Setattr,
        Call::Open,
        Call::Create,
        Call::Read,
        Call::Write,
        Call::Fsync,
        Call::Fallocate,
        Call::Unlink,
        Call::Rename,
        Call::Readdir,
        Call::Statfs,
    ];
}

/// What is wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does not return before the fault is lifted.
    Hangs,
    /// It takes so long.
    Takes(Duration),
    /// The medium is broken.
    Eio,
    /// It is full.
    Enospc,
}

/// The file system, mounted until the value is dropped.
pub struct FaultyFs {
    faults: Arc<Faults>,
    mount: PathBuf,
    behind: PathBuf,
    session: Option<BackgroundSession>,
    _folder: TempDir,
}

#[derive(Default)]
struct Faults {
    now: Mutex<HashMap<Call, Fault>>,
    changed: Condvar,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, HashMap<Call, Fault>> {
        self.now.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Returns when a call may go on, or with what it fails.
    fn pass(&self, call: Call) -> Result<(), Errno> {
        let mut now = self.lock();
        while now.get(&call) == Some(&Fault::Hangs) {
            now = self.changed.wait(now).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        match now.get(&call).copied() {
            None | Some(Fault::Hangs) => Ok(()),
            Some(Fault::Takes(time)) => {
                drop(now);
                std::thread::sleep(time);
                Ok(())
            }
            Some(Fault::Eio) => Err(Errno::EIO),
            Some(Fault::Enospc) => Err(Errno::ENOSPC),
        }
    }
}

impl FaultyFs {
    /// A file system without faults, and nothing in it.
    pub fn new() -> FaultyFs {
        let folder = tempfile::tempdir().unwrap();
        let (mount, behind) = (folder.path().join("mnt"), folder.path().join("behind"));
        fs::create_dir(&mount).unwrap();
        fs::create_dir(&behind).unwrap();
        let faults = Arc::new(Faults::default());
        let seen = Seen { faults: Arc::clone(&faults), root: behind.clone(), inodes: Mutex::default() };
        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::FSName("cenote-faulty".to_owned()), MountOption::DefaultPermissions];
        config.acl = fuser::SessionACL::All;
        config.n_threads = Some(THREADS);
        let session = fuser::spawn_mount(seen, &mount, &config).unwrap();
        FaultyFs { faults, mount, behind, session: Some(session), _folder: folder }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// The folder behind it, which has no faults.
    pub fn behind(&self) -> &Path {
        &self.behind
    }

    /// From now on this is wrong with these calls.
    pub fn fault(&self, calls: &[Call], fault: Fault) {
        self.faults.lock().extend(calls.iter().map(|call| (*call, fault)));
        self.faults.changed.notify_all();
    }

    /// From now on nothing is wrong.
    pub fn heal(&self) {
        self.faults.lock().clear();
        self.faults.changed.notify_all();
    }
}

impl Default for FaultyFs {
    fn default() -> FaultyFs {
        FaultyFs::new()
    }
}

impl Drop for FaultyFs {
    fn drop(&mut self) {
        self.heal();
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.mount).status();
        drop(self.session.take());
    }
}

/// What FUSE sees: the folder behind, with a number for each path that was looked up.
struct Seen {
    faults: Arc<Faults>,
    root: PathBuf,
    inodes: Mutex<Inodes>,
}

#[derive(Default)]
struct Inodes {
    paths: HashMap<u64, PathBuf>,
    numbers: HashMap<PathBuf, u64>,
}

impl Inodes {
    fn number(&mut self, path: &Path) -> u64 {
        let next = self.paths.len() as u64 + 2;
        let number = *self.numbers.entry(path.to_owned()).or_insert(next);
        self.paths.entry(number).or_insert_with(|| path.to_owned());
        number
    }

    /// What was at one path is at another one now; nothing is left at the first.
    fn rename(&mut self, from: &Path, to: &Path) {
        if let Some(number) = self.numbers.remove(from) {
            self.numbers.insert(to.to_owned(), number);
            self.paths.insert(number, to.to_owned());
        }
    }

    /// What is there later has another number.
    fn forget(&mut self, path: &Path) {
        self.numbers.remove(path);
    }
}

fn errno(e: &io::Error) -> Errno {
    Errno::from_i32(e.raw_os_error().unwrap_or(libc::EIO))
}

impl Seen {
    fn inodes(&self) -> MutexGuard<'_, Inodes> {
        self.inodes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn path(&self, inode: INodeNo) -> PathBuf {
        match inode {
            INodeNo::ROOT => self.root.clone(),
            inode => {
                self.inodes().paths.get(&u64::from(inode)).cloned().unwrap_or_else(|| "/nonexistent".into())
            }
        }
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> PathBuf {
        self.path(parent).join(name)
    }

    fn attributes(&self, path: &Path) -> Result<FileAttr, Errno> {
        let found = fs::symlink_metadata(path).map_err(|e| errno(&e))?;
        let number = if path == self.root { 1 } else { self.inodes().number(path) };
        Ok(attributes(INodeNo(number), &found))
    }

    fn on<T>(&self, call: Call, work: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        self.faults.pass(call)?;
        work()
    }
}

fn attributes(ino: INodeNo, found: &Metadata) -> FileAttr {
    let time = |seconds: i64, nanos: i64| UNIX_EPOCH + Duration::new(seconds as u64, nanos as u32);
    FileAttr {
        ino,
        size: found.size(),
        blocks: found.blocks(),
        atime: time(found.atime(), found.atime_nsec()),
        mtime: time(found.mtime(), found.mtime_nsec()),
        ctime: time(found.ctime(), found.ctime_nsec()),
        crtime: UNIX_EPOCH,
        kind: if found.is_dir() { FileType::Directory } else { FileType::RegularFile },
        perm: (found.mode() & 0o7777) as u16,
        nlink: found.nlink() as u32,
        uid: found.uid(),
        gid: found.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Seen {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.on(Call::Lookup, || self.attributes(&self.child(parent, name))) {
            Ok(found) => reply.entry(&NOT_AT_ALL, &found, Generation(0)),
            Err(e) => reply.error(e),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.on(Call::Getattr, || self.attributes(&self.path(ino))) {
            Ok(found) => reply.attr(&NOT_AT_ALL, &found),
            Err(e) => reply.error(e),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let path = self.path(ino);
        let set = || -> io::Result<()> {
            if let Some(size) = size {
                OpenOptions::new().write(true).open(&path)?.set_len(size)?;
            }
            if uid.is_some() || gid.is_some() {
                std::os::unix::fs::chown(&path, uid, gid)?;
            }
            if let Some(mode) = mode {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o7777))?;
            }
            Ok(())
        };
        match self.on(Call::Setattr, || set().map_err(|e| errno(&e)).and_then(|()| self.attributes(&path))) {
            Ok(found) => reply.attr(&NOT_AT_ALL, &found),
            Err(e) => reply.error(e),
        }
    }

    fn mkdir(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let path = self.child(parent, name);
        let made = fs::create_dir(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o7777)))
            .map_err(|e| errno(&e))
            .and_then(|()| self.attributes(&path));
        match made {
            Ok(found) => reply.entry(&NOT_AT_ALL, &found, Generation(0)),
            Err(e) => reply.error(e),
        }
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let path = self.child(parent, name);
        let unlinked = self.on(Call::Unlink, || fs::remove_file(&path).map_err(|e| errno(&e)));
        self.inodes().forget(&path);
        match unlinked {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let path = self.child(parent, name);
        self.inodes().forget(&path);
        match fs::remove_dir(path) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(errno(&e)),
        }
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = (self.child(parent, name), self.child(newparent, newname));
        let flags = HostRenameFlags::from_bits_retain(flags.bits());
        let cwd = rustix::fs::CWD;
        let renamed = self.on(Call::Rename, || {
            rustix::fs::renameat_with(cwd, &from, cwd, &to, flags).map_err(|e| errno(&e.into()))
        });
        match renamed {
            Ok(()) => {
                self.inodes().rename(&from, &to);
                reply.ok();
            }
            Err(e) => reply.error(e),
        }
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.on(Call::Open, || {
            let mut options = OpenOptions::new();
            options.read(true).write(flags.0 & libc::O_ACCMODE != libc::O_RDONLY);
            options.truncate(flags.0 & libc::O_TRUNC != 0).open(self.path(ino)).map_err(|e| errno(&e))
        });
        match opened {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(e) => reply.error(e),
        }
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let path = self.child(parent, name);
        let created = self.on(Call::Create, || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).mode(mode).custom_flags(flags & libc::O_EXCL);
            options.open(&path).map_err(|e| errno(&e))?;
            self.attributes(&path)
        });
        match created {
            Ok(found) => {
                let flags = FopenFlags::FOPEN_DIRECT_IO;
                reply.created(&NOT_AT_ALL, &found, Generation(0), FileHandle(0), flags);
            }
            Err(e) => reply.error(e),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut data = vec![0; size as usize];
        let read = self.on(Call::Read, || {
            let file = File::open(self.path(ino)).map_err(|e| errno(&e))?;
            file.read_at(&mut data, offset).map_err(|e| errno(&e))
        });
        match read {
            Ok(read) => reply.data(&data[..read]),
            Err(e) => reply.error(e),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.on(Call::Write, || {
            let file = OpenOptions::new().write(true).open(self.path(ino)).map_err(|e| errno(&e))?;
            file.write_at(data, offset).map_err(|e| errno(&e))
        });
        match written {
            Ok(written) => reply.written(written as u32),
            Err(e) => reply.error(e),
        }
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        match self.on(Call::Fsync, || Ok(())) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        match self.on(Call::Fsync, || Ok(())) {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let folder = self.path(ino);
        let read = self.on(Call::Readdir, || {
            let entries = fs::read_dir(&folder).map_err(|e| errno(&e))?;
            let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
            names.sort();
            Ok(names)
        });
        match read {
            Ok(names) => {
                for (at, name) in names.iter().enumerate().skip(offset as usize) {
                    let Ok(found) = self.attributes(&folder.join(name)) else { continue };
                    if reply.add(found.ino, at as u64 + 1, found.kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(e) => reply.error(e),
        }
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let found = self.on(Call::Statfs, || rustix::fs::statvfs(&self.root).map_err(|e| errno(&e.into())));
        match found {
            Ok(found) => reply.statfs(
                found.f_blocks,
                found.f_bfree,
                found.f_bavail,
                found.f_files,
                found.f_ffree,
                found.f_bsize as u32,
                found.f_namemax as u32,
                found.f_frsize as u32,
            ),
            Err(e) => reply.error(e),
        }
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let allocated = self.on(Call::Fallocate, || {
            let file = OpenOptions::new().write(true).open(self.path(ino)).map_err(|e| errno(&e))?;
            let flags = FallocateFlags::from_bits_retain(mode as u32);
            rustix::fs::fallocate(&file, flags, offset, length).map_err(|e| errno(&e.into()))
        });
        match allocated {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }
}
