use cenote_model::error::cause_text;
use std::io;

/// The result of work on an image.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why work on an image failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The storage under the image failed.
    #[error("{}", cause_text(.0))]
    Io(#[from] io::Error),
    /// The format cannot do what was asked.
    #[error("{0}")]
    Unsupported(String),
    /// The image is damaged, or not what it says it is.
    #[error("{0}")]
    Damaged(String),
    /// The job was told to stop.
    #[error(transparent)]
    Stopped(#[from] cenote_model::Error),
}

impl Error {
    pub(crate) fn unsupported(what: impl Into<String>) -> Error {
        Error::Unsupported(what.into())
    }
}
