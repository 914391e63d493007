//! Every format that qemu-img makes is probed to the facts that `qemu-img info --backing-chain` gives.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_image::Error;
use cenote_image::backing::{Location, chain};
use cenote_image::convert::Source;
use cenote_image::qcow2::Options;
use cenote_model::Job;
use cenote_model::encryption::EncryptionFormat;
use cenote_model::format::ImageFormat;
use cenote_test_support::{have, run};
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

fn compare(path: &Path) {
    let name = path.to_str().unwrap();
    let json = run("qemu-img", &["info", "--output=json", "--backing-chain", name]);
    let theirs: Value = serde_json::from_str(&json).unwrap();
    let theirs = theirs.as_array().unwrap();
    let ours = chain(path).unwrap();
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        let facts = ours.facts.as_ref().unwrap();
        let size = facts.capacity.unwrap_or_else(|| {
            let Location::Local(path) = &ours.location else { panic!("{name}") };
            // An image without a size of its own is as long as its file, in whole sectors.
            path.metadata().unwrap().len().next_multiple_of(512)
        });
        assert_eq!(theirs["virtual-size"], size, "{name}: {theirs}");
        let format = match theirs["format"].as_str().unwrap() {
            "vhdx" => "vhd",
            "parallels" => "ploop",
            "luks" => "raw",
            other => other,
        };
        assert_eq!(facts.format.as_str(), format, "{name}");
        assert_eq!(
            facts.backing.as_ref().map(|backing| backing.name.as_str()),
            theirs.get("backing-filename").map(|name| name.as_str().unwrap()),
            "{name}"
        );
        // The clusters of a VMDK in several files are described in those.
        let in_parts = facts.format == ImageFormat::Vmdk && facts.cluster_size.is_none();
        if let Some(cluster) = theirs.get("cluster-size").filter(|_| !in_parts) {
            assert_eq!(facts.cluster_size.map(Value::from).as_ref(), Some(cluster), "{name}: {theirs}");
        }
        let is_encrypted = theirs.get("encrypted").is_some_and(|e| e.as_bool().unwrap());
        assert_eq!(facts.encryption.is_some(), is_encrypted, "{name}");
    }
}

#[test]
fn every_format_of_qemu_img() {
    if !have("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let create = |name: &str, format: &str, options: &[&str], size: &str| -> PathBuf {
        let path = folder.path().join(name);
        let args = [&["create", "-q", "-f", format], options, &[path.to_str().unwrap(), size]].concat();
        run("qemu-img", &args);
        path
    };
    let kinds: &[(&str, &[&str])] = &[
        ("raw", &[]),
        ("qcow", &[]),
        ("qcow2", &[]),
        ("qcow2", &["-o", "compat=0.10"]),
        ("qcow2", &["-o", "cluster_size=512"]),
        ("qcow2", &["-o", "cluster_size=2M,extended_l2=on,lazy_refcounts=on"]),
        ("qed", &[]),
        ("qed", &["-o", "cluster_size=131072"]),
        ("vdi", &[]),
        ("vdi", &["-o", "static=on"]),
        ("vhdx", &[]),
        ("vhdx", &["-o", "block_size=8M"]),
        ("vmdk", &[]),
        ("vmdk", &["-o", "subformat=streamOptimized"]),
        ("vmdk", &["-o", "subformat=monolithicFlat"]),
        ("vmdk", &["-o", "subformat=twoGbMaxExtentSparse"]),
        ("vmdk", &["-o", "subformat=twoGbMaxExtentFlat"]),
        ("vpc", &[]),
        ("vpc", &["-o", "force_size=on"]),
        ("parallels", &[]),
    ];
    let mut images = 0;
    for size in ["1M", "10M", "5G"] {
        for (i, (format, options)) in kinds.iter().enumerate() {
            if size != "5G" || !options.contains(&"static=on") {
                compare(&create(&format!("{i}-{size}"), format, options, size));
                images += 1;
            }
        }
        let secret = ["--object", "secret,id=s,data=xyzzy"];
        let plain = [&secret[..], &["-o", "key-secret=s,iter-time=10"]].concat();
        let inner =
            [&secret[..], &["-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"]].concat();
        for (format, options) in [("luks", plain), ("qcow2", inner)] {
            let path = create(&format!("luks-{format}-{size}"), format, &options, size);
            compare(&path);
            let facts = cenote_image::probe(&File::open(&path).unwrap()).unwrap();
            assert_eq!(facts.encryption, Some(EncryptionFormat::Luks));
            images += 1;
        }
    }
    eprintln!("{images} images");
}

#[test]
fn backing_chains() {
    if !have("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let over = |name: &str, format: &str, backing: &str, backing_format: &str| {
        run("qemu-img", &["create", "-q", "-f", format, "-b", backing, "-F", backing_format, &at(name)]);
    };
    run("qemu-img", &["create", "-q", "-f", "raw", &at("base"), "10M"]);
    over("a.qcow2", "qcow2", "base", "raw");
    over("b.qcow2", "qcow2", &at("a.qcow2"), "qcow2");
    over("c.qed", "qed", "b.qcow2", "qcow2");
    run("qemu-img", &["create", "-q", "-f", "vmdk", &at("v.vmdk"), "10M"]);
    over("w.vmdk", "vmdk", &at("v.vmdk"), "vmdk");
    for name in ["a.qcow2", "b.qcow2", "c.qed", "w.vmdk"] {
        compare(&folder.path().join(name));
    }
    let json = format!(r#"json:{{"driver":"qcow2","file.filename":"{}"}}"#, at("b.qcow2"));
    over("e.qcow2", "qcow2", &json, "qcow2");
    assert_eq!(chain(&folder.path().join("e.qcow2")).unwrap().len(), 4);

    let unchecked = |name: &str, backing: &str| {
        run(
            "qemu-img",
            &["create", "-q", "-f", "qcow2", "-u", "-b", backing, "-F", "qcow2", &at(name), "1M"],
        );
    };
    unchecked("x", "y");
    unchecked("y", "x");
    let error = chain(&folder.path().join("x")).unwrap_err();
    assert!(error.to_string().contains("comes back"), "{error}");
    unchecked("n", "nbd://h/x");
    let links = chain(&folder.path().join("n")).unwrap();
    assert_eq!(links[1].location, Location::Network { protocol: "nbd".to_owned() });
}

/// Data, holes and zeroes that were written, at places that no cluster likes.
fn sample(path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len((20 << 20) + 512).unwrap();
    for (offset, length, byte) in
        [(0, 512, 1), (70_000, 1, 2), (1 << 20, 3 << 20, 3), (8 << 20, 1 << 20, 0), (20 << 20, 512, 4)]
    {
        file.write_all_at(&vec![byte; length], offset).unwrap();
    }
}

fn same(a: &Path, format: &str, b: &Path, other: &str) {
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    run("qemu-img", &["compare", "-q", "-f", format, "-F", other, a, b]);
}

#[test]
fn conversions() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let raw = at("raw");
    sample(&raw);
    let job = Job::new(0, "convert");
    for bits in [9, 12, 16, 21] {
        for extended_l2 in [false, true] {
            let options = Options { cluster_size: 1 << bits, extended_l2, ..Options::new(0) };
            if options.check().is_err() {
                continue;
            }
            let made = at("made.qcow2");
            let source = Source::open(&raw, ImageFormat::Raw).unwrap();
            source.to_qcow2(&File::create(&made).unwrap(), options, &job).unwrap();
            run("qemu-img", &["check", "-q", made.to_str().unwrap()]);
            same(&raw, "raw", &made, "qcow2");
            let back = at("back");
            let source = match Source::open(&made, ImageFormat::Qcow2) {
                Err(error) if extended_l2 => {
                    assert!(matches!(error, Error::Unsupported(_)), "{error}");
                    continue;
                }
                source => source.unwrap(),
            };
            source.to_raw(&File::create(&back).unwrap(), 0, &job).unwrap();
            assert!(std::fs::read(&back).unwrap() == std::fs::read(&raw).unwrap());
        }
    }
    // What qemu-img makes in its own ways is read as well.
    for (name, args) in [
        ("compressed", &["-c", "-O", "qcow2"][..]),
        ("old", &["-O", "qcow2", "-o", "compat=0.10,cluster_size=4096"]),
    ] {
        let image = at(name);
        let names = [raw.to_str().unwrap(), image.to_str().unwrap()];
        run("qemu-img", &[&["convert", "-q", "-f", "raw"], args, &names].concat());
        let back = at("back");
        Source::open(&image, ImageFormat::Qcow2)
            .unwrap()
            .to_raw(&File::create(&back).unwrap(), 0, &job)
            .unwrap();
        same(&raw, "raw", &back, "raw");
    }
    // Through a backing chain.
    let top = at("top.qcow2");
    let names = ["-b", raw.to_str().unwrap(), "-F", "raw", top.to_str().unwrap(), "30M"];
    run("qemu-img", &[&["create", "-q", "-f", "qcow2"][..], &names].concat());
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 9 2M 100k", top.to_str().unwrap()]);
    let flat = at("flat.qcow2");
    let source = Source::open(&top, ImageFormat::Qcow2).unwrap();
    source.to_qcow2(&File::create(&flat).unwrap(), Options::new(0), &job).unwrap();
    same(&top, "qcow2", &flat, "qcow2");
    assert_eq!(chain(&flat).unwrap().len(), 1);
}

#[test]
fn an_image_cannot_make_us_open_a_device_or_a_pipe() {
    if !have("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evil.qcow2");
    let name = path.to_str().unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-u", "-b", "/dev/zero", "-F", "raw", name, "1M"]);
    let error = Source::open(&path, ImageFormat::Qcow2).err().unwrap();
    assert!(error.to_string().contains("neither a regular file nor a block device"), "{error}");
}

#[test]
fn a_cancelled_conversion_stops() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    sample(&raw);
    let job = Job::new(0, "convert");
    job.cancel();
    let out = tempfile::tempfile().unwrap();
    let source = Source::open(&raw, ImageFormat::Raw).unwrap();
    assert!(source.to_raw(&out, 0, &job).is_err());
}
