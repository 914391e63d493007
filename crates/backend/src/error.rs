//! Errors of images and tools as libvirt's.

use crate::needs;
use cenote_host::ToolError;
use cenote_model::{Code, Error};
use std::fmt::Display;

/// What was tried on which object, and why the image would not have it.
pub(crate) fn image(what: impl Display, error: cenote_image::Error) -> Error {
    match error {
        cenote_image::Error::Io(cause) => Error::system(what, &cause),
        cenote_image::Error::Unsupported(reason) => {
            Error::new(Code::ConfigUnsupported, format!("{what}: {reason}"))
        }
        cenote_image::Error::Damaged(reason) => Error::new(Code::Internal, format!("{what}: {reason}")),
        cenote_image::Error::Stopped(error) => error,
    }
}

/// Why the tool would not do it, and where it comes from if it is not there.
pub(crate) fn tool(error: ToolError) -> Error {
    match error {
        ToolError::Stopped(error) => error,
        ToolError::Missing(name) => {
            let package = needs::package_of(name);
            let remedy = package.map_or(String::new(), |package| format!(": install the package {package}"));
            Error::new(Code::Internal, format!("this needs {name}, which is not installed{remedy}"))
        }
        other => Error::new(Code::Internal, other.to_string()),
    }
}
