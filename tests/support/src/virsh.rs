//! virsh, and the daemons that it speaks to.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs virsh at this address, which names the socket `socket` of a daemon.
pub fn virsh(uri: &str, socket: &str, args: &[&str]) -> Output {
    virsh_command(uri, socket, args).output().expect("virsh")
}

/// The same, not started.
pub(crate) fn virsh_command(uri: &str, socket: &str, args: &[&str]) -> Command {
    // virsh picks the read-only socket by itself only where it chooses the path.
    let uri = match args.contains(&"-r") {
        true => uri.replace(socket, &format!("{socket}-ro")),
        false => uri.to_owned(),
    };
    let uri = of_driver(&uri, args);
    let mut virsh = Command::new("virsh");
    virsh.env("LIBVIRT_DEFAULT_URI", uri).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    virsh.args(args);
    virsh
}

/// The address by which these arguments find their driver: libvirtd has secrets under another one than storage.
pub fn of_driver(uri: &str, args: &[impl AsRef<str>]) -> String {
    match args.iter().any(|arg| arg.as_ref().starts_with("secret-")) {
        true => uri.replacen("storage", "secret", 1),
        false => uri.to_owned(),
    }
}

/// Ends a daemon, and kills it if it does not end within this time. Says whether it ended by itself.
pub(crate) fn stop(child: &mut Child, within: Duration) -> bool {
    if matches!(child.try_wait(), Ok(Some(_))) {
        return true;
    }
    let pid = child.id().to_string();
    let _ = Command::new("kill").args(["-TERM", &pid]).status();
    let ended_by_itself = ends(child, within);
    if !ended_by_itself {
        let _ = child.kill();
        // The kernel keeps it while a file system that the test has not healed holds one of its threads.
        ends(child, within);
    }
    ended_by_itself
}

fn ends(child: &mut Child, within: Duration) -> bool {
    let started = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if started.elapsed() > within {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}
