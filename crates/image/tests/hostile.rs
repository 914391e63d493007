//! Any header is survived, and a bounded part of it is read.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cenote_image::{ReadAt, probe};
use proptest::prelude::*;
use std::cell::Cell;
use std::io;

/// The beginnings that lead into the readers of each format.
const MAGICS: [(&[u8], usize); 14] = [
    (b"QFI\xfb\0\0\0\x01", 0),
    (b"QFI\xfb\0\0\0\x02", 0),
    (b"QFI\xfb\0\0\0\x03", 0),
    (b"QED\0", 0),
    (b"KDMV\x01\0\0\0", 0),
    (b"# Disk DescriptorFile\nRW ", 0),
    (b"OOOM\0\0\0\x02", 0),
    (b"conectix\0\0\0\0\0\x01\0\0", 0),
    (b"vhdxfile", 0),
    (b"\x7f\x10\xda\xbe\x01\0\x01\0", 64),
    (b"WithouFreSpacExt", 0),
    (b"LUKS\xba\xbe\0\x01", 0),
    (b"LUKS\xba\xbe\0\x02", 0),
    (b"#!/bin/sh\n#V2.0 Format\n", 0),
];

/// An image of 2^60 bytes that counts what is read of it.
struct Endless<'h> {
    head: &'h [u8],
    read: Cell<u64>,
}

impl ReadAt for Endless<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        buf.fill(0xff);
        if let Ok(start) = usize::try_from(offset)
            && let Some(rest) = self.head.get(start..)
        {
            let length = rest.len().min(buf.len());
            buf[..length].copy_from_slice(&rest[..length]);
        }
        self.read.set(self.read.get() + buf.len() as u64);
        Ok(buf.len())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(1 << 60)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn any_header(which in 0..MAGICS.len(), mut head in proptest::collection::vec(any::<u8>(), 0..5000)) {
        let (magic, at) = MAGICS[which];
        if head.len() >= at + magic.len() {
            head[at..at + magic.len()].copy_from_slice(magic);
        }
        prop_assert!(probe(head.as_slice()).is_ok());
        let endless = Endless { head: &head, read: Cell::new(0) };
        prop_assert!(probe(&endless).is_ok());
        prop_assert!(endless.read.get() <= 8 << 20, "{} bytes read", endless.read.get());
    }
}
