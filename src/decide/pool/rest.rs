//! When nothing has to be concluded about a pool: all was well at the last look, and nothing was heard
//! since. Most pools of a large file are at rest at most times, and should cost nothing.

use std::time::{Duration, Instant};

use super::PoolWatch;
use crate::decide::watch::{Standing, Watch};
use crate::model::health::Health;

/// How often a pool is looked at of which nothing is heard.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A pool of which nothing was heard since its last conclusions, which found all well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    /// When it is looked at again all the same: rates fade, and baselines are learned.
    until: Instant,
    /// When something is due by itself.
    due: Option<Instant>,
}

impl Rest {
    pub(super) fn begin(now: Instant, due: Option<Instant>) -> Self {
        Self { until: now + LOOK_AGAIN, due }
    }

    pub(super) fn goes_on(self, now: Instant) -> bool {
        now < self.until && self.due.is_none_or(|due| now < due)
    }

    pub(super) fn due(self) -> Option<Instant> {
        self.due
    }
}

impl PoolWatch {
    /// Something was heard of it: the next conclusions may be others.
    pub fn wake(&mut self) {
        self.rest = None;
        self.is_news = true;
    }

    /// Whether there is nothing that time alone could change within a second.
    pub(super) fn is_well(&self) -> bool {
        let is_well = |watch: &Watch| {
            watch.health == Health::Healthy
                && watch.standing == Standing::Nothing
                && watch.probes.failed == 0
                && watch.scores().since().is_none()
                && !watch.is_limited()
        };
        self.frozen.is_none()
            && self.incident.is_none()
            && self.parts.is_empty()
            && !self.origin.is_at_fault()
            && self.watches.iter().all(is_well)
    }
}

impl PoolWatch {
    /// Whether a few milliseconds matter: something may be failing wholly, or nearly so. Few per
    /// cent take seconds to tell from chance, and a trickle has nothing to lose.
    pub fn in_doubt(&self) -> bool {
        self.rest.is_none()
            && self.all().flat_map(|pool| &pool.watches).any(|watch| match watch.health {
                Health::Healthy | Health::Suspect | Health::Ramping { .. } => {
                    watch.scores().may_be_cascade() || watch.is_acute()
                }
                Health::HalfOpen { .. } | Health::Ejected { .. } => false,
            })
    }

    /// Whether one of its upstreams is so doubtful that all should be probed often. A gray alert
    /// has been told; probing for hours would find nothing more.
    pub fn is_urgent(&self) -> bool {
        self.all().flat_map(|pool| &pool.watches).any(|watch| {
            match (watch.health, watch.standing) {
                (Health::Suspect, Standing::Nothing | Standing::Withheld { .. }) => true,
                (Health::Suspect, Standing::Gray)
                | (Health::Healthy | Health::Ramping { .. }, _) => watch.probes.failed > 0,
                (Health::HalfOpen { .. } | Health::Ejected { .. }, _) => false,
            }
        })
    }
}
