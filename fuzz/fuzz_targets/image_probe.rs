//! Image headers: every format's reader is reached, by the magic that the first byte picks.
#![no_main]

use cenote_image::probe::{describe, probe_named};
use cenote_model::format::ImageFormat;

const MAGICS: [(&[u8], usize); 16] = [
    (b"QFI\xfb\0\0\0\x01", 0),
    (b"QFI\xfb\0\0\0\x02", 0),
    (b"QFI\xfb\0\0\0\x03", 0),
    (b"QED\0", 0),
    (b"KDMV\x01\0\0\0", 0),
    (b"# Disk DescriptorFile\n", 0),
    (b"OOOM\0\0\0\x02", 0),
    (b"conectix", 0),
    (b"vhdxfile", 0),
    (b"\x7f\x10\xda\xbe\x01\0\x01\0", 64),
    (b"WithouFreSpacExt", 0),
    (b"WithoutFreeSpace", 0),
    (b"LUKS\xba\xbe\0\x01", 0),
    (b"LUKS\xba\xbe\0\x02", 0),
    (b"Bochs Virtual HD Image\0", 0),
    (b"#!/bin/sh\n#V2.0 Format\n", 0),
];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else { return };
    let mut image = data.to_vec();
    if let Some((magic, at)) = MAGICS.get(usize::from(*first))
        && image.len() >= at + magic.len()
    {
        image[*at..at + magic.len()].copy_from_slice(magic);
    }
    let _ = probe_named(image.as_slice(), "image.dmg");
    for format in ImageFormat::ALL {
        let _ = describe(image.as_slice(), *format);
    }
});
