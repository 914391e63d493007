//! qemu-img judges every qcow2 image that can be made.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_image::Error;
use cenote_image::qcow2::{Backing, Options, Preallocation, Version, create, resize};
use cenote_model::Job;
use cenote_model::format::ImageFormat;
use cenote_test_support::{have, run};
use serde_json::Value;
use std::fs::File;
use std::path::Path;

fn info(path: &Path) -> Value {
    serde_json::from_str(&run("qemu-img", &["info", "--output=json", path.to_str().unwrap()])).unwrap()
}

fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

fn check(path: &Path) {
    run("qemu-img", &["check", "-q", path.to_str().unwrap()]);
}

fn judge(path: &Path, options: &Options) {
    check(path);
    let info = info(path);
    let data = &info["format-specific"]["data"];
    let label = format!("{options:?}");
    assert_eq!(info["format"], "qcow2", "{label}");
    assert_eq!(info["virtual-size"], options.capacity, "{label}");
    assert_eq!(info["cluster-size"], options.cluster_size, "{label}");
    assert_eq!(data["compat"], if options.version == Version::V2 { "0.10" } else { "1.1" }, "{label}");
    if options.version == Version::V3 {
        assert_eq!(data["lazy-refcounts"], options.lazy_refcounts, "{label}");
        assert_eq!(data["extended-l2"], options.extended_l2, "{label}");
    }
    match &options.backing {
        None => assert_eq!(info.get("backing-filename"), None, "{label}"),
        Some(backing) => {
            assert_eq!(info["backing-filename"], backing.name.as_str(), "{label}");
            assert_eq!(info["backing-filename-format"], backing.format.as_str(), "{label}");
        }
    }
    let facts = cenote_image::probe(&File::open(path).unwrap()).unwrap();
    assert_eq!(facts.format, ImageFormat::Qcow2, "{label}");
    assert_eq!(facts.capacity, Some(options.capacity), "{label}");
    assert_eq!(facts.cluster_size, Some(options.cluster_size), "{label}");
}

/// All options that are worth a try, and how the image is preallocated.
fn combinations(backing: &Backing) -> Vec<(Options, Preallocation)> {
    let mut all = Vec::new();
    for bits in 9..=21 {
        for version in [Version::V2, Version::V3] {
            for (lazy_refcounts, extended_l2) in [(false, false), (true, false), (false, true), (true, true)]
            {
                let options = |capacity, backing| Options {
                    capacity,
                    version,
                    cluster_size: 1 << bits,
                    lazy_refcounts,
                    extended_l2,
                    backing,
                };
                for capacity in [0, 512, (3 << 20) + 512, 20 << 20] {
                    all.push((options(capacity, Some(backing.clone())), Preallocation::Off));
                    for preallocation in [
                        Preallocation::Off,
                        Preallocation::Metadata,
                        Preallocation::Reserve,
                        Preallocation::Write,
                    ] {
                        all.push((options(capacity, None), preallocation));
                    }
                }
                all.push((options(5 << 40, None), Preallocation::Off));
            }
        }
    }
    all
}

#[test]
fn every_combination_is_a_sound_image() {
    if !have("qemu-img") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base with blanks, ü.raw");
    File::create(&base).unwrap().set_len(1 << 20).unwrap();
    let backing = Backing { name: base.to_str().unwrap().to_owned(), format: ImageFormat::Raw };
    let path = folder.path().join("image");
    let (mut made, mut refused) = (0, 0);
    for (options, preallocation) in combinations(&backing) {
        let file = File::create(&path).unwrap();
        if let Err(error) = create(&file, &options, preallocation, &Job::new(0, "create")) {
            let features_need_v3 = options.lazy_refcounts || options.extended_l2;
            assert!(
                (options.version == Version::V2 && features_need_v3)
                    || (options.extended_l2 && options.cluster_size < 16 << 10)
                    || (options.capacity > 1 << 40 && options.cluster_size <= 16 << 10),
                "{options:?}: {error}"
            );
            refused += 1;
            continue;
        }
        judge(&path, &options);
        made += 1;
    }
    eprintln!("{made} made and judged, {refused} refused");
    assert!(made >= 300);
}

#[test]
fn what_is_preallocated_reads_as_zeroes_and_can_be_written() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let name = path.to_str().unwrap();
    for preallocation in [Preallocation::Metadata, Preallocation::Reserve, Preallocation::Write] {
        for extended_l2 in [false, true] {
            let options = Options { extended_l2, ..Options::new(10 << 20) };
            create(&File::create(&path).unwrap(), &options, preallocation, &Job::new(0, "create")).unwrap();
            let commands = ["-c", "read -P 0 0 10M", "-c", "write -P 7 3M 64k", "-c", "read -P 7 3M 64k"];
            let before = path.metadata().unwrap().len();
            run("qemu-io", &[&commands[..], &["-f", "qcow2", name]].concat());
            check(&path);
            assert_eq!(path.metadata().unwrap().len(), before, "writing allocated nothing new");
        }
    }
}

#[test]
fn resizing_keeps_the_content() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let name = path.to_str().unwrap();
    for bits in [12, 16, 21] {
        for extended_l2 in [false, true] {
            let options = Options { cluster_size: 1 << bits, extended_l2, ..Options::new(16 << 20) };
            if options.check().is_err() {
                continue;
            }
            create(&File::create(&path).unwrap(), &options, Preallocation::Off, &Job::new(0, "c")).unwrap();
            run("qemu-io", &["-f", "qcow2", "-c", "write -P 5 1M 3M", name]);
            for capacity in [16 << 20, 512 << 20, (512 << 20) + 512, 8 << 20, 600 << 20] {
                resize(&open(&path), capacity, None).unwrap();
                check(&path);
                assert_eq!(info(&path)["virtual-size"], capacity);
                run("qemu-io", &["-f", "qcow2", "-c", "read -P 5 1M 3M", "-c", "read -P 0 4M 4M", name]);
            }
            // What was written far out is still there after all that.
            run("qemu-io", &["-f", "qcow2", "-c", "write -P 6 599M 1M", "-c", "read -P 6 599M 1M", name]);
            check(&path);
        }
    }
}

#[test]
fn what_cannot_be_resized_in_place_is_left_as_it_is() {
    if !have("qemu-img") || !have("qemu-io") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let name = path.to_str().unwrap();
    let base = folder.path().join("base");
    File::create(&base).unwrap().set_len(30 << 20).unwrap();
    let create = |options: &[&str]| {
        run("qemu-img", &[&["create", "-q", "-f", "qcow2"], options, &[name, "10M"]].concat());
    };
    let refused = |capacity: u64, backing: Option<u64>| {
        let before = std::fs::read(&path).unwrap();
        let error = resize(&open(&path), capacity, backing).unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{error}");
        assert!(std::fs::read(&path).unwrap() == before);
    };
    create(&[]);
    run("qemu-img", &["snapshot", "-c", "s", name]);
    refused(20 << 20, None);
    create(&["-b", base.to_str().unwrap(), "-F", "raw"]);
    refused(20 << 20, Some(30 << 20));
    create(&["-o", "cluster_size=512"]);
    refused(1 << 40, None);
    create(&[]);
    run("qemu-io", &["-f", "qcow2", "-c", "write 5M 64k", name]);
    for capacity in [5 << 20, (5 << 20) + 512] {
        refused(capacity, None);
    }
    resize(&open(&path), (5 << 20) + 65536, None).unwrap();
    check(&path);
}
