//! Errors of images and tools as libvirt's.

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

/// Why the tool would not do it.
pub(crate) fn tool(error: ToolError) -> Error {
    match error {
        ToolError::Stopped(error) => error,
        other => Error::new(Code::Internal, other.to_string()),
    }
}
