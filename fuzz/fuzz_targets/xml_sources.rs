//! Source documents, single and in lists.
#![no_main]

use cenote_model::PoolKind;
use cenote_model::source::{Source, sources_from_xml, sources_to_xml};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((text, kind)) = std::str::from_utf8(data).ok().zip(data.last()) else { return };
    let kind = PoolKind::ALL[usize::from(*kind) % PoolKind::ALL.len()];
    let _ = Source::from_xml(text, kind);
    if let Ok(sources) = sources_from_xml(text, kind) {
        assert_eq!(sources_from_xml(&sources_to_xml(kind, &sources), kind), Ok(sources));
    }
});
