//! How a command fails: one message with its code and remedy on standard error, and the exit status
//! that the catalogue gives the code.
//!
//! Must never: print a chain of causes or a backtrace to a user; those are for the log.

use portcullis_model::errors::{EXIT_FAILURE, EXIT_USAGE};
use portcullis_model::{Code, Error};

use crate::output;

/// Why a command ended without doing what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A cause from the catalogue.
    Known(Error),
    /// The command line makes no sense, beyond what clap can see.
    Usage(String),
    /// Everything was said already; only the exit status is left.
    Said(u8),
}

impl Failure {
    /// A cause from the catalogue with its message.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self::Known(Error::new(code, message))
    }

    /// The exit status of the process.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Known(error) => match error.code.exit_status() {
                0 => EXIT_FAILURE,
                status => status,
            },
            Self::Usage(_) => EXIT_USAGE,
            Self::Said(status) => *status,
        }
    }

    /// Tells the user, on standard error.
    pub(crate) fn report(&self) {
        match self {
            Self::Known(error) => output::note(&render(error)),
            Self::Usage(message) => output::note(&format!(
                "error: {message}\n\nFor more information, try `--help`."
            )),
            Self::Said(_) => {}
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Known(error)
    }
}

/// The lines that a user sees of an error.
pub(crate) fn render(error: &Error) -> String {
    let mut text = format!(
        "error: {}\n  code: {}",
        error.message.trim_end(),
        error.code
    );
    if let Some(internal) = &error.internal {
        text.push_str(&format!("\n  cause: {internal}"));
    }
    text.push_str(&format!("\n  remedy: {}", error.code.remedy()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_error_shows_message_code_and_remedy() {
        let text = render(&Error::new(
            Code::PortTaken,
            "port 5432 is held by postgres",
        ));
        assert!(text.contains("port 5432 is held by postgres"));
        assert!(text.contains("PTC_PORT_TAKEN"));
        assert!(text.contains(Code::PortTaken.remedy()));
    }

    #[test]
    fn no_failure_exits_with_success() {
        for code in Code::ALL {
            assert_ne!(Failure::Known(Error::of(*code)).exit_status(), 0, "{code}");
        }
        assert_eq!(Failure::Usage(String::new()).exit_status(), 2);
    }
}
