//! `/livez` and `/readyz`: for whoever starts us and for whoever sends us traffic.

use std::time::{Duration, Instant};

use crate::exchange::board::BoardView;

/// How long the first probes are waited for: an upstream that does not answer must not keep the
/// others from serving.
const FIRST_PROBES: Duration = Duration::from_secs(2);

/// Whether the process takes traffic on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// It does.
    Serving,
    /// It finishes what it has and goes.
    Draining,
    /// The same, while another process answers at the same addresses: whoever asks is to ask that one.
    HandedOver,
}

/// Why traffic should not be sent here now; nothing when ready.
pub fn unready(
    phase: Phase,
    board: &BoardView,
    started: Instant,
    now: Instant,
) -> Vec<&'static str> {
    let waited = now.saturating_duration_since(started) >= FIRST_PROBES;
    let unprobed = board.upstreams.iter().any(|upstream| upstream.probe.is_none());
    let mut reasons = Vec::new();
    if phase != Phase::Serving {
        reasons.push("shutting down");
    }
    if unprobed && !waited {
        reasons.push("waiting for the first probes");
    }
    reasons
}
