//! What the detector should still know after a restart: a small part of what it knows, as plain
//! values.
//!
//! Left out on purpose: scores, windows of seconds and pairs. They describe the last moments before
//! the end, and nobody knows what happened since.

use std::time::{Duration, Instant};

use super::health::Health;
use super::id::{Label, UpstreamKey};
use super::signal::DURATION_BUCKETS;

/// Everything that is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// By key, which outlives a restart as it does a reload.
    pub upstreams: Vec<UpstreamMemory>,
    /// By service.
    pub pools: Vec<PoolMemory>,
}

/// Of one upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamMemory {
    /// Whose.
    pub key: UpstreamKey,
    /// What was believed.
    pub health: Health,
    /// Its ejections: how long the next hold is, and what the up-time rule asks for.
    pub record: RecordMemory,
    /// Its last hour.
    pub hour: HourMemory,
    /// What fails on its good days.
    pub baseline: BaselineMemory,
}

/// Of an upstream's ejections.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RecordMemory {
    /// How many count.
    pub ejections: u32,
    /// Since when it was healthy; `None`: it was not.
    pub healthy_since: Option<Instant>,
    /// The longest good time that did not last.
    pub longest_good: Duration,
    /// Least good time before a return.
    pub least_good: Duration,
}

/// Sums over an upstream's last hour.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HourMemory {
    /// How much of an hour they cover.
    pub covered: Duration,
    /// Successful attempts.
    pub successes: u64,
    /// Answers that carried the marker.
    pub marked: u64,
    /// Answers that could have.
    pub markable: u64,
    /// Heads by duration.
    pub durations: [u64; DURATION_BUCKETS],
}

/// Attempts and failures of an upstream's good hours, as far as they still count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BaselineMemory {
    /// All, at least 0.
    pub attempts: f64,
    /// Those that failed, 0 to `attempts`.
    pub failures: f64,
}

/// Of one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolMemory {
    /// Whose.
    pub service: Label,
    /// Until when it is to stay where it is.
    pub stay_until: Option<Instant>,
}
