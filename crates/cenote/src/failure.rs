//! Why a command failed, in the lines that are printed.

use cenote_model::Error;

/// What a command returns.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a command failed: what it could not do, and the error behind that.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    pub(crate) said: Vec<String>,
    pub(crate) cause: Option<Error>,
}

impl Failure {
    /// What could not be done, with nothing behind it.
    pub(crate) fn said(message: impl Into<String>) -> Failure {
        Failure { said: vec![message.into()], cause: None }
    }

    /// One more line.
    pub(crate) fn and(mut self, message: impl Into<String>) -> Failure {
        self.said.push(message.into());
        self
    }

    /// The error behind it.
    pub(crate) fn because(mut self, cause: Error) -> Failure {
        self.cause = Some(cause);
        self
    }

    /// A failure that speaks for itself.
    pub(crate) fn silent() -> Failure {
        Failure::default()
    }
}

impl From<Error> for Failure {
    fn from(cause: Error) -> Failure {
        Failure { said: Vec::new(), cause: Some(cause) }
    }
}

/// Saying what could not be done.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> Context<T> for Result<T, Error> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|cause| Failure::said(what()).because(cause))
    }
}
