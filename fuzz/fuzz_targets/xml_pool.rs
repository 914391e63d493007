//! Pool documents: nothing panics, and what is read survives being written and read again.
#![no_main]

use cenote_model::PoolDef;
use cenote_model::flags::Validate;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = PoolDef::from_state_xml(text);
    let _ = PoolDef::from_xml(text, Validate::Strict);
    if let Ok(def) = PoolDef::from_xml(text, Validate::Lax) {
        assert_eq!(PoolDef::from_xml(&def.to_xml(), Validate::Strict).as_ref(), Ok(&def));
    }
});
