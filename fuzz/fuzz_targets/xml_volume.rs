//! Volume documents, for every type of pool.
#![no_main]

use cenote_model::flags::Validate;
use cenote_model::volume::CapacityRule;
use cenote_model::{PoolKind, VolumeDef};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((text, kind)) = std::str::from_utf8(data).ok().zip(data.last()) else { return };
    let kind = PoolKind::ALL[usize::from(*kind) % PoolKind::ALL.len()];
    let read = |text: &str, validate| VolumeDef::from_xml(text, kind, CapacityRule::Optional, validate);
    let _ = read(text, Validate::Strict);
    if let Ok(def) = read(text, Validate::Lax) {
        // What was left out is written with its default.
        let written = read(&def.to_xml(), Validate::Strict).expect("what was written is read");
        assert_eq!(read(&written.to_xml(), Validate::Strict), Ok(written));
    }
});
