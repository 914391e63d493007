//! The real libvirtd, with its state in a directory of its own.

use crate::virsh::{stop, virsh};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A libvirtd that runs until the value is dropped. Its state is under a prefix, in the layout that
/// `cenote --prefix` uses: `etc/libvirt`, `run/libvirt`, `var/lib/libvirt`.
pub struct Libvirtd {
    child: Child,
    prefix: PathBuf,
}

/// Puts libvirt's directories under a prefix in the place of the system's.
const BIND: &str = "for d in run/libvirt etc/libvirt var/lib/libvirt var/cache/libvirt; do \
                    mount --bind \"$0/$d\" \"/$d\" || exit 1; done; ";

fn create_folders(prefix: &Path) {
    for folder in ["etc/libvirt", "run/libvirt", "var/lib/libvirt", "var/cache/libvirt"] {
        std::fs::create_dir_all(prefix.join(folder)).unwrap();
        std::fs::create_dir_all(Path::new("/").join(folder)).unwrap();
    }
}

/// A shell command in a mount namespace of its own, in which libvirt's directories are those under a prefix, `$0`.
pub fn in_place_of_system(prefix: &Path, script: &str) -> Command {
    create_folders(prefix);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &format!("{BIND}{script}")]).arg(prefix);
    command
}

/// Runs virsh with libvirt's QEMU driver in its own process. It asks the daemons under this prefix for what it does not
/// have itself, as virtqemud does.
pub fn virsh_with_qemu(prefix: &Path, args: &[&str]) -> Output {
    let virsh = "exec virsh -c \"qemu:///embed?root=$0/embedded\" \"$@\"";
    in_place_of_system(prefix, virsh).args(args).output().expect("unshare")
}

impl Libvirtd {
    /// Starts it, in a mount namespace of its own, and waits until it answers.
    pub fn start(prefix: &Path) -> Libvirtd {
        Libvirtd::start_with(prefix, "")
    }

    /// Starts it without its storage driver: it has everything else, secrets among it.
    pub fn start_without_storage(prefix: &Path) -> Libvirtd {
        std::fs::create_dir_all(prefix.join("drivers")).unwrap();
        let drivers = "/usr/lib/$(uname -m)-linux-gnu/libvirt/connection-driver";
        let hide = format!(
            "cp {drivers}/*.so \"$0/drivers\" && rm \"$0/drivers/libvirt_driver_storage.so\" && \
             mount --bind \"$0/drivers\" {drivers} || exit 1; "
        );
        Libvirtd::start_with(prefix, &hide)
    }

    fn start_with(prefix: &Path, before: &str) -> Libvirtd {
        std::fs::create_dir_all(prefix.join("etc/libvirt")).unwrap();
        let config = "auth_unix_rw=\"none\"\nauth_unix_ro=\"none\"\n";
        std::fs::write(prefix.join("etc/libvirt/libvirtd.conf"), config).unwrap();
        let script = format!("{before}exec libvirtd -p \"$0/run/libvirt/pid\"");
        let log = std::fs::File::create(prefix.join("libvirtd.log")).unwrap();
        let child = in_place_of_system(prefix, &script)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("unshare");
        let libvirtd = Libvirtd { child, prefix: prefix.to_owned() };
        let started = Instant::now();
        while !libvirtd.virsh(&["secret-list"]).status.success() {
            assert!(started.elapsed() < Duration::from_secs(60), "libvirtd does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        libvirtd
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The address of its socket.
    pub fn uri(&self) -> String {
        format!("storage+unix:///system?mode=legacy&socket={}", self.socket().display())
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.prefix.join("run/libvirt/libvirt-sock")
    }

    /// Runs virsh against it.
    pub fn virsh(&self, args: &[&str]) -> Output {
        virsh(&self.uri(), "libvirt-sock", args)
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        // It may take no notice.
        stop(&mut self.child, Duration::from_secs(3));
    }
}
