//! Which requests are written down, where and how.

use std::path::PathBuf;

use super::unit::Permille;

/// One line for each request, when it ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessLog {
    /// Where.
    pub target: Target,
    /// How.
    pub format: LineFormat,
    /// Share of the requests that went well; the others are all written.
    pub sample: Permille,
}

/// Where lines go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Target {
    /// The standard output of the process.
    #[default]
    Stdout,
    /// A file that is appended to, and opened anew on SIGHUP.
    File(PathBuf),
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LineFormat {
    /// One JSON object.
    #[default]
    Json,
    /// The combined format of web servers, with further fields as `name=value` behind it.
    Text,
}
