//! libgfapi, loaded at run time: the files of a Gluster volume, without mounting it. After `glusterfs/api/glfs.h` of Gluster 6
//! and later. Errors are told in `errno`.

#![allow(unsafe_code, reason = "calls into a library that is loaded at run time")]

use crate::native::library;
use crate::{FileStat, Space};
use cenote_image::{ReadAt, WriteAt};
use cenote_model::permissions::Permissions;
use cenote_model::volume::{Timestamp, Timestamps};
use rustix::fs::FileType;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::Arc;

type Handle = *mut c_void;

library! {
    /// The functions that are used.
    Gfapi = "libgfapi.so.0" {
        fn glfs_new(*const c_char) -> Handle;
        fn glfs_set_volfile_server(Handle, *const c_char, *const c_char, c_int) -> c_int;
        fn glfs_set_logging(Handle, *const c_char, c_int) -> c_int;
        fn glfs_init(Handle) -> c_int;
        fn glfs_fini(Handle) -> c_int;
        fn glfs_stat(Handle, *const c_char, *mut libc::stat) -> c_int;
        fn glfs_statvfs(Handle, *const c_char, *mut libc::statvfs) -> c_int;
        fn glfs_opendir(Handle, *const c_char) -> Handle;
        fn glfs_readdir_r(Handle, *mut Entry, *mut *mut Entry) -> c_int;
        fn glfs_closedir(Handle) -> c_int;
        fn glfs_open(Handle, *const c_char, c_int) -> Handle;
        fn glfs_creat(Handle, *const c_char, c_int, libc::mode_t) -> Handle;
        fn glfs_close(Handle) -> c_int;
        fn glfs_fstat(Handle, *mut libc::stat) -> c_int;
        fn glfs_pread(Handle, *mut c_void, usize, libc::off_t, c_int, *mut c_void) -> isize;
        fn glfs_pwrite(Handle, *const c_void, usize, libc::off_t, c_int, *mut c_void, *mut c_void) -> isize;
        fn glfs_ftruncate(Handle, libc::off_t, *mut c_void, *mut c_void) -> c_int;
        fn glfs_fallocate(Handle, c_int, libc::off_t, usize) -> c_int;
        fn glfs_discard(Handle, libc::off_t, usize) -> c_int;
        fn glfs_fsync(Handle, *mut c_void, *mut c_void) -> c_int;
        fn glfs_lseek(Handle, libc::off_t, c_int) -> libc::off_t;
        fn glfs_fchown(Handle, libc::uid_t, libc::gid_t) -> c_int;
        fn glfs_fchmod(Handle, libc::mode_t) -> c_int;
        fn glfs_mkdir(Handle, *const c_char, libc::mode_t) -> c_int;
        fn glfs_link(Handle, *const c_char, *const c_char) -> c_int;
        fn glfs_unlink(Handle, *const c_char) -> c_int;
        fn glfs_rmdir(Handle, *const c_char) -> c_int;
    }
}

/// `struct dirent`, with room for names that are longer than they can be: the header says that 512 bytes are enough.
#[repr(C)]
struct Entry {
    entry: libc::dirent,
    room: [u8; 512],
}

fn succeeded(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn opened(handle: Handle) -> io::Result<Handle> {
    if handle.is_null() { Err(io::Error::last_os_error()) } else { Ok(handle) }
}

fn offset(number: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(number).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

/// A server of a volume.
#[derive(Debug, Clone, Copy)]
pub struct Server<'s> {
    /// Its name or address.
    pub name: &'s str,
    /// Its port; 0 for the usual one.
    pub port: u16,
}

/// A volume of Gluster, connected.
pub struct GlusterVolume {
    gfapi: &'static Gfapi,
    handle: Handle,
}

// SAFETY: the library says that all calls may be made by several threads.
unsafe impl Send for GlusterVolume {}
// SAFETY: as above.
unsafe impl Sync for GlusterVolume {}

impl GlusterVolume {
    /// Connects to a volume by the first of these servers that answers.
    pub fn connect(name: &str, servers: &[Server<'_>]) -> io::Result<GlusterVolume> {
        let gfapi = Gfapi::get()?;
        let name = CString::new(name)?;
        // SAFETY: the name ends with a zero.
        let handle = opened(unsafe { (gfapi.glfs_new)(name.as_ptr()) })?;
        let volume = GlusterVolume { gfapi, handle };
        // SAFETY: the volume is open, and the strings end with a zero. What it logs goes nowhere: errors are told.
        unsafe {
            succeeded((gfapi.glfs_set_logging)(handle, c"/dev/null".as_ptr(), 1))?;
            for server in servers {
                let name = CString::new(server.name)?;
                let port = c_int::from(server.port);
                succeeded((gfapi.glfs_set_volfile_server)(handle, c"tcp".as_ptr(), name.as_ptr(), port))?;
            }
            succeeded((gfapi.glfs_init)(handle))?;
        }
        Ok(volume)
    }

    /// What there is at a path, or that a link there leads to.
    pub fn stat(&self, path: &str) -> io::Result<FileStat> {
        let path = CString::new(path)?;
        let mut found = MaybeUninit::zeroed();
        // SAFETY: the volume is open, the path ends with a zero, and zeroes are good values of the structure.
        let found = unsafe {
            succeeded((self.gfapi.glfs_stat)(self.handle, path.as_ptr(), found.as_mut_ptr()))?;
            found.assume_init()
        };
        Ok(described(&found))
    }

    /// The room in the volume.
    pub fn space(&self, path: &str) -> io::Result<Space> {
        let path = CString::new(path)?;
        let mut found = MaybeUninit::<libc::statvfs>::zeroed();
        // SAFETY: as in `stat`.
        let found = unsafe {
            succeeded((self.gfapi.glfs_statvfs)(self.handle, path.as_ptr(), found.as_mut_ptr()))?;
            found.assume_init()
        };
        Ok(Space {
            capacity: found.f_blocks.saturating_mul(found.f_frsize),
            free: found.f_bfree.saturating_mul(found.f_frsize),
        })
    }

    /// The names in a directory, without `.` and `..`. What is no text is left out.
    pub fn names(&self, path: &str) -> io::Result<Vec<String>> {
        let path = CString::new(path)?;
        // SAFETY: the volume is open, and the path ends with a zero. The directory is closed on every way out; an entry's
        // name is read before the next one is asked for, and ends with a zero.
        unsafe {
            let directory = opened((self.gfapi.glfs_opendir)(self.handle, path.as_ptr()))?;
            let mut names = Vec::new();
            let mut room = Box::new(MaybeUninit::<Entry>::zeroed());
            let result = loop {
                let mut entry = null_mut();
                match (self.gfapi.glfs_readdir_r)(directory, room.as_mut_ptr(), &mut entry) {
                    0 if entry.is_null() => break Ok(()),
                    0 => {
                        let name = CStr::from_ptr((&raw const (*entry).entry.d_name).cast());
                        names.extend(
                            name.to_str().ok().filter(|name| !matches!(*name, "." | "..")).map(str::to_owned),
                        );
                    }
                    -1 => break Err(io::Error::last_os_error()),
                    error => break Err(io::Error::from_raw_os_error(error)),
                }
            };
            (self.gfapi.glfs_closedir)(directory);
            result.map(|()| names)
        }
    }

    /// Opens a file for reading, or for reading and writing.
    pub fn open(self: &Arc<GlusterVolume>, path: &str, access: Access) -> io::Result<GlusterFile> {
        let path = CString::new(path)?;
        let flags = match access {
            Access::Read => libc::O_RDONLY,
            Access::Write => libc::O_RDWR,
        };
        // SAFETY: the volume is open, and the path ends with a zero.
        let handle = opened(unsafe { (self.gfapi.glfs_open)(self.handle, path.as_ptr(), flags) })?;
        Ok(GlusterFile { handle, volume: Arc::clone(self) })
    }

    /// Makes a file that is not there yet, and opens it for writing.
    pub fn create(self: &Arc<GlusterVolume>, path: &str, mode: u32) -> io::Result<GlusterFile> {
        let path = CString::new(path)?;
        let flags = libc::O_RDWR | libc::O_EXCL;
        // SAFETY: as in `open`.
        let handle = opened(unsafe { (self.gfapi.glfs_creat)(self.handle, path.as_ptr(), flags, mode) })?;
        Ok(GlusterFile { handle, volume: Arc::clone(self) })
    }

    /// Makes a directory.
    pub fn create_dir(&self, path: &str, mode: u32) -> io::Result<()> {
        let path = CString::new(path)?;
        // SAFETY: as in `open`.
        succeeded(unsafe { (self.gfapi.glfs_mkdir)(self.handle, path.as_ptr(), mode) })
    }

    /// Gives a file one more name, which nothing has yet.
    pub fn link(&self, path: &str, new: &str) -> io::Result<()> {
        let (path, new) = (CString::new(path)?, CString::new(new)?);
        // SAFETY: the volume is open, and the paths end with a zero.
        succeeded(unsafe { (self.gfapi.glfs_link)(self.handle, path.as_ptr(), new.as_ptr()) })
    }

    /// Removes a file.
    pub fn remove_file(&self, path: &str) -> io::Result<()> {
        let path = CString::new(path)?;
        // SAFETY: as in `open`.
        succeeded(unsafe { (self.gfapi.glfs_unlink)(self.handle, path.as_ptr()) })
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, path: &str) -> io::Result<()> {
        let path = CString::new(path)?;
        // SAFETY: as in `open`.
        succeeded(unsafe { (self.gfapi.glfs_rmdir)(self.handle, path.as_ptr()) })
    }
}

impl Drop for GlusterVolume {
    /// The library takes ten seconds for it: nobody waits for that, and a process that ends has no need of it.
    fn drop(&mut self) {
        struct Closed(Handle);
        // SAFETY: nobody else has the handle any more.
        unsafe impl Send for Closed {}
        impl Closed {
            fn close(self, gfapi: &Gfapi) {
                // SAFETY: the volume is open. Files hold it, so all of them are closed, and it is not used again.
                unsafe { (gfapi.glfs_fini)(self.0) };
            }
        }
        let (closed, gfapi) = (Closed(self.handle), self.gfapi);
        // Where no thread can be made, the volume stays as it is.
        let _ =
            std::thread::Builder::new().name("gluster-close".to_owned()).spawn(move || closed.close(gfapi));
    }
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// An open file of a volume.
pub struct GlusterFile {
    handle: Handle,
    volume: Arc<GlusterVolume>,
}

// SAFETY: as with the volume.
unsafe impl Send for GlusterFile {}
// SAFETY: as with the volume.
unsafe impl Sync for GlusterFile {}

impl GlusterFile {
    /// What there is to know about it.
    pub fn stat(&self) -> io::Result<FileStat> {
        let mut found = MaybeUninit::zeroed();
        // SAFETY: the file is open, and zeroes are good values of the structure.
        let found = unsafe {
            succeeded((self.volume.gfapi.glfs_fstat)(self.handle, found.as_mut_ptr()))?;
            found.assume_init()
        };
        Ok(described(&found))
    }

    /// The next range with data from `from` on, within the file's size; `None` if only a hole is left.
    pub fn next_data(&self, from: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
        let seek = |from: u64, whence: c_int| {
            let from = offset(from)?;
            // SAFETY: the file is open.
            let found = unsafe { (self.volume.gfapi.glfs_lseek)(self.handle, from, whence) };
            u64::try_from(found).map_err(|_| io::Error::last_os_error())
        };
        let start = match seek(from, libc::SEEK_DATA) {
            Ok(start) => start,
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
            // Not every brick can tell.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => return Ok(Some((from, size))),
            Err(e) => return Err(e),
        };
        Ok(Some((start, seek(start, libc::SEEK_HOLE)?)))
    }

    /// Gives up the blocks of a range, which reads as zeroes from then on.
    pub fn discard(&self, from: u64, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        // SAFETY: the file is open.
        succeeded(unsafe { (self.volume.gfapi.glfs_discard)(self.handle, offset(from)?, length) })
    }

    /// Sets the mode, and the owner and group where they are given.
    pub fn set_permissions(&self, mode: u32, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
        let gfapi = self.volume.gfapi;
        // SAFETY: the file is open. All ones leave the owner or the group as it is.
        unsafe {
            if owner.is_some() || group.is_some() {
                let (owner, group) = (owner.unwrap_or(u32::MAX), group.unwrap_or(u32::MAX));
                succeeded((gfapi.glfs_fchown)(self.handle, owner, group))?;
            }
            succeeded((gfapi.glfs_fchmod)(self.handle, mode))
        }
    }
}

impl ReadAt for GlusterFile {
    fn read_at(&self, buf: &mut [u8], from: u64) -> io::Result<usize> {
        let (bytes, length) = (buf.as_mut_ptr().cast(), buf.len());
        // SAFETY: the file is open, and the buffer as long as is said.
        let read = unsafe {
            (self.volume.gfapi.glfs_pread)(self.handle, bytes, length, offset(from)?, 0, null_mut())
        };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }

    fn size(&self) -> io::Result<u64> {
        self.stat().map(|found| found.size)
    }
}

impl WriteAt for GlusterFile {
    fn write_all_at(&self, mut data: &[u8], mut from: u64) -> io::Result<()> {
        while !data.is_empty() {
            let (bytes, length) = (data.as_ptr().cast(), data.len());
            // SAFETY: the file is open, and the buffer as long as is said.
            let written = unsafe {
                let none = null_mut();
                (self.volume.gfapi.glfs_pwrite)(self.handle, bytes, length, offset(from)?, 0, none, none)
            };
            match usize::try_from(written) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    data = &data[written.min(length)..];
                    from += written as u64;
                }
                Err(_) => return Err(io::Error::last_os_error()),
            }
        }
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let none = null_mut();
        // SAFETY: the file is open; what it was like before and is like afterwards is not asked for.
        succeeded(unsafe { (self.volume.gfapi.glfs_ftruncate)(self.handle, offset(size)?, none, none) })
    }

    fn allocate(&self, from: u64, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        // SAFETY: the file is open.
        succeeded(unsafe { (self.volume.gfapi.glfs_fallocate)(self.handle, 1, offset(from)?, length) })
    }

    /// All of it is on the bricks' disks then.
    fn sync(&self) -> io::Result<()> {
        // SAFETY: the file is open; what it was like before and is like afterwards is not asked for.
        succeeded(unsafe { (self.volume.gfapi.glfs_fsync)(self.handle, null_mut(), null_mut()) })
    }
}

impl Drop for GlusterFile {
    fn drop(&mut self) {
        // SAFETY: the file is open, and is not used again.
        unsafe { (self.volume.gfapi.glfs_close)(self.handle) };
    }
}

fn described(found: &libc::stat) -> FileStat {
    let time = |seconds: i64, nanoseconds: i64| Timestamp {
        seconds: u64::try_from(seconds).unwrap_or(0),
        nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
    };
    FileStat {
        kind: FileType::from_raw_mode(found.st_mode),
        size: u64::try_from(found.st_size).unwrap_or(0),
        allocated: u64::try_from(found.st_blocks).unwrap_or(0).saturating_mul(512),
        permissions: Permissions {
            mode: Some(found.st_mode & 0o777),
            owner: Some(found.st_uid),
            group: Some(found.st_gid),
            label: None,
        },
        timestamps: Timestamps {
            atime: time(found.st_atime, found.st_atime_nsec),
            mtime: time(found.st_mtime, found.st_mtime_nsec),
            ctime: time(found.st_ctime, found.st_ctime_nsec),
            btime: None,
        },
    }
}
