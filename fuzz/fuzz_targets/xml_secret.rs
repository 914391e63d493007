//! Secret documents.
#![no_main]

use cenote_model::flags::Validate;
use cenote_model::secret::SecretDef;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = SecretDef::from_xml(text, Validate::Strict);
    if let Ok(def) = SecretDef::from_xml(text, Validate::Lax) {
        assert_eq!(SecretDef::from_xml(&def.to_xml(), Validate::Strict), Ok(def));
    }
});
