//! What people and monitoring read of us: metric families, log lines, the process's own figures.

pub mod access_log;
pub mod families;
pub mod journal;
pub mod labels;
pub mod line;
pub mod log;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod page;
pub mod process;
pub mod setup;
