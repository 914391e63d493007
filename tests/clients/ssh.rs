//! Another machine: a real sshd on loopback, with virt-ssh-helper and netcat behind it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Cenoted, Libvirtd, am_root, have, in_place_of_system, run};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// An sshd for which libvirt's directories are those under a prefix.
struct Sshd {
    child: Child,
    port: u16,
    /// Where a program named `ssh` is that knows the keys.
    bin: PathBuf,
}

impl Sshd {
    fn start(folder: &Path, prefix: &Path) -> Sshd {
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        for key in ["host", "client"] {
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]);
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
             PermitRootLogin yes\n",
            path("host"),
            path("client.pub")
        );
        fs::write(path("sshd_config"), config).unwrap();
        let known = format!(
            "Host *\nIdentityFile {}\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n",
            path("client")
        );
        fs::write(path("ssh_config"), known).unwrap();
        let bin = folder.join("bin");
        fs::create_dir(&bin).unwrap();
        let script = format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", path("ssh_config"));
        fs::write(bin.join("ssh"), script).unwrap();
        fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
        // Where it leaves its rights behind.
        fs::create_dir_all("/run/sshd").unwrap();
        let sshd = format!("exec /usr/sbin/sshd -D -e -f {}", path("sshd_config"));
        let child = in_place_of_system(prefix, &sshd)
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.join("sshd.log")).unwrap())
            .spawn()
            .unwrap();
        let sshd = Sshd { child, port, bin };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(30), "sshd does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        sshd
    }

    fn uri(&self, query: &str) -> String {
        format!("storage+ssh://root@127.0.0.1:{}/system{query}", self.port)
    }

    fn run(&self, program: &Path, uri: &str, args: &[&str]) -> Output {
        let path = format!("{}:{}", self.bin.display(), std::env::var("PATH").unwrap());
        Command::new(program)
            .args(["-c", uri])
            .args(args)
            .env("PATH", path)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn storage_of_another_machine() {
    if !am_root()
        || !have("sshd")
        || !have("ssh")
        || !have("nc")
        || !have("virt-ssh-helper")
        || !have("virsh")
    {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("state");
    let cenoted = Cenoted::start(env!("CARGO_BIN_EXE_cenoted"), &prefix);
    let sshd = Sshd::start(folder.path(), &prefix);
    let cenote = Path::new(env!("CARGO_BIN_EXE_cenoted")).with_file_name("cenote");
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let data: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    fs::write(path("up"), &data).unwrap();

    // The helper finds the socket by itself; netcat is given it.
    for (name, uri) in
        [("helper", sshd.uri("")), ("netcat", sshd.uri(&format!("?socket={}", cenoted.socket().display())))]
    {
        let run = |args: &[&str]| text(&sshd.run(&cenote, &uri, args));
        run(&["pool-create-as", name, "dir", "--target", &path(name), "--build"]);
        run(&["vol-create-as", name, "v", "3000000", "--allocation", "0"]);
        run(&["vol-upload", "v", &path("up"), name]);
        let down = path(&format!("{name}-down"));
        run(&["vol-download", "v", &down, name]);
        assert_eq!(fs::read(&down).unwrap(), data);
        assert!(run(&["secret-list"]).contains("UUID"));
        let list = run(&["vol-list", name]);
        assert!(list.contains(" v "), "{list}");
        // virsh goes the same way. Its netcat has to be asked for.
        let proxy = if name == "helper" { uri.clone() } else { format!("{uri}&proxy=netcat&mode=legacy") };
        assert_eq!(text(&sshd.run(Path::new("virsh"), &proxy, &["vol-list", name])), list);
    }
    let refused = sshd.run(&cenote, &sshd.uri("?socket=/no/such/socket"), &["pool-list"]);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("/no/such/socket") || said.contains("closed the connection"), "{said}");

    if have("libvirtd") {
        let libvirtd = Libvirtd::start(&folder.path().join("libvirt"));
        let uri = sshd.uri(&format!("?socket={}", libvirtd.socket().display()));
        text(&libvirtd.virsh(&["pool-define-as", "theirs", "dir", "--target", "/nowhere"]));
        assert!(text(&sshd.run(&cenote, &uri, &["pool-list", "--all"])).contains("theirs"));
    }
}
