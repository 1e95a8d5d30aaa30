//! Log lines: where they go, how they look, and how an error is written in one.

use std::error::Error;
use std::fmt;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FromEnvError, LevelFilter};

/// How log lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// For eyes.
    Text,
    /// One object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// `RUST_LOG` holds no filter.
    #[error("the filter in RUST_LOG cannot be understood")]
    Filter(#[source] FromEnvError),
    /// Somebody was first.
    #[error("logging is set up already")]
    Twice(#[source] Box<dyn Error + Send + Sync>),
}

/// From now on log lines go to standard error: `info` and above, or what `RUST_LOG` says.
///
/// # Errors
/// When `RUST_LOG` cannot be understood, or at the second call.
pub fn install(format: Format) -> Result<(), SetupError> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env()
        .map_err(SetupError::Filter)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        Format::Text => lines.try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(SetupError::Twice)
}

/// An error with everything that caused it, outermost first.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading the page")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn an_error_is_written_with_its_causes() {
        let error = Outer(std::io::Error::other("the disk is gone"));
        assert_eq!(Chain(&error).to_string(), "reading the page: the disk is gone");
    }
}
