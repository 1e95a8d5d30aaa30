//! The moves of one upstream's machine that need no one else's word, and when they are due.

use std::time::{Duration, Instant};

use super::super::admission::Admission;
use super::super::breaker::{Event, Gate, PASSES_TO_RAMP, Pace};
use super::super::hold;
use super::super::share::Traffic;
use super::{Standing, Watch};
use crate::model::health::{Health, HealthTag, Reason};
use crate::model::topology::FailoverRule;
use crate::model::unit::Permille;

/// Half-open with fewer safe requests than this in [`THIN_FOR`] lets probes decide.
const THIN: u64 = 5;
const THIN_FOR: Duration = Duration::from_secs(60);
/// Who fails no more than this is good enough to return, however good the fallback is.
const GOOD_ENOUGH: f64 = 0.005;
/// A comparison with the fallback begins anew after this: what was worse an hour ago need not be.
const TRIAL_LASTS: Duration = Duration::from_secs(120);
/// In a pool where nothing is left, so much good time is enough to be tried.
const LAST_RESORT_UP_TIME: Duration = Duration::from_secs(5);

/// A comparison with the rest of the pool, from the beginning of half-open or of a step of the ramp.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    began: Instant,
    own: Traffic,
    others: Traffic,
}

impl Trial {
    /// Before the first.
    pub(super) fn new(began: Instant) -> Self {
        Self { began, own: Traffic::default(), others: Traffic::default() }
    }
}

/// Whether the pool has anyone else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Others {
    /// Someone is able.
    Able,
    /// Nobody: holds are waived.
    None,
}

impl Watch {
    /// Takes it out.
    pub fn eject(&mut self, rule: &FailoverRule, jitter: impl Fn(u32) -> f64) -> Duration {
        let now = self.now;
        let ejections = self.record.eject(rule, now);
        let hold = hold::length(ejections, rule, jitter(ejections));
        let pace = Pace { ramp: rule.ramp, gate: Gate::Closed };
        let event = Event::Eject { until: now + hold, ejections };
        self.health = self.health.next(event, now, &pace);
        self.standing = Standing::Nothing;
        self.scores.reset();
        self.cells.reset();
        self.admission.iter_mut().for_each(Admission::open);
        hold
    }

    /// The move of the machine that is due now, if any.
    pub fn due(&self, pace: &Pace, others: Others) -> Option<(Event, Reason)> {
        match self.health {
            Health::Healthy | Health::Suspect => self.due_by_level(),
            Health::Ejected { until, .. } => {
                let ready = match others {
                    Others::Able => {
                        self.now >= until
                            && self.record.up_time_ends().is_some_and(|at| at <= self.now)
                    }
                    Others::None => self.record.good_for(self.now) >= LAST_RESORT_UP_TIME,
                };
                ready.then_some((Event::HoldOver, Reason::HoldOver))
            }
            Health::HalfOpen { since, .. } => {
                let acquitted = self.is_acquitted(since);
                let event = if acquitted { Event::Acquitted } else { Event::Tick };
                Some((event, Reason::Proven))
            }
            Health::Ramping { since, .. } => {
                let quiet = self.now >= self.clean_since(since) + pace.quiet_step();
                let event = if quiet { Event::Quiet } else { Event::Tick };
                Some((event, Reason::RampDone))
            }
        }
    }

    /// Whether half-open has nothing left to show.
    pub fn is_proven(&self) -> bool {
        let Health::HalfOpen { since, passes, .. } = self.health else { return false };
        passes >= PASSES_TO_RAMP || self.is_acquitted(since)
    }

    /// Whether probes speak for it, half-open since then, and requests are too few to.
    fn is_acquitted(&self, since: Instant) -> bool {
        let thin = self.safe_tried < THIN && self.now.saturating_duration_since(since) >= THIN_FOR;
        thin && self.probes.passed >= PASSES_TO_RAMP
    }

    fn due_by_level(&self) -> Option<(Event, Reason)> {
        let level = self.level();
        match self.health.tag() {
            HealthTag::Healthy if level >= 0.5 => {
                let (tier, level) = (self.worst_tier(), Permille::from_fraction(level));
                Some((Event::Doubt, Reason::Doubt { tier, level }))
            }
            HealthTag::Suspect if level < 0.5 => Some((Event::Settled, Reason::Settled)),
            HealthTag::Healthy
            | HealthTag::Suspect
            | HealthTag::Ejected
            | HealthTag::HalfOpen
            | HealthTag::Ramping => None,
        }
    }

    /// Makes a move that is due. `others` is the traffic of the rest of the pool.
    pub fn make(&mut self, event: Event, pace: &Pace, others: Traffic) {
        let before = self.health;
        self.health = self.health.next(event, self.now, pace);
        let stale = self.now >= self.trial.began + TRIAL_LASTS;
        if stale || before != self.health {
            self.trial = Trial { began: self.now, own: self.traffic, others };
        }
        if before == self.health {
            return;
        }
        match self.health {
            Health::HalfOpen { .. } => {
                self.safe_tried = 0;
                self.probes.passed = 0;
                self.prove();
            }
            Health::Ramping { step: 0, .. } => self.prove(),
            Health::Healthy if before != Health::Suspect => {
                self.record.healthy(self.now);
                self.scores.reset();
            }
            Health::Ramping { .. } | Health::Healthy | Health::Suspect | Health::Ejected { .. } => {
            }
        }
    }

    /// Whether, at its present share, it certainly fails more than the rest of the pool, whose
    /// traffic `others` is: never back while the fallback is better.
    pub fn is_worse_than(&self, others: Traffic) -> bool {
        let mine = self.traffic.since(self.trial.own).share();
        let theirs = others.since(self.trial.others).share();
        mine.least > theirs.most.max(GOOD_ENOUGH)
    }

    /// Since when nothing has failed in a step that began at `since`.
    fn clean_since(&self, since: Instant) -> Instant {
        self.last_failure.map_or(since, |at| at.max(since))
    }

    pub(super) fn prove(&mut self) {
        let threshold = self.yardstick().threshold;
        self.scores.half_way(threshold, self.now);
    }

    /// When something is due even if nothing is heard.
    pub fn deadline(&self, pace: &Pace) -> Option<Instant> {
        let by_health = match self.health {
            Health::Healthy | Health::Suspect => self.scores.dwell_ends(&self.yardstick()),
            Health::Ejected { until, .. } => self.record.up_time_ends().map(|at| at.max(until)),
            Health::HalfOpen { since, .. } => Some(since + THIN_FOR),
            Health::Ramping { since, .. } => {
                let thin = self.clean_since(since) + pace.quiet_step();
                [since + pace.step(), thin].into_iter().filter(|at| *at > self.now).min()
            }
        };
        let by_limit = self.admission.as_ref().and_then(Admission::deadline);
        by_health.into_iter().chain(by_limit).filter(|at| *at > self.now).min()
    }
}
