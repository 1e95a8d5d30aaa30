//! The stage of the network tests: the real binary between stand-in upstreams and clients, all on
//! loopback, every port chosen by the system.
//!
//! Nothing here sleeps to be right: a test waits for a line of the log, for a count to be reached
//! or for bytes to arrive, each within [`PATIENCE`], and then asserts counts and orders. Not here:
//! what must hold; that is in the test files beside this folder.

use std::future::Future;
use std::time::{Duration, Instant};

pub mod certificates;
pub mod client;
pub mod counter;
pub mod load;
pub mod log;
pub mod metrics;
pub mod names;
pub mod proxy;
pub mod recipe;
pub mod refused;
pub mod sightings;
pub mod stage;
pub mod upstream;
mod upstream_http2;
pub mod wire;

/// Longest wait for anything that should happen: far above what it takes, so that a noisy machine
/// does not fail a test, and short enough that a hang is reported by name.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The public host of the service that most tests publish.
pub const PORTAL: &str = "www.portal.example";

/// Where probes go; no client of a test asks for it, so a stand-in can tell them from traffic.
pub const PROBE: &str = "/front-page";

/// Awaits something for at most [`PATIENCE`], and says what was waited for when it does not come.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Now, for measuring spans and never for deciding whether a test passes.
#[expect(clippy::disallowed_methods, reason = "the one place of the tests that reads time")]
pub fn now() -> Instant {
    Instant::now()
}
