//! Full file systems, in the middle of every operation: a clear error, nothing half made, nothing else touched.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Cenote, Mounted, am_root, have};
use std::path::{Path, PathBuf};

const CENOTE: &str = env!("CARGO_BIN_EXE_cenote");

/// A pool on a small file system with one volume in it that must not change.
struct SmallPool {
    cenote: Cenote,
    system: Mounted,
    before: Vec<(String, Vec<u8>)>,
}

impl SmallPool {
    fn new(system: Mounted) -> SmallPool {
        let cenote = Cenote::new(CENOTE);
        let path = system.path.join("pool");
        cenote.run(&["pool-create-as", "small", "dir", "--target", path.to_str().unwrap(), "--build"]);
        std::fs::write(path.join("other"), vec![7u8; 3 << 20]).unwrap();
        let mut small = SmallPool { cenote, system, before: Vec::new() };
        small.before = small.contents();
        small
    }

    fn path(&self) -> PathBuf {
        self.system.path.join("pool")
    }

    fn contents(&self) -> Vec<(String, Vec<u8>)> {
        let read = |name: String| (name.clone(), std::fs::read(self.path().join(name)).unwrap());
        Cenote::names(&self.path()).into_iter().map(read).collect()
    }

    /// Runs a command that must fail for want of space and leave everything as it was.
    fn fails(&self, args: &[&str]) {
        let said = self.cenote.fail(args);
        assert!(said.contains("No space left on device"), "{args:?}: {said}");
        assert!(self.contents() == self.before, "{args:?} left {:?}", Cenote::names(&self.path()));
    }

    /// What is there now is what must not change.
    fn settle(&mut self) {
        self.before = self.contents();
    }
}

fn each_operation(system: Mounted) {
    let mut small = SmallPool::new(system);
    small.fails(&["vol-create-as", "small", "v", "64M"]);
    small.fails(&["vol-create-as", "small", "v", "64M", "--allocation", "60M"]);
    small.fails(&["vol-create-as", "small", "v", "200M", "--format", "qcow2", "--prealloc-metadata"]);

    // A source elsewhere that is larger than what is free.
    let big = small.cenote.images().join("big");
    small.cenote.run(&["vol-create-as", "default", "big", "64M", "--allocation", "0"]);
    std::fs::write(&big, vec![9u8; 64 << 20]).unwrap();
    let xml = small.cenote.prefix().join("v.xml");
    for format in ["raw", "qcow2", "vmdk"] {
        let text = format!(
            "<volume><name>v</name><capacity>0</capacity><allocation>0</allocation><target><format type='{format}'/></target></volume>"
        );
        std::fs::write(&xml, text).unwrap();
        small.fails(&["vol-create-from", "small", xml.to_str().unwrap(), "big", "--inputpool", "default"]);
    }

    small.cenote.run(&["vol-create-as", "small", "grow", "1M", "--allocation", "0"]);
    small.settle();
    let said = small.cenote.fail(&["vol-resize", "grow", "64M", "small", "--allocate"]);
    assert!(said.contains("Not enough space left in storage pool"), "{said}");
    assert!(small.contents() == small.before);

    // An upload ends where the space does; the volume is there before and after, and so are the others.
    let said = small.cenote.fail(&["vol-upload", "grow", big.to_str().unwrap(), "small"]);
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(Cenote::names(&small.path()), ["grow", "other"]);
    small.cenote.run(&["vol-delete", "grow", "small"]);

    // With the space back, everything works.
    small.cenote.run(&["vol-create-as", "small", "fits", "2M"]);
    let other = std::fs::read(small.path().join("other")).unwrap();
    assert!(other == vec![7u8; 3 << 20]);
}

#[test]
fn a_full_ext4() {
    if am_root() && have("mkfs.ext4") && have("qemu-img") {
        each_operation(Mounted::image("ext4", 24 << 20));
    }
}

#[test]
fn a_full_tmpfs() {
    if am_root() && have("qemu-img") {
        each_operation(Mounted::tmpfs(16 << 20));
    }
}

/// The state itself is on a file system without space.
#[test]
fn definitions_are_written_as_a_whole_or_not_at_all() {
    if !am_root() {
        return;
    }
    let system = Mounted::tmpfs(1 << 20);
    let cenote = Cenote::at(CENOTE, &system.path);
    cenote.run(&["pool-list"]);
    fill(&system.path.join("filler"));
    let config = system.path.join("etc/libvirt/storage");
    let before = std::fs::read(config.join("default.xml")).unwrap();
    let said = cenote.fail(&["pool-define-as", "another", "dir", "--target", "/another"]);
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(Cenote::names(&config), ["autostart", "default.xml"]);
    assert_eq!(std::fs::read(config.join("default.xml")).unwrap(), before);
    assert!(!cenote.run(&["pool-list", "--all"]).contains("another"));
    std::fs::remove_file(system.path.join("filler")).unwrap();
    cenote.run(&["pool-define-as", "another", "dir", "--target", "/another"]);
}

fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [65536, 4096, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}
