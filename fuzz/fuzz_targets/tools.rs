//! What tools and the kernel print; the first byte picks the reader.
#![no_main]

use cenote_backend::disk::layout;
use cenote_backend::logical::report;
use cenote_backend::sheepdog::listing as sheepdog;
use cenote_backend::rbd::heads;
use cenote_backend::{iscsi, netfs, zfs};
use std::time::Duration;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(data);
    match first % 14 {
        0 => drop(report::group(&text)),
        1 => drop(report::sources(&text)),
        2 => drop(zfs::Listing::parse(&text, "tank/images")),
        3 => drop(layout::of_parted(&text).map(|layout| layout.map(|layout| layout.usage()))),
        4 => drop(layout::cylinder(&text)),
        5 => drop(netfs::exports(&text).count()),
        6 => drop(iscsi::targets(&text)),
        7 => drop(sheepdog::vdis(&text)),
        8 => drop(sheepdog::usage(&text)),
        10 => drop(cenote_image::lvm::read(data)),
        11 => drop(zfs::history::is_quiet(&text, Duration::from_secs(1000), Duration::from_secs(10))),
        12 => drop(heads::count_objects(data, u64::from(data.first().copied().unwrap_or(0)) << 3)),
        13 => drop(data.split_at_checked(9).and_then(|(size, rest)| heads::Head::parse(size, rest, rest))),
        _ => drop(cenote_host::mounts(data)),
    }
});
