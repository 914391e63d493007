//! Options for mount(8), from a pool's definition.

use cenote_model::{Code, Error, Result};

/// What no volume needs, as libvirt has it: devices, programs that give rights, and programs at all.
const DEFAULT: [&str; 3] = ["nodev", "nosuid", "noexec"];

/// With these mount(8) would not mount the source on the target, but do something else.
const NOT_A_MOUNT: [&str; 13] = [
    "bind",
    "rbind",
    "move",
    "remount",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "private",
    "rprivate",
    "unbindable",
    "runbindable",
    "helper",
];

/// What is always set, then `own`, then what the definition asks for, which may take back what is before it.
pub(crate) fn options(own: Option<String>, wanted: &[String]) -> Result<String> {
    let mut options: Vec<String> = DEFAULT.map(str::to_owned).into();
    options.extend(own);
    for option in wanted.iter().flat_map(|several| split(several)) {
        check(option)?;
        options.push(option.to_owned());
    }
    Ok(options.join(","))
}

/// Options stand between commas; one in quotation marks may have commas.
fn split(several: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    several.split(move |c| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    })
}

fn check(option: &str) -> Result<()> {
    let refused =
        |why: &str| Err(Error::new(Code::ConfigUnsupported, format!("mount option '{option}' {why}")));
    let name = option.split('=').next().unwrap_or_default();
    if name.is_empty() {
        return refused("has no name");
    }
    if option.chars().any(|c| c.is_control()) || !option.matches('"').count().is_multiple_of(2) {
        return refused("is malformed: it has a control character, or a quotation mark without its pair");
    }
    if NOT_A_MOUNT.contains(&name) {
        return refused("would not mount the pool's source: leave it out");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(wanted: &[&str]) -> Result<String> {
        options(Some("nfsvers=3".to_owned()), &wanted.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_asked_for_comes_last() {
        assert_eq!(options(None, &[]).unwrap(), "nodev,nosuid,noexec");
        assert_eq!(
            all(&["sync,exec", "context=\"a:b:c0,c1\""]).unwrap(),
            "nodev,nosuid,noexec,nfsvers=3,sync,exec,context=\"a:b:c0,c1\""
        );
    }

    #[test]
    fn what_is_refused() {
        for wrong in ["bind", "sync,remount", "a,,b", "=x", "a\nb", "x=\"", "helper=x"] {
            let error = all(&[wrong]).unwrap_err();
            assert_eq!(error.code, Code::ConfigUnsupported, "{wrong}: {error}");
        }
    }
}
