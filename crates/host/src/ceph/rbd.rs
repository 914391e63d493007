//! librbd: the images of a pool. After `rbd/librbd.h` of Ceph 14 and later.

#![allow(unsafe_code, reason = "calls into a library that is loaded at run time")]

use super::{Pool, succeeded};
use crate::native::library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::ptr::{null, null_mut};
use std::sync::Arc;

type Handle = *mut c_void;
type Progress = extern "C" fn(u64, u64, *mut c_void) -> c_int;

library! {
    /// The functions that are used.
    Rbd = "librbd.so.1" {
        fn rbd_list2(Handle, *mut Spec, *mut usize) -> c_int;
        fn rbd_image_spec_list_cleanup(*mut Spec, usize);
        fn rbd_create(Handle, *const c_char, u64, *mut c_int) -> c_int;
        fn rbd_clone2(
            Handle, *const c_char, *const c_char, Handle, *const c_char, u64, *mut c_int, u64, c_int,
        ) -> c_int;
        fn rbd_remove_with_progress(Handle, *const c_char, Progress, *mut c_void) -> c_int;
        fn rbd_open(Handle, *const c_char, *mut Handle, *const c_char) -> c_int;
        fn rbd_open_read_only(Handle, *const c_char, *mut Handle, *const c_char) -> c_int;
        fn rbd_close(Handle) -> c_int;
        fn rbd_stat(Handle, *mut Stat, usize) -> c_int;
        fn rbd_get_features(Handle, *mut u64) -> c_int;
        fn rbd_get_stripe_unit(Handle, *mut u64) -> c_int;
        fn rbd_get_stripe_count(Handle, *mut u64) -> c_int;
        fn rbd_resize_with_progress(Handle, u64, Progress, *mut c_void) -> c_int;
        fn rbd_diff_iterate2(
            Handle, *const c_char, u64, u64, u8, u8, extern "C" fn(u64, usize, c_int, *mut c_void) -> c_int, *mut c_void,
        ) -> c_int;
        fn rbd_snap_list(Handle, *mut Snap, *mut c_int) -> c_int;
        fn rbd_snap_list_end(*mut Snap);
        fn rbd_snap_create(Handle, *const c_char) -> c_int;
        fn rbd_snap_remove(Handle, *const c_char) -> c_int;
        fn rbd_snap_remove2(Handle, *const c_char, u32, Progress, *mut c_void) -> c_int;
        fn rbd_snap_protect(Handle, *const c_char) -> c_int;
        fn rbd_snap_unprotect(Handle, *const c_char) -> c_int;
        fn rbd_snap_is_protected(Handle, *const c_char, *mut c_int) -> c_int;
        fn rbd_watchers_list(Handle, *mut Watch, *mut usize) -> c_int;
        fn rbd_watchers_list_cleanup(*mut Watch, usize);
        fn rbd_discard(Handle, u64, u64) -> c_int;
        fn rbd_write_zeroes(Handle, u64, usize, c_int, c_int) -> isize;
        fn rbd_flush(Handle) -> c_int;
        fn rbd_aio_create_completion(*mut c_void, *const c_void, *mut Handle) -> c_int;
        fn rbd_aio_read(Handle, u64, usize, *mut c_char, Handle) -> c_int;
        fn rbd_aio_write(Handle, u64, usize, *const c_char, Handle) -> c_int;
        fn rbd_aio_wait_for_complete(Handle) -> c_int;
        fn rbd_aio_get_return_value(Handle) -> isize;
        fn rbd_aio_release(Handle);
    }
}

/// `rbd_image_spec_t`
#[repr(C)]
#[derive(Clone, Copy)]
struct Spec {
    id: *mut c_char,
    name: *mut c_char,
}

/// `rbd_image_info_t`
#[repr(C)]
struct Stat {
    size: u64,
    obj_size: u64,
    num_objs: u64,
    order: c_int,
    block_name_prefix: [c_char; 24],
    parent_pool: i64,
    parent_name: [c_char; 96],
}

/// `rbd_snap_info_t`
#[repr(C)]
#[derive(Clone, Copy)]
struct Snap {
    id: u64,
    size: u64,
    name: *const c_char,
}

/// `rbd_image_watcher_t`
#[repr(C)]
#[derive(Clone, Copy)]
struct Watch {
    addr: *mut c_char,
    id: i64,
    cookie: u64,
}

/// `RBD_SNAP_REMOVE_FORCE`
const UNPROTECT_AND_FLATTEN: u32 = 3;
/// More of anything than there can be.
const MOST: usize = 1 << 24;

/// What an image is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    /// Its identifier; empty for one of the first format.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What an image is open for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Reading, which nobody notices.
    Read,
    /// Reading and writing.
    Write,
}

/// What an image is like; sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageInfo {
    /// Its size.
    pub size: u64,
    /// The size of its objects.
    pub object_size: u64,
    /// Its features, as `rbd/features.h` has them.
    pub features: u64,
}

/// A snapshot of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// Whether it may have clones.
    pub is_protected: bool,
}

/// A client that has an image open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watcher {
    /// Its address.
    pub address: String,
    /// Its number in the cluster.
    pub client: i64,
}

/// What long calls tell how far they are: done, and of how much.
pub type Told<'p> = &'p mut dyn FnMut(u64, u64);

extern "C" fn tell(done: u64, all: u64, told: *mut c_void) -> c_int {
    // SAFETY: it is what `telling` was given, which is there for as long as the call that tells.
    let told = unsafe { &mut *told.cast::<Told<'_>>() };
    told(done, all);
    0
}

/// The argument with which a library calls `tell`.
fn telling(told: &mut Told<'_>) -> *mut c_void {
    std::ptr::from_mut(told).cast()
}

/// Fills a list that the library fills as far as it is long enough, and tells how long it has to be.
fn grown<T: Copy>(first: usize, empty: T, fill: impl Fn(*mut T, &mut usize) -> c_int) -> io::Result<Vec<T>> {
    let mut length = first;
    loop {
        let mut list = vec![empty; length];
        match succeeded(fill(list.as_mut_ptr(), &mut length)) {
            Err(e) if e.raw_os_error() == Some(ERANGE) && length > list.len() && length < MOST => {}
            result => {
                result?;
                list.truncate(length);
                return Ok(list);
            }
        }
    }
}

const ERANGE: c_int = 34;

/// What a library's string says.
///
/// # Safety
/// It is none, or ends with a zero, and is there for as long as the call.
unsafe fn text(string: *const c_char) -> String {
    match string.is_null() {
        true => String::new(),
        // SAFETY: by this function's own condition.
        false => unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned(),
    }
}

impl Pool {
    /// All images, those in the trash not among them.
    pub fn images(&self) -> io::Result<Vec<ImageName>> {
        let rbd = Rbd::get()?;
        let empty = Spec { id: null_mut(), name: null_mut() };
        // SAFETY: the context is open, and the list as long as is said; its strings are read before they are freed.
        unsafe {
            let mut specs = grown(1024, empty, |list, length| (rbd.rbd_list2)(self.io, list, length))?;
            let names = specs.iter().map(|spec| ImageName { id: text(spec.id), name: text(spec.name) });
            let names = names.collect();
            (rbd.rbd_image_spec_list_cleanup)(specs.as_mut_ptr(), specs.len());
            Ok(names)
        }
    }

    /// Makes an image with the features that the cluster's settings say.
    pub fn create_image(&self, name: &str, size: u64) -> io::Result<()> {
        let (rbd, name) = (Rbd::get()?, CString::new(name)?);
        let mut order = 0;
        // SAFETY: the context is open, and the name ends with a zero.
        succeeded(unsafe { (rbd.rbd_create)(self.io, name.as_ptr(), size, &mut order) })
    }

    /// Makes an image that begins as a snapshot of another one, which is protected, with its features.
    pub fn clone_image(&self, source: &Image, snapshot: &str, name: &str) -> io::Result<()> {
        let (snapshot, name) = (CString::new(snapshot)?, CString::new(name)?);
        let (mut order, mut unit, mut count) = (0, 0, 0);
        let rbd = source.rbd;
        // SAFETY: context and image are open, and the names end with a zero.
        unsafe {
            succeeded((rbd.rbd_get_stripe_unit)(source.handle, &mut unit))?;
            succeeded((rbd.rbd_get_stripe_count)(source.handle, &mut count))?;
            let features = source.features()? & CLONED_FEATURES;
            succeeded((rbd.rbd_clone2)(
                source.pool.io,
                source.name.as_ptr(),
                snapshot.as_ptr(),
                self.io,
                name.as_ptr(),
                features,
                &mut order,
                unit,
                c_int::try_from(count).unwrap_or(1),
            ))
        }
    }

    /// Removes an image.
    pub fn remove_image(&self, name: &str, mut told: Told<'_>) -> io::Result<()> {
        let (rbd, name) = (Rbd::get()?, CString::new(name)?);
        // SAFETY: the context is open, the name ends with a zero, and what is told to is there until the call is over.
        succeeded(unsafe { (rbd.rbd_remove_with_progress)(self.io, name.as_ptr(), tell, telling(&mut told)) })
    }

    /// Opens an image.
    pub fn open_image(self: &Arc<Pool>, name: &str, mode: Mode) -> io::Result<Image> {
        let (rbd, name) = (Rbd::get()?, CString::new(name)?);
        let open = match mode {
            Mode::Read => rbd.rbd_open_read_only,
            Mode::Write => rbd.rbd_open,
        };
        let mut handle = null_mut();
        // SAFETY: the context is open, and the name ends with a zero; no snapshot is asked for.
        succeeded(unsafe { open(self.io, name.as_ptr(), &mut handle, null()) })?;
        Ok(Image { rbd, handle, name, pool: Arc::clone(self) })
    }
}

/// The features that are asked for when an image is cloned: layering, striping, exclusive lock, object map, fast diff, deep
/// flatten. Others, such as where its data is, librbd decides.
const CLONED_FEATURES: u64 = 0x3f;

/// An open image.
pub struct Image {
    rbd: &'static Rbd,
    handle: Handle,
    name: CString,
    pool: Arc<Pool>,
}

// SAFETY: librbd's images may be used by several threads.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

impl Image {
    /// What it is like.
    pub fn info(&self) -> io::Result<ImageInfo> {
        let mut stat = std::mem::MaybeUninit::<Stat>::zeroed();
        // SAFETY: the image is open, and the structure is the header's, for which zeroes are good values.
        let stat = unsafe {
            succeeded((self.rbd.rbd_stat)(self.handle, stat.as_mut_ptr(), size_of::<Stat>()))?;
            stat.assume_init()
        };
        Ok(ImageInfo { size: stat.size, object_size: stat.obj_size, features: self.features()? })
    }

    fn features(&self) -> io::Result<u64> {
        let mut features = 0;
        // SAFETY: the image is open.
        succeeded(unsafe { (self.rbd.rbd_get_features)(self.handle, &mut features) })?;
        Ok(features)
    }

    /// Changes its size.
    pub fn resize(&self, size: u64, mut told: Told<'_>) -> io::Result<()> {
        // SAFETY: the image is open, and what is told to is there until the call is over.
        succeeded(unsafe { (self.rbd.rbd_resize_with_progress)(self.handle, size, tell, telling(&mut told)) })
    }

    /// The ranges in which there is data of its own, and of its parent if those are asked for, as offset and length, in whole
    /// objects.
    pub fn extents(&self, size: u64, whose: Whose) -> io::Result<Vec<(u64, u64)>> {
        self.differences(None, size, whose)
    }

    /// True if nothing was written since this snapshot.
    pub fn is_as(&self, snapshot: &str, size: u64) -> io::Result<bool> {
        Ok(self.differences(Some(&CString::new(snapshot)?), size, Whose::Own)?.is_empty())
    }

    fn differences(&self, since: Option<&CStr>, size: u64, whose: Whose) -> io::Result<Vec<(u64, u64)>> {
        extern "C" fn add(offset: u64, length: usize, exists: c_int, found: *mut c_void) -> c_int {
            // SAFETY: it is the argument that was given below, which is there for as long as that call.
            let found = unsafe { &mut *found.cast::<Vec<(u64, u64, bool)>>() };
            found.push((offset, length as u64, exists != 0));
            0
        }
        let mut found: Vec<(u64, u64, bool)> = Vec::new();
        let with_parent = u8::from(whose == Whose::OwnAndParent);
        // SAFETY: the image is open, the name ends with a zero, and what is added to is there until the call is over.
        succeeded(unsafe {
            let since = since.map_or(null(), CStr::as_ptr);
            let found = std::ptr::from_mut(&mut found).cast();
            (self.rbd.rbd_diff_iterate2)(self.handle, since, 0, size, with_parent, 1, add, found)
        })?;
        // What is gone since a snapshot is a difference; from the beginning it is nothing.
        let counts = |exists: bool| exists || since.is_some();
        Ok(found
            .into_iter()
            .filter(|(.., exists)| counts(*exists))
            .map(|(offset, length, _)| (offset, length))
            .collect())
    }

    /// Its snapshots.
    pub fn snapshots(&self) -> io::Result<Vec<Snapshot>> {
        let empty = Snap { id: 0, size: 0, name: null() };
        let mut most: c_int = 64;
        loop {
            // One more, which stays empty: the end of what `rbd_snap_list_end` frees.
            let mut list = vec![empty; most as usize + 1];
            // SAFETY: the image is open, and the list as long as is said. Its names are read before they are freed.
            let (result, names) = unsafe {
                let result = (self.rbd.rbd_snap_list)(self.handle, list.as_mut_ptr(), &mut most);
                let filled = usize::try_from(result).unwrap_or(0).min(list.len() - 1);
                let names: Vec<_> = list[..filled].iter().map(|snap| text(snap.name)).collect();
                if filled > 0 {
                    (self.rbd.rbd_snap_list_end)(list.as_mut_ptr());
                }
                (result, names)
            };
            match succeeded(result) {
                Err(e) if e.raw_os_error() == Some(ERANGE) && (most as usize) < MOST => continue,
                result => result?,
            }
            return names.into_iter().map(|name| self.snapshot(name)).collect();
        }
    }

    fn snapshot(&self, name: String) -> io::Result<Snapshot> {
        let mut is_protected = 0;
        let c_name = CString::new(name.as_str())?;
        // SAFETY: the image is open, and the name ends with a zero.
        succeeded(unsafe {
            (self.rbd.rbd_snap_is_protected)(self.handle, c_name.as_ptr(), &mut is_protected)
        })?;
        Ok(Snapshot { name, is_protected: is_protected != 0 })
    }

    /// Makes a snapshot.
    pub fn create_snapshot(&self, name: &str) -> io::Result<()> {
        self.of_snapshot(name, self.rbd.rbd_snap_create)
    }

    /// Lets a snapshot have clones.
    pub fn protect(&self, name: &str) -> io::Result<()> {
        self.of_snapshot(name, self.rbd.rbd_snap_protect)
    }

    /// Takes that back. It fails while there are clones.
    pub fn unprotect(&self, name: &str) -> io::Result<()> {
        self.of_snapshot(name, self.rbd.rbd_snap_unprotect)
    }

    /// Removes a snapshot.
    pub fn remove_snapshot(&self, name: &str) -> io::Result<()> {
        self.of_snapshot(name, self.rbd.rbd_snap_remove)
    }

    /// Removes a snapshot whether it is protected or not. Its clones are made whole first: all that they share with it is copied.
    pub fn remove_snapshot_of_clones(&self, name: &str, mut told: Told<'_>) -> io::Result<()> {
        let name = CString::new(name)?;
        // SAFETY: the image is open, the name ends with a zero, and what is told to is there until the call is over.
        succeeded(unsafe {
            let told = telling(&mut told);
            (self.rbd.rbd_snap_remove2)(self.handle, name.as_ptr(), UNPROTECT_AND_FLATTEN, tell, told)
        })
    }

    fn of_snapshot(
        &self,
        name: &str,
        change: unsafe extern "C" fn(Handle, *const c_char) -> c_int,
    ) -> io::Result<()> {
        let name = CString::new(name)?;
        // SAFETY: the image is open, and the name ends with a zero; all callers give a function of librbd for snapshots.
        succeeded(unsafe { change(self.handle, name.as_ptr()) })
    }

    /// Who has it open, this client too if it is open for writing.
    pub fn watchers(&self) -> io::Result<Vec<Watcher>> {
        let empty = Watch { addr: null_mut(), id: 0, cookie: 0 };
        // SAFETY: the image is open, and the list as long as is said; its strings are read before they are freed.
        unsafe {
            let mut list =
                grown(64, empty, |list, length| (self.rbd.rbd_watchers_list)(self.handle, list, length))?;
            let watchers =
                list.iter().map(|watch| Watcher { address: text(watch.addr), client: watch.id }).collect();
            (self.rbd.rbd_watchers_list_cleanup)(list.as_mut_ptr(), list.len());
            Ok(watchers)
        }
    }

    /// Gives up the space of a range, as far as it is whole pieces of what the cluster gives up.
    pub fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        // SAFETY: the image is open.
        succeeded(unsafe { (self.rbd.rbd_discard)(self.handle, offset, length) })
    }

    /// Makes a range read as zeroes.
    pub fn write_zeroes(&self, offset: u64, length: u64, zeroes: Zeroes) -> io::Result<()> {
        let thick = match zeroes {
            Zeroes::Sparse => 0,
            Zeroes::Allocated => 1,
        };
        let length = usize::try_from(length).map_err(io::Error::other)?;
        // SAFETY: the image is open.
        let written = unsafe { (self.rbd.rbd_write_zeroes)(self.handle, offset, length, thick, 0) };
        succeeded(written.min(0) as c_int)
    }

    /// Waits until all that was written is on the cluster's disks.
    pub fn flush(&self) -> io::Result<()> {
        // SAFETY: the image is open.
        succeeded(unsafe { (self.rbd.rbd_flush)(self.handle) })
    }

    /// Begins to read.
    pub fn begin_read(self: &Arc<Image>, offset: u64, length: usize) -> io::Result<Transfer> {
        let mut transfer = self.transfer(vec![0; length])?;
        let buffer = transfer.buffer.as_mut_ptr().cast();
        // SAFETY: the image is open, and the buffer as long as is said. `Transfer` keeps it until the call is over.
        let begun =
            unsafe { (self.rbd.rbd_aio_read)(self.handle, offset, length, buffer, transfer.completion) };
        transfer.begun(begun)
    }

    /// Begins to write.
    pub fn begin_write(self: &Arc<Image>, offset: u64, data: Vec<u8>) -> io::Result<Transfer> {
        let transfer = self.transfer(data)?;
        let (buffer, length) = (transfer.buffer.as_ptr().cast(), transfer.buffer.len());
        // SAFETY: as in `begin_read`.
        let begun =
            unsafe { (self.rbd.rbd_aio_write)(self.handle, offset, length, buffer, transfer.completion) };
        transfer.begun(begun)
    }

    fn transfer(self: &Arc<Image>, buffer: Vec<u8>) -> io::Result<Transfer> {
        let mut completion = null_mut();
        // SAFETY: no callback is asked for.
        succeeded(unsafe { (self.rbd.rbd_aio_create_completion)(null_mut(), null(), &mut completion) })?;
        Ok(Transfer { image: Arc::clone(self), completion, buffer, state: State::NotBegun })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: the image is open. Transfers hold it, so none is left.
        unsafe { (self.rbd.rbd_close)(self.handle) };
    }
}

/// Whose data is meant, of a clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Its own.
    Own,
    /// What reading finds: its own, and where there is none, its parent's.
    OwnAndParent,
}

/// How a range becomes zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeroes {
    /// By giving up its space.
    Sparse,
    /// By being written.
    Allocated,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    NotBegun,
    Begun,
    Over,
}

/// Reading or writing that is under way.
pub struct Transfer {
    image: Arc<Image>,
    completion: Handle,
    buffer: Vec<u8>,
    state: State,
}

// SAFETY: as with the image; the buffer is not touched before the transfer is over.
unsafe impl Send for Transfer {}

impl Transfer {
    fn begun(mut self, result: c_int) -> io::Result<Transfer> {
        succeeded(result)?;
        self.state = State::Begun;
        Ok(self)
    }

    /// Waits until it is over, and returns what was read, or what has been written.
    pub fn wait(mut self) -> io::Result<Vec<u8>> {
        succeeded(self.finish())?;
        Ok(std::mem::take(&mut self.buffer))
    }

    fn finish(&mut self) -> c_int {
        if self.state != State::Begun {
            return 0;
        }
        self.state = State::Over;
        let rbd = self.image.rbd;
        // SAFETY: the completion is not released yet.
        let result = unsafe {
            (rbd.rbd_aio_wait_for_complete)(self.completion);
            (rbd.rbd_aio_get_return_value)(self.completion)
        };
        result.min(0) as c_int
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.finish();
        // SAFETY: the call is over, and the completion is released once.
        unsafe { (self.image.rbd.rbd_aio_release)(self.completion) };
    }
}
