//! What of one upstream outlives a restart, and how it goes on.

use std::time::Instant;

use super::Watch;
use crate::decide::breaker::STEPS;
use crate::model::health::{Health, HealthTag, Reason, Transition};
use crate::model::id::UpstreamId;
use crate::model::memory::UpstreamMemory;
use crate::model::topology::FailoverRule;

impl Watch {
    /// What should still be known after a restart.
    pub fn memory(&self) -> UpstreamMemory {
        UpstreamMemory {
            key: self.key.clone(),
            health: self.health,
            record: self.record.memory(),
            hour: self.hour.memory(self.now),
            baseline: self.baseline.memory(),
        }
    }

    /// Goes on from there. Nothing is taken on trust that would bring an upstream back sooner: what
    /// was out has to be good for its whole up-time again, what was on its way back begins its step
    /// anew. A hold never ends later than the rule has it.
    pub fn resume(
        &mut self,
        memory: &UpstreamMemory,
        rule: &FailoverRule,
        (upstream, now): (UpstreamId, Instant),
        out: &mut Vec<Transition>,
    ) {
        self.record.resume(&memory.record, now);
        self.hour.resume(&memory.hour, now);
        self.baseline.resume(&memory.baseline);
        self.scores.learn(self.baseline.share());
        self.cells.adopt(rule.sensitivity, self.baseline.share());
        self.health = match memory.health {
            Health::Healthy | Health::Suspect => Health::Healthy,
            Health::Ejected { since, until, ejections } => {
                let until = until.min(now + rule.max_hold);
                Health::Ejected { since: since.min(now), until, ejections }
            }
            Health::HalfOpen { ejections, .. } => {
                Health::HalfOpen { since: now, passes: 0, ejections }
            }
            Health::Ramping { step, ejections, .. } => {
                let step = step.min(STEPS.len() as u8 - 1);
                Health::Ramping { since: now, step, passes: 0, ejections }
            }
        };
        let (to, reason) = (self.health.tag(), Reason::Remembered);
        if to == HealthTag::Healthy {
            return;
        }
        self.record.bad(now);
        let hold = match self.health {
            Health::Ejected { until, .. } => Some(until.saturating_duration_since(now)),
            Health::Healthy
            | Health::Suspect
            | Health::HalfOpen { .. }
            | Health::Ramping { .. } => {
                self.prove();
                None
            }
        };
        self.last = Some((now, reason));
        let from = HealthTag::Healthy;
        out.push(Transition::Health { upstream, from, to, at: now, reason, hold });
    }
}
