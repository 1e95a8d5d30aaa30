//! What the file holds of one upstream.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{RawKey, Scale};
use crate::model::health::Health;
use crate::model::memory::{BaselineMemory, HourMemory, RecordMemory, UpstreamMemory};
use crate::model::signal::DURATION_BUCKETS;

/// Ejections that count: more make no hold longer.
const MOST_EJECTIONS: u32 = 1000;

#[derive(Deserialize, Serialize)]
pub(super) struct RawUpstream {
    upstream: RawKey,
    health: RawHealth,
    ejections: u32,
    healthy_since_ms: Option<u64>,
    longest_good_ms: u64,
    least_good_ms: u64,
    covered_ms: u64,
    successes: u64,
    marked: u64,
    markable: u64,
    durations: Vec<u64>,
    /// Missing in a file of before there were any.
    #[serde(default)]
    good_attempts: f64,
    #[serde(default)]
    good_failures: f64,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum RawHealth {
    Healthy,
    Suspect,
    Ejected { since_ms: u64, until_ms: u64, ejections: u32 },
    HalfOpen { since_ms: u64, ejections: u32 },
    Ramping { since_ms: u64, step: u8, ejections: u32 },
}

impl RawUpstream {
    pub(super) fn of(known: &UpstreamMemory, scale: Scale) -> Self {
        let UpstreamMemory { key, health, record, hour, baseline } = known;
        let ms = |span: Duration| span.as_millis() as u64;
        Self {
            upstream: RawKey::of(key),
            health: RawHealth::of(*health, scale),
            ejections: record.ejections,
            healthy_since_ms: record.healthy_since.map(|at| scale.write(at)),
            longest_good_ms: ms(record.longest_good),
            least_good_ms: ms(record.least_good),
            covered_ms: ms(hour.covered),
            successes: hour.successes,
            marked: hour.marked,
            markable: hour.markable,
            durations: hour.durations.to_vec(),
            good_attempts: baseline.attempts,
            good_failures: baseline.failures,
        }
    }

    pub(super) fn known(self, scale: Scale) -> Option<UpstreamMemory> {
        let mut durations = [0; DURATION_BUCKETS];
        // Other buckets than ours: what they counted cannot be told apart any more.
        if self.durations.len() == DURATION_BUCKETS {
            durations.copy_from_slice(&self.durations);
        }
        Some(UpstreamMemory {
            key: self.upstream.key()?,
            health: self.health.known(scale),
            record: RecordMemory {
                ejections: self.ejections.min(MOST_EJECTIONS),
                healthy_since: self.healthy_since_ms.map(|ms| scale.read(ms)),
                longest_good: Duration::from_millis(self.longest_good_ms),
                least_good: Duration::from_millis(self.least_good_ms),
            },
            hour: HourMemory {
                covered: Duration::from_millis(self.covered_ms),
                successes: self.successes,
                marked: self.marked.min(self.markable),
                markable: self.markable,
                durations,
            },
            baseline: BaselineMemory { attempts: self.good_attempts, failures: self.good_failures },
        })
    }
}

impl RawHealth {
    fn of(health: Health, scale: Scale) -> Self {
        match health {
            Health::Healthy => Self::Healthy,
            Health::Suspect => Self::Suspect,
            Health::Ejected { since, until, ejections } => Self::Ejected {
                since_ms: scale.write(since),
                until_ms: scale.write(until),
                ejections,
            },
            Health::HalfOpen { since, ejections, .. } => {
                Self::HalfOpen { since_ms: scale.write(since), ejections }
            }
            Health::Ramping { since, step, ejections, .. } => {
                Self::Ramping { since_ms: scale.write(since), step, ejections }
            }
        }
    }

    fn known(self, scale: Scale) -> Health {
        let bounded = |ejections: u32| ejections.clamp(1, MOST_EJECTIONS);
        match self {
            Self::Healthy => Health::Healthy,
            Self::Suspect => Health::Suspect,
            Self::Ejected { since_ms, until_ms, ejections } => Health::Ejected {
                since: scale.read(since_ms),
                until: scale.read(until_ms),
                ejections: bounded(ejections),
            },
            Self::HalfOpen { since_ms, ejections } => Health::HalfOpen {
                since: scale.read(since_ms),
                passes: 0,
                ejections: bounded(ejections),
            },
            Self::Ramping { since_ms, step, ejections } => Health::Ramping {
                since: scale.read(since_ms),
                step,
                passes: 0,
                ejections: bounded(ejections),
            },
        }
    }
}
