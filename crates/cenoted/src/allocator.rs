//! Keeping the daemon small.

#![allow(unsafe_code, reason = "the allocator of the C library is set up by a function of the C library")]

/// Has all threads take memory from one place. With a place for each thread, what a refresh of many volumes leaves free
/// in one of them is of no use to the next one: memory in use doubles, and nothing is faster.
#[cfg(target_env = "gnu")]
pub(crate) fn keep_small() {
    // SAFETY: the function may be called at any time, from one thread, and it is called before there are others.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Other C libraries have one place only.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn keep_small() {}
