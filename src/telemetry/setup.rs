//! Log lines: what becomes one, how it looks, and how an error is written in one.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::thread;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FromEnvError, LevelFilter};

use super::log::Log;

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
    /// The thread that writes lines.
    #[error("the system gives no thread for the log")]
    Thread(#[source] io::Error),
    /// Somebody was first.
    #[error("logging is set up already")]
    Twice(#[source] Box<dyn Error + Send + Sync>),
}

/// From now on log lines go to standard error: `info` and above, or what `RUST_LOG` says. The last ones are
/// written when the value is dropped.
///
/// # Errors
/// When `RUST_LOG` cannot be understood, the system gives no thread, or at the second call.
pub fn install(format: Format) -> Result<Log, SetupError> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env()
        .map_err(SetupError::Filter)?;
    let log = Log::start().map_err(SetupError::Thread)?;
    let pen = log.pen();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Left on, it would say on standard error, with a panic where that fails, what it could not write.
        .log_internal_errors(false)
        .with_writer(move || pen.clone())
        .with_ansi(io::stderr().is_terminal());
    match format {
        Format::Text => lines.try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(SetupError::Twice)?;
    panic::set_hook(Box::new(tell_panic));
    Ok(log)
}

/// In the log, as everything else: the hook of the standard library writes to standard error by itself,
/// and the thread that panicked would wait there for a reader.
fn tell_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("?");
    let place = panic.location().map(ToString::to_string);
    let why = panic.payload_as_str().unwrap_or("?");
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => Some(backtrace.to_string()),
        _ => None,
    };
    tracing::error!(thread, place, why, backtrace, "a thread panicked at a bug");
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
