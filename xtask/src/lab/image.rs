//! The lab's root file system, kernel and initrd: made once, kept under a key that their inputs determine.

use crate::{root, run};
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What `tests/lab/image/build` makes a machine of.
const INPUTS: [&str; 4] = ["build", "init", "packages", "backports"];

/// The folder with `root.img`, `kernel` and `initrd`, made if it is missing.
pub(super) fn ready() -> Result<PathBuf, String> {
    let inputs = root().join("tests/lab/image");
    let cache = cache();
    let image = cache.join(key(&inputs)?);
    if image.join("root.img").exists() {
        return Ok(image);
    }
    eprintln!("making the lab's machine in {}: this takes some minutes", image.display());
    let failed = |e| format!("{}: {e}", cache.display());
    // What other inputs gave, and what was not finished.
    let _ = fs::remove_dir_all(&cache);
    let unfinished = cache.join("unfinished");
    fs::create_dir_all(&unfinished).map_err(failed)?;
    let mut build = Command::new(inputs.join("build"));
    build.arg(&unfinished).env("DEBIAN_FRONTEND", "noninteractive");
    run(build)?;
    fs::rename(&unfinished, &image).map_err(failed)?;
    Ok(image)
}

/// The user's cache, or where there is none what the build has made.
fn cache() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    cache.or_else(home).unwrap_or_else(|| root().join("target")).join("cenote/lab")
}

fn key(inputs: &Path) -> Result<String, String> {
    let mut hasher = DefaultHasher::new();
    for name in INPUTS {
        let path = inputs.join(name);
        hasher.write(&fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?);
    }
    Ok(format!("{:016x}", hasher.finish()))
}
