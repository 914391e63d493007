//! Bringing what was written to a file to its medium, with signs of life.

#![allow(unsafe_code, reason = "neither the standard library nor rustix has sync_file_range")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// So much is waited for at once, in bytes.
const STEP: u64 = 64 << 20;

/// Syncs the data of a file. What waits in memory may take minutes: `alive` is called after each part of it.
pub fn sync_data(file: &File, alive: impl Fn()) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut offset = 0;
    while length > STEP && offset < length {
        match sync_range(file, offset) {
            Ok(()) => alive(),
            // Where it cannot be done in parts it is done at once. Other errors would not be told again.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ESPIPE | libc::EINVAL | libc::ENOSYS)) => break,
            Err(e) => return Err(e),
        }
        offset += STEP;
    }
    file.sync_data()
}

fn sync_range(file: &File, offset: u64) -> io::Result<()> {
    let flags =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the call is given numbers alone, and a descriptor that is open as long as `file` is borrowed.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), offset as i64, STEP as i64, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_large_file_gives_signs_of_life() {
        let file = tempfile::tempfile().unwrap();
        let signs = Cell::new(0);
        let sign = || signs.set(signs.get() + 1);
        file.write_all_at(b"small", 0).unwrap();
        sync_data(&file, sign).unwrap();
        assert_eq!(signs.get(), 0);
        file.write_all_at(b"large", 5 * STEP).unwrap();
        sync_data(&file, sign).unwrap();
        assert_eq!(signs.get(), 6);
    }
}
