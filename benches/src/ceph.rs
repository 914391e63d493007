//! A pool of a Ceph cluster: refreshes beside libvirtd's, uploads and downloads beside those of `rbd`, in virsh and in one run.

use crate::{Times, print_ratio};
use cenote_test_support::{Authentication, Cenoted, Ceph, Libvirtd};
use std::path::Path;
use std::process::Output;

const IMAGES: usize = 1000;
const ROUNDS: usize = 5;
const SIZE: usize = 256 << 20;

fn succeed(output: Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(crate) fn compare(cenoted: &str, folder: &Path) {
    let ceph = Ceph::start(Authentication::None);
    let ours = Cenoted::start(cenoted, &folder.join("ceph-cenoted"));
    let theirs = Libvirtd::start(&folder.join("ceph-libvirtd"));
    // With this element libvirt tells the allocation, as Cenote does without it.
    let refresh = "<refresh><volume allocation='default'/></refresh>";
    let xml = format!(
        "<pool type='rbd'><name>ceph</name>{refresh}<source><host name='127.0.0.1' port='{}'/><name>rbd</name>\
         </source></pool>",
        ceph.port()
    );
    let file = folder.join("ceph.xml").display().to_string();
    std::fs::write(&file, xml).unwrap();
    let ours = |args: &[&str]| succeed(ours.virsh(args));
    let theirs = |args: &[&str]| succeed(theirs.virsh(args));
    ours(&["pool-create", &file]);
    theirs(&["pool-create", &file]);
    for number in 0..IMAGES {
        ceph.run("rbd", &["create", &format!("image{number}"), "--size", "1G"]);
    }
    // Of these there is something.
    for number in 0..20 {
        let uri = format!("rbd:rbd/image{number}:conf={}", ceph.conf().display());
        ceph.run("qemu-io", &["-f", "raw", &uri, "-c", "write 0 4M", "-c", "write 512M 1M"]);
    }
    let (mut our_times, mut their_times) = (Times::default(), Times::default());
    for _ in 0..ROUNDS {
        our_times.measure(|| ours(&["pool-refresh", "ceph"]));
        their_times.measure(|| theirs(&["pool-refresh", "ceph"]));
    }
    print_ratio(&format!("refresh of {IMAGES} images"), our_times.median(), their_times.median());

    let content = folder.join("content").display().to_string();
    let bytes: Vec<u8> = (0..SIZE as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(&content, bytes).unwrap();
    let back = folder.join("back").display().to_string();
    ours(&["vol-create-as", "ceph", "uploaded", "256M"]);
    let mut times: [Times; 4] = Default::default();
    for _ in 0..ROUNDS {
        times[0].measure(|| ours(&["vol-upload", "uploaded", &content, "ceph"]));
        times[1].measure(|| ceph.run("rbd", &["import", "--no-progress", &content, "imported"]));
        times[2].measure(|| ours(&["vol-download", "uploaded", &back, "ceph"]));
        times[3].measure(|| {
            let _ = std::fs::remove_file(&back);
            ceph.run("rbd", &["export", "--no-progress", "imported", &back]);
        });
        ceph.run("rbd", &["rm", "--no-progress", "imported"]);
    }
    let [upload, import, download, export] = times.map(Times::median);
    print_ratio("upload of 256 MiB / rbd import", upload, import);
    print_ratio("download of 256 MiB / rbd export", download, export);
}
