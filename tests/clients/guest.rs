//! A guest boots from a disk that cenote made.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_test_support::{Cenote, have, run};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CENOTE: &str = env!("CARGO_BIN_EXE_cenote");
const GREETING: &[u8] = b"disk made by cenote\n";

/// A boot sector that writes the greeting to the first serial port and switches the machine off.
fn boot_sector() -> Vec<u8> {
    let mut code = vec![
        0xfa, // cli
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x40, 0x7c, // mov si, 0x7c40: the text
        0xba, 0xf8, 0x03, // mov dx, 0x3f8: the port
        0xfc, // cld
        0xac, // lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x03, // jz over the next two
        0xee, // out dx, al
        0xeb, 0xf8, // jmp to lodsb
        0xba, 0x04, 0x06, // mov dx, 0x604: the power switch of this machine
        0xb8, 0x00, 0x20, // mov ax, 0x2000
        0xef, // out dx, ax
        0xf4, // hlt
        0xeb, 0xfd, // jmp to hlt
    ];
    code.resize(0x40, 0);
    code.extend(GREETING);
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    code
}

fn boots(path: &str, format: &str) {
    let folder = tempfile::tempdir().unwrap();
    let serial = folder.path().join("serial");
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-display", "none", "-nodefaults", "-no-reboot", "-m", "64"])
        .args(["-drive", &format!("file={path},format={format},if=ide")])
        .args(["-serial", &format!("file:{}", serial.display())])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(100));
        if std::fs::read(&serial).is_ok_and(|said| said.windows(GREETING.len()).any(|w| w == GREETING)) {
            break;
        }
    }
    let _ = qemu.kill();
    let _ = qemu.wait();
    let said = std::fs::read(&serial).unwrap();
    assert!(
        said.windows(GREETING.len()).any(|w| w == GREETING),
        "the guest said {:?}",
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn a_guest_boots() {
    if !have("qemu-system-x86_64") || !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let cenote = Cenote::new(CENOTE);
    cenote.run(&["vol-create-as", "default", "vol1", "1G", "--format", "qcow2"]);
    let path = |name: &str| cenote.images().join(name).to_str().unwrap().to_owned();
    run("qemu-img", &["check", "-q", &path("vol1")]);
    let sector = cenote.prefix().join("sector");
    std::fs::write(&sector, boot_sector()).unwrap();
    let write = format!("write -s {} 0 512", sector.display());
    run("qemu-io", &["-f", "qcow2", "-c", &write, &path("vol1")]);
    boots(&path("vol1"), "qcow2");

    // An upload of the sector, a conversion, a disk on top of another: all of them boot.
    cenote.run(&["vol-create-as", "default", "raw", "10M"]);
    cenote.run(&["vol-upload", "raw", sector.to_str().unwrap(), "default"]);
    boots(&path("raw"), "raw");
    let xml = cenote.prefix().join("v.xml");
    std::fs::write(&xml, "<volume><name>converted</name><capacity>0</capacity><target><format type='qcow2'/></target></volume>").unwrap();
    cenote.run(&["vol-create-from", "default", xml.to_str().unwrap(), "raw", "--inputpool", "default"]);
    boots(&path("converted"), "qcow2");
    cenote.run(&[
        "vol-create-as",
        "default",
        "top",
        "20M",
        "--format",
        "qcow2",
        "--backing-vol",
        "converted",
        "--backing-vol-format",
        "qcow2",
    ]);
    boots(&path("top"), "qcow2");
}
