//! The only place that reads time. `Instant` for spans, through tokio so that tests can pause it;
//! `SystemTime` for what people read.

use std::time::{Instant, SystemTime};

/// Now, on the clock that tokio's timers run by.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Now, on the wall.
#[expect(clippy::disallowed_methods, reason = "the one place that may")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}
