//! What the tests of several crates share: deciding what can run here, and making file systems to run on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![warn(missing_docs)]

mod caller;
mod cenote;
mod cenoted;
mod ceph;
mod faulty;
mod gluster;
mod libvirtd;
pub mod lines;
mod possible;
mod session;
mod tgt;
mod virsh;

pub use caller::Caller;
pub use cenote::Cenote;
pub use cenoted::Cenoted;
pub use ceph::{Authentication, Ceph};
pub use faulty::{Call, Fault, FaultyFs};
pub use gluster::Gluster;
pub use libvirtd::{Libvirtd, in_place_of_system, virsh_with_qemu};
pub use possible::{Outcome, Possible};
pub use session::Session;
pub use tgt::Tgt;
pub use virsh::{of_driver, virsh};

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// True if `tool` is on the path. If not, the test is skipped, or fails under `CENOTE_TEST_REQUIRE=all`.
pub fn have(tool: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        let folders =
            std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
        folders.into_iter().any(|folder| folder.join(tool).is_file())
    });
    need(found, tool)
}

/// True if the tests run as root; else as with [`have`].
pub fn am_root() -> bool {
    need(rustix::process::geteuid().is_root(), "root")
}

/// True if this file exists; else as with [`have`].
pub fn have_file(path: &str) -> bool {
    need(Path::new(path).exists(), path)
}

/// True if this command runs well; else as with [`have`]. For libraries of other languages.
pub fn runs(program: &str, args: &[&str]) -> bool {
    let ran = Command::new(program).args(args).output();
    need(
        ran.is_ok_and(|output| output.status.success()),
        &format!("what `{program} {}` needs", args.join(" ")),
    )
}

fn need(present: bool, what: &str) -> bool {
    if !present {
        assert!(
            std::env::var_os("CENOTE_TEST_REQUIRE").is_none(),
            "{what} is missing, and CENOTE_TEST_REQUIRE allows no skipping"
        );
        // Not `eprintln!`, which the test harness keeps to itself where a test passes.
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let _ = writeln!(std::io::stderr(), "skipped: {test}: {what} is missing");
    }
    present
}

/// Bytes of which no two pieces are alike.
pub fn content(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(7) ^ (n / 251)) as u8).collect()
}

/// Runs a command that must succeed, and returns what it printed.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = run_any(program, args);
    assert!(
        output.status.success(),
        "{program} {args:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that may fail.
pub fn run_any(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).env("LC_ALL", "C").output().unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// A file system of its own, mounted until the value is dropped.
pub struct Mounted {
    /// Where it is mounted.
    pub path: PathBuf,
    /// The folder that holds the image and the mount point.
    _folder: tempfile::TempDir,
}

impl Mounted {
    /// A tmpfs of this size.
    pub fn tmpfs(bytes: u64) -> Mounted {
        Mounted::mount(|folder, target| {
            let _ = folder;
            run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes},mode=0777"), "tmpfs", target]);
        })
    }

    /// A file system made by `mkfs.KIND` in an image of this size.
    pub fn image(kind: &str, bytes: u64) -> Mounted {
        Mounted::mount(|folder, target| {
            let image = folder.join("image");
            std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
            let image = image.to_str().unwrap();
            run(&format!("mkfs.{kind}"), &["-q", image]);
            run("mount", &["-o", "loop", image, target]);
        })
    }

    fn mount(mount: impl FnOnce(&Path, &str)) -> Mounted {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mnt");
        std::fs::create_dir(&path).unwrap();
        mount(folder.path(), path.to_str().unwrap());
        Mounted { path, _folder: folder }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
