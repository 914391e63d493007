//! librados: clusters, their pools, and reads of objects. After `rados/librados.h` of Ceph 14 and later.

#![allow(unsafe_code, reason = "calls into a library that is loaded at run time")]

use super::succeeded;
use crate::SecretValue;
use crate::native::library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::ptr::{null, null_mut};
use std::sync::Arc;

type Handle = *mut c_void;

library! {
    /// The functions that are used.
    Rados = "librados.so.2" {
        fn rados_create(*mut Handle, *const c_char) -> c_int;
        fn rados_conf_set(Handle, *const c_char, *const c_char) -> c_int;
        fn rados_connect(Handle) -> c_int;
        fn rados_shutdown(Handle);
        fn rados_cluster_stat(Handle, *mut ClusterStat) -> c_int;
        fn rados_pool_list(Handle, *mut c_char, usize) -> c_int;
        fn rados_ioctx_create(Handle, *const c_char, *mut Handle) -> c_int;
        fn rados_ioctx_set_namespace(Handle, *const c_char);
        fn rados_ioctx_destroy(Handle);
        fn rados_ioctx_pool_stat(Handle, *mut PoolStat) -> c_int;
        fn rados_create_read_op() -> Handle;
        fn rados_release_read_op(Handle);
        fn rados_read_op_exec_user_buf(
            Handle, *const c_char, *const c_char, *const c_char, usize, *mut c_char, usize, *mut usize, *mut c_int,
        );
        fn rados_aio_create_completion2(*mut c_void, *const c_void, *mut Handle) -> c_int;
        fn rados_aio_read_op_operate(Handle, Handle, Handle, *const c_char, c_int) -> c_int;
        fn rados_aio_wait_for_complete(Handle) -> c_int;
        fn rados_aio_get_return_value(Handle) -> c_int;
        fn rados_aio_release(Handle);
    }
}

/// `struct rados_cluster_stat_t`
#[repr(C)]
#[derive(Default)]
struct ClusterStat {
    kb: u64,
    kb_used: u64,
    kb_avail: u64,
    num_objects: u64,
}

/// `struct rados_pool_stat_t`: bytes, and sixteen more numbers.
#[repr(C)]
#[derive(Default)]
struct PoolStat {
    num_bytes: u64,
    others: [u64; 16],
}

/// How full a cluster is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterUsage {
    /// The size of its devices.
    pub size: u64,
    /// What is still free of them.
    pub available: u64,
}

/// A cluster that is going to be connected.
pub struct Connecting(Cluster);

/// A connection to a cluster.
pub struct Cluster {
    rados: &'static Rados,
    handle: Handle,
}

// SAFETY: librados says of its handles that they may be used by several threads.
unsafe impl Send for Cluster {}
// SAFETY: as above.
unsafe impl Sync for Cluster {}

impl Connecting {
    /// For this user of cephx, or for none.
    pub fn new(user: Option<&str>) -> io::Result<Connecting> {
        let rados = Rados::get()?;
        let user = user.map(CString::new).transpose()?;
        let mut handle = null_mut();
        // SAFETY: the name ends with a zero, or there is none; the handle is stored where it is expected.
        succeeded(unsafe {
            (rados.rados_create)(&mut handle, user.as_ref().map_or(null(), |user| user.as_ptr()))
        })?;
        Ok(Connecting(Cluster { rados, handle }))
    }

    /// Sets an option.
    pub fn set(&mut self, name: &str, value: &CStr) -> io::Result<()> {
        let name = CString::new(name)?;
        // SAFETY: the handle is open, and both strings end with a zero.
        succeeded(unsafe { (self.0.rados.rados_conf_set)(self.0.handle, name.as_ptr(), value.as_ptr()) })
    }

    /// Sets the key of the user.
    pub fn set_key(&mut self, key: &SecretValue) -> io::Result<()> {
        let text = key.to_base64().with_nul();
        let text = CStr::from_bytes_with_nul(text.expose()).map_err(io::Error::other)?;
        self.set("key", text)
    }

    /// Connects.
    pub fn connect(self) -> io::Result<Cluster> {
        // SAFETY: the handle is open, and was not connected before.
        succeeded(unsafe { (self.0.rados.rados_connect)(self.0.handle) })?;
        Ok(self.0)
    }
}

impl Cluster {
    /// How full it is.
    pub fn usage(&self) -> io::Result<ClusterUsage> {
        let mut stat = ClusterStat::default();
        // SAFETY: the handle is open, and the structure is the header's.
        succeeded(unsafe { (self.rados.rados_cluster_stat)(self.handle, &mut stat) })?;
        Ok(ClusterUsage { size: stat.kb.saturating_mul(1024), available: stat.kb_avail.saturating_mul(1024) })
    }

    /// The names of all pools.
    pub fn pools(&self) -> io::Result<Vec<String>> {
        let mut names = vec![0u8; 4096];
        loop {
            // SAFETY: the handle is open, and the buffer as long as is said.
            let needed =
                unsafe { (self.rados.rados_pool_list)(self.handle, names.as_mut_ptr().cast(), names.len()) };
            succeeded(needed.min(0))?;
            let needed = needed as usize;
            if needed <= names.len() {
                // Each ends with a zero, and the list with an empty one.
                let names = names.split(|byte| *byte == 0).take_while(|name| !name.is_empty());
                return Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect());
            }
            names.resize(needed, 0);
        }
    }

    /// A pool, or one of its namespaces.
    pub fn pool(self: Arc<Cluster>, name: &str, namespace: Option<&str>) -> io::Result<Pool> {
        let name = CString::new(name)?;
        let namespace = namespace.map(CString::new).transpose()?;
        let mut io = null_mut();
        // SAFETY: the handle is open, and the name ends with a zero.
        succeeded(unsafe { (self.rados.rados_ioctx_create)(self.handle, name.as_ptr(), &mut io) })?;
        let pool = Pool { io, cluster: self };
        if let Some(namespace) = namespace {
            // SAFETY: the context is open, and nobody else has it yet; the name ends with a zero.
            unsafe { (pool.cluster.rados.rados_ioctx_set_namespace)(pool.io, namespace.as_ptr()) };
        }
        Ok(pool)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SAFETY: the handle is open. Pools hold the cluster, so all of them are closed.
        unsafe { (self.rados.rados_shutdown)(self.handle) };
    }
}

/// A pool of a cluster.
pub struct Pool {
    pub(super) io: Handle,
    cluster: Arc<Cluster>,
}

// SAFETY: contexts may be used by several threads as long as their settings do not change, and they do not after `pool`.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// The cluster that it is in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The bytes of its objects.
    pub fn used(&self) -> io::Result<u64> {
        let mut stat = PoolStat::default();
        // SAFETY: the context is open, and the structure is the header's.
        succeeded(unsafe { (self.cluster.rados.rados_ioctx_pool_stat)(self.io, &mut stat) })?;
        Ok(stat.num_bytes)
    }

    /// Begins to call methods of an object, all at one instant.
    pub fn call(self: &Arc<Pool>, object: &str, calls: &[Call<'_>]) -> io::Result<Calling> {
        let rados = self.cluster.rados;
        let object = CString::new(object)?;
        let mut answers: Box<[Answer]> =
            calls.iter().map(|call| Answer { bytes: vec![0; call.most], used: 0, result: 0 }).collect();
        let mut completion = null_mut();
        // SAFETY: no callback is asked for. What was made is released by `Calling`, after its answers were written or will
        // never be: they are on the heap, stay there, and are as long as is said. The input is copied.
        unsafe {
            succeeded((rados.rados_aio_create_completion2)(null_mut(), null(), &mut completion))?;
            let operation = (rados.rados_create_read_op)();
            for (call, answer) in calls.iter().zip(&mut answers) {
                (rados.rados_read_op_exec_user_buf)(
                    operation,
                    call.class.as_ptr(),
                    call.method.as_ptr(),
                    call.input.as_ptr().cast(),
                    call.input.len(),
                    answer.bytes.as_mut_ptr().cast(),
                    answer.bytes.len(),
                    &mut answer.used,
                    &mut answer.result,
                );
            }
            let begun = (rados.rados_aio_read_op_operate)(operation, self.io, completion, object.as_ptr(), 0);
            if let Err(e) = succeeded(begun) {
                (rados.rados_aio_release)(completion);
                (rados.rados_release_read_op)(operation);
                return Err(e);
            }
            Ok(Calling { operation, completion, answers, pool: Arc::clone(self) })
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: the context is open. Images and calls hold the pool, so none of them is left.
        unsafe { (self.cluster.rados.rados_ioctx_destroy)(self.io) };
    }
}

/// A call of a method that the class of an object has.
#[derive(Debug, Clone, Copy)]
pub struct Call<'c> {
    /// The class, such as `rbd`.
    pub class: &'c CStr,
    /// The method.
    pub method: &'c CStr,
    /// Its arguments, encoded.
    pub input: &'c [u8],
    /// How long the answer may be, in bytes.
    pub most: usize,
}

struct Answer {
    bytes: Vec<u8>,
    used: usize,
    result: c_int,
}

/// Calls that are under way.
pub struct Calling {
    operation: Handle,
    completion: Handle,
    answers: Box<[Answer]>,
    pool: Arc<Pool>,
}

// SAFETY: as with the pool; and the answers are read after the calls are over.
unsafe impl Send for Calling {}

impl Calling {
    /// Waits for the answers, one for each call. If one call fails, all do.
    pub fn wait(mut self) -> io::Result<Vec<Vec<u8>>> {
        succeeded(self.finish())?;
        let answers = std::mem::take(&mut self.answers);
        answers
            .into_iter()
            .map(|mut answer| {
                succeeded(answer.result.min(0))?;
                answer.bytes.truncate(answer.used);
                Ok(answer.bytes)
            })
            .collect()
    }

    fn finish(&self) -> c_int {
        let rados = self.pool.cluster.rados;
        // SAFETY: the completion is not released yet.
        unsafe {
            (rados.rados_aio_wait_for_complete)(self.completion);
            (rados.rados_aio_get_return_value)(self.completion)
        }
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        self.finish();
        let rados = self.pool.cluster.rados;
        // SAFETY: the operation is over, and both are released once.
        unsafe {
            (rados.rados_aio_release)(self.completion);
            (rados.rados_release_read_op)(self.operation);
        }
    }
}
