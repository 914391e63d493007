//! What is mounted on this machine, after proc_pid_mountinfo(5). The file systems themselves are not asked: one that does
//! not answer holds up nobody here.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A file system at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The device's major and minor number; those of no device where there is none behind it.
    pub device: (u32, u32),
    /// Where it is.
    pub target: PathBuf,
    /// Its type.
    pub kind: String,
    /// What was mounted: a device's path, or a server's directory.
    pub source: OsString,
}

/// What is mounted at a path, on top of what else may be mounted there.
pub fn mount_at(path: &Path) -> io::Result<Option<Mount>> {
    let table = mounts(&fs::read("/proc/self/mountinfo")?);
    let at = |path: &Path| table.iter().rev().find(|mount| mount.target == path).cloned();
    // Only what is above it is looked at, unless it is a link.
    let above = path.parent().and_then(|parent| Some(fs::canonicalize(parent).ok()?.join(path.file_name()?)));
    if let Some(mount) = above.as_deref().and_then(at) {
        return Ok(Some(mount));
    }
    Ok(fs::canonicalize(path).ok().as_deref().and_then(at))
}

/// Reads the table. Rows that make no sense are passed over.
pub fn mounts(table: &[u8]) -> Vec<Mount> {
    table.split(|c| *c == b'\n').filter_map(mount).collect()
}

fn mount(row: &[u8]) -> Option<Mount> {
    let mut fields = row.split(|c| *c == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let target = unescape(fields.nth(1)?);
    // Any number of optional fields ends with this.
    fields.find(|field| *field == b"-")?;
    let kind = String::from_utf8(unescape(fields.next()?)).ok()?;
    Some(Mount {
        device: (major.parse().ok()?, minor.parse().ok()?),
        target: OsString::from_vec(target).into(),
        kind,
        source: OsString::from_vec(unescape(fields.next()?)),
    })
}

/// Spaces, line ends and backslashes are written as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let octal = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => {
                text.push(byte);
                rest = &after[3..];
            }
            None => {
                text.push(*first);
                rest = after;
            }
        }
    }
    text
}

/// The file behind a loop device of this number, where it is one.
pub fn file_behind((major, minor): (u32, u32)) -> Option<PathBuf> {
    let mut name = fs::read(format!("/sys/dev/block/{major}:{minor}/loop/backing_file")).ok()?;
    if name.ends_with(b"\n") {
        name.pop();
    }
    Some(std::ffi::OsStr::from_bytes(&name).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_as_the_kernel_writes_it() {
        let table = mounts(include_bytes!("../../backend/tests/golden/mountinfo"));
        assert_eq!(table.len(), 14);
        let root = table.iter().find(|mount| mount.target == Path::new("/")).unwrap();
        assert_eq!(
            (root.device, root.kind.as_str(), root.source.to_str()),
            ((254, 0), "ext4", Some("/dev/vda"))
        );
        let nfs = table.last().unwrap();
        assert_eq!(nfs.target, Path::new("/mnt/with space"));
        assert_eq!((nfs.kind.as_str(), nfs.source.to_str()), ("nfs4", Some("127.0.0.1:/srv/a dir")));
    }

    #[test]
    fn rows_that_make_no_sense() {
        assert!(mounts(b"1 2 3\n\n1 2 x:y / / rw - a b c\n1 2 0:1 / / rw shared:1 a b\n").is_empty());
        let odd = mounts(br"1 2 0:1 / /a\9\04 rw shared:1 master:2 - tmpfs \134 rw");
        assert_eq!((odd[0].target.to_str(), odd[0].source.to_str()), (Some(r"/a\9\04"), Some("\\")));
    }

    #[test]
    fn what_is_mounted_where() {
        assert_eq!(mount_at(Path::new("/proc")).unwrap().unwrap().kind, "proc");
        assert_eq!(mount_at(Path::new("/proc/self")).unwrap(), None);
        assert_eq!(mount_at(Path::new("/no/such/path")).unwrap(), None);
    }
}
