//! Names of backing images, `json:` among them.
#![no_main]

use cenote_image::backing::{Location, json_format};
use std::path::Path;

libfuzzer_sys::fuzz_target!(|name: &str| {
    let _ = Location::of(name, Path::new("/pool"));
    let json = format!("json:{name}");
    let _ = (Location::of(&json, Path::new("/pool")), json_format(&json));
});
