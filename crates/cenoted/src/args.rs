//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

const USAGE: &str = "\
usage: cenoted [--prefix DIR]

Serves libvirt's storage API in the foreground, and logs to standard error.

  --prefix DIR   keep everything under DIR: run/libvirt/virtstoraged-sock and -sock-ro, etc/libvirt, var;
                 without it, libvirt's paths for the system (as root) or for this user
  --version      print the version
  --help         print this";

pub(crate) enum Args {
    /// Serve, with everything under this directory.
    Run(Option<PathBuf>),
    /// Print this.
    Say(String),
}

pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Args, String> {
    let mut args = args;
    let mut prefix = None;
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy().into_owned();
        match text.as_str() {
            "--prefix" => {
                let path = args.next().ok_or("--prefix needs a directory")?;
                prefix = Some(absolute(path.into())?);
            }
            "--version" | "-V" => return Ok(Args::Say(format!("cenoted {}", env!("CARGO_PKG_VERSION")))),
            "--help" | "-h" => return Ok(Args::Say(USAGE.to_owned())),
            other => match other.strip_prefix("--prefix=") {
                Some(path) => prefix = Some(absolute(path.into())?),
                None => return Err(format!("unknown argument '{other}'\n\n{USAGE}")),
            },
        }
    }
    Ok(Args::Run(prefix))
}

fn absolute(path: PathBuf) -> Result<PathBuf, String> {
    std::path::absolute(&path).map_err(|e| format!("cannot find the directory '{}': {e}", path.display()))
}
