//! Everything that is known of one upstream: what it did, what its scores say, what we believe.
//!
//! In: signals about this upstream. Out: levels, trips, and the moves of its machine that need no
//! one else's word. Ejections need the pool's ([`super::pool`]): blame is a matter of comparison.

use std::time::{Duration, Instant};

use super::admission::{self, Admission};
use super::attribution::Sampling;
use super::baseline::{Baseline, Minute};
use super::breaker::{Event, Pace};
use super::case::{Armed, Case};
use super::cells::Cells;
use super::cusum::{Failure, Guard};
use super::hold::Record;
use super::intake::Intake;
use super::probes::{self, Probes, Word};
use super::provider::{Presence, Stay};
use super::rank::Doubt;
use super::scores::{Scores, Yardstick};
use super::share::Traffic;
use super::window::{Hour, Seconds};
use crate::model::cell::Slice;
use crate::model::health::{Health, Reason, Tier};
use crate::model::id::{Label, ProviderId, UpstreamKey};
use crate::model::operator::AdminState;
use crate::model::outcome::FailureKind;
use crate::model::signal::{Note, ProbeReport, Sample, Subject};
use crate::model::topology::FailoverRule;

mod memory;
mod moves;

pub use self::moves::Others;

/// A standby's scores are forgotten after so long without an attempt: nobody will ever add to them,
/// and what it did with retries says little about what it would do now.
const STANDBY_FORGETS: Duration = Duration::from_secs(30);

/// One upstream.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Who it is, across reloads.
    pub key: UpstreamKey,
    /// What we believe.
    pub health: Health,
    /// What the operator ordered: an axis of its own, which moves no belief.
    pub admin: AdminState,
    /// What was seen since each tier's score left zero, in the order of [`Tier::ALL`].
    pub cases: [Case; 3],
    /// What its ejections were.
    pub record: Record,
    /// Its probes.
    pub probes: Probes,
    /// Attempts of the last ten seconds.
    pub seconds: Seconds,
    /// The last hour.
    pub hour: Hour,
    /// What stands without an ejection.
    pub standing: Standing,
    /// The last change of health.
    pub last: Option<(Instant, Reason)>,
    /// Since when it is proven, and kept from its ramp by nothing but a stay.
    pub kept_since: Option<Instant>,
    /// Everything since the process began.
    pub traffic: Traffic,
    /// The first failure of what led to the last ejection.
    pub failing_since: Option<Instant>,
    /// Whether its attempts are a fair sample of the service's requests.
    pub sampling: Sampling,
    /// What it can hold; none for a part of its requests.
    pub admission: Option<Admission>,
    /// Its cells, while something fails.
    pub cells: Cells,
    baseline: Baseline,
    scores: Scores,
    intake: Intake,
    safe_successes: u32,
    /// Safe answers since half-open began.
    safe_tried: u64,
    /// Since when, in traffic, it is being tried out at its present share.
    trial: moves::Trial,
    last_failure: Option<Instant>,
    last_attempt: Instant,
    now: Instant,
}

/// A trip that did not lead to an ejection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// There is none.
    Nothing,
    /// A cascade or a brownout.
    Withheld {
        /// When it was first held back.
        since: Instant,
    },
    /// A gray trip: people are told, nothing moves.
    Gray,
}

impl Watch {
    /// Healthy, and nothing known.
    pub fn new(key: UpstreamKey, rule: &FailoverRule, now: Instant) -> Self {
        Self {
            key,
            health: Health::Healthy,
            admin: AdminState::Auto,
            cases: std::array::from_fn(|_| Case::open(&[], now)),
            record: Record::new(now),
            probes: Probes::default(),
            seconds: Seconds::new(now),
            hour: Hour::new(now),
            standing: Standing::Nothing,
            last: None,
            kept_since: None,
            traffic: Traffic::default(),
            failing_since: None,
            sampling: Sampling::Fair,
            admission: Some(Admission::new(now)),
            cells: Cells::new(rule.sensitivity),
            baseline: Baseline::new(now),
            scores: Scores::new(rule.sensitivity),
            intake: Intake::default(),
            safe_successes: 0,
            safe_tried: 0,
            trial: moves::Trial::new(now),
            last_failure: None,
            last_attempt: now,
            now,
        }
    }

    /// Goes by other rules from now on; what it did is kept.
    pub fn adopt(&mut self, rule: &FailoverRule) {
        self.scores.adopt(rule.sensitivity, self.baseline.share());
        self.cells.adopt(rule.sensitivity, self.baseline.share());
        // Hosts may have other numbers now.
        self.cells.reset();
    }

    /// Counters since the last drain.
    pub fn sample(&mut self, sample: &Sample, now: Instant) {
        let counts = &sample.counts;
        let span = now.saturating_duration_since(self.now);
        self.seconds.advance(now);
        self.seconds.add(counts, span);
        self.hour.advance(now);
        self.hour.add(sample);
        let sum = |by_class: [u32; 2]| by_class[0].saturating_add(by_class[1]);
        let origin_errors = sum(counts.origin_errors);
        let successes = sum(counts.successes).saturating_add(origin_errors);
        let failures = sum(counts.failures);
        self.traffic.attempts += u64::from(successes) + u64::from(failures);
        self.traffic.failures += u64::from(failures);
        if let Some(admission) = &mut self.admission {
            let came = u64::from(successes);
            admission.count(came + u64::from(failures), came);
        }
        self.safe_successes = self
            .safe_successes
            .saturating_add(counts.successes[0])
            .saturating_add(counts.origin_errors[0]);
        for case in &mut self.cases {
            case.marked += f64::from(origin_errors);
        }
        self.intake.count(successes, failures);
    }

    /// One failure; origin errors are the pool's business.
    pub fn note(&mut self, note: &Note) {
        let Subject::Failure(kind) = note.subject else { return };
        if self.excuses(kind) {
            return self.intake.excuse();
        }
        let armed = if self.hour.marker_armed() { Armed::Yes } else { Armed::No };
        for case in &mut self.cases {
            case.failed(kind, note.marker, armed);
        }
        self.intake.note(Failure { at: note.at, kind, witness: note.witness });
    }

    /// Whether a failure is for want of capacity, which is being dealt with; counts it as that.
    fn excuses(&mut self, kind: FailureKind) -> bool {
        let Some(admission) = &mut self.admission else { return false };
        if !admission::is_overload(kind) {
            return false;
        }
        admission.overloaded();
        admission.is_limited()
    }

    /// Takes the trip that stands for a lack of capacity, if it looks like one.
    pub fn claim_capacity(&mut self) -> bool {
        let tier = self.trip();
        let (Some(tier), Some(admission)) = (tier, &mut self.admission) else { return false };
        admission.claim(self.scores.by_overload(tier), self.now)
    }

    /// Whether it gets less than it would be asked for.
    pub fn is_limited(&self) -> bool {
        self.admission.as_ref().is_some_and(Admission::is_limited)
    }

    /// What failed is judged elsewhere: scores begin anew.
    pub fn forget_scores(&mut self) {
        self.scores.reset();
        self.cells.reset();
        self.standing = Standing::Nothing;
    }

    /// Goes on from the score of a part of its requests, as if there had never been others.
    pub fn begin_with(&mut self, scores: Scores) {
        self.scores = scores;
    }

    /// The part of its requests that fails by itself, with its score.
    pub fn culprit(&self) -> Option<(Slice, Scores)> {
        self.cells.culprit(&self.yardstick(), self.trip())
    }

    /// What failed lately was nobody's fault here: scores and probes begin anew.
    pub fn forget(&mut self) {
        self.forget_scores();
        self.probes = Probes { last: self.probes.last, ..Probes::default() };
    }

    /// One probe.
    pub fn probe(&mut self, report: &ProbeReport) {
        match self.probes.record(report) {
            Word::For => self.record.good(report.at),
            Word::Against => self.record.bad(report.at),
        }
    }

    /// Takes in what came since the last call, moves the machine by it.
    pub fn absorb(&mut self, now: Instant, pace: &Pace) {
        self.now = now;
        self.seconds.advance(now);
        self.hour.advance(now);
        self.learn(now);
        if let Some(admission) = &mut self.admission {
            admission.pass(now);
        }
        self.cases.iter_mut().for_each(|case| case.fade(now));
        let drain = self.intake.drain(now);
        if drain.successes > 0 || !drain.failures.is_empty() {
            self.last_attempt = now;
        } else if self.sampling == Sampling::Retries && now >= self.last_attempt + STANDBY_FORGETS {
            self.scores.reset();
        }
        let safe = std::mem::take(&mut self.safe_successes);
        let guard = match self.health {
            Health::HalfOpen { .. } => Guard::Anyone,
            Health::Healthy | Health::Suspect | Health::Ejected { .. } | Health::Ramping { .. } => {
                Guard::Distinct
            }
        };
        let by = self.yardstick();
        self.scores.observe(&drain, by.threshold, guard);
        self.cells.drain(&by);
        let at_the_end = drain.successes_before(drain.failures.len());
        if !drain.failures.is_empty() {
            self.last_failure = Some(now);
            self.health = self.health.next(Event::Failed, now, pace);
        }
        let clean = match self.health {
            // Only the trickle counts: it is what half-open sends, and it is safe.
            Health::HalfOpen { .. } => at_the_end.min(safe),
            Health::Healthy | Health::Suspect | Health::Ejected { .. } | Health::Ramping { .. } => {
                at_the_end
            }
        };
        self.safe_tried =
            self.safe_tried.saturating_add(u64::from(safe) + drain.failures.len() as u64);
        self.health = self.health.next(Event::Clean(clean), now, pace);
        if matches!(self.health, Health::Ejected { .. }) && self.level() >= 0.5 {
            // What is out is not judged by its scores, but they say whether it was good meanwhile.
            self.record.bad(now);
            self.scores.reset();
        }
    }

    fn learn(&mut self, now: Instant) {
        let minute = match (self.health, self.standing) {
            _ if self.is_limited() => Minute::Bad,
            (Health::Healthy | Health::Suspect, Standing::Nothing) => Minute::Good,
            (
                Health::Healthy
                | Health::Suspect
                | Health::Ejected { .. }
                | Health::HalfOpen { .. }
                | Health::Ramping { .. },
                _,
            ) => Minute::Bad,
        };
        if let Some(share) = self.baseline.pass(self.traffic, minute, now) {
            self.scores.learn(share);
            self.cells.adopt(self.scores.sensitivity(), share);
        }
    }

    /// What the scores are compared with.
    pub fn yardstick(&self) -> Yardstick {
        Yardstick {
            threshold: self.scores.threshold(self.seconds.rate()),
            success_rate: match self.sampling {
                // A service may have slept for most of the hour: what it did a moment ago says more.
                Sampling::Fair => {
                    Some(self.hour.success_rate(self.now).max(self.seconds.success_rate()))
                }
                Sampling::Retries => None,
            },
            now: self.now,
        }
    }

    /// The three scores.
    pub fn scores(&self) -> &Scores {
        &self.scores
    }

    /// How far each tier is on its way to a trip, 0 to 1.
    pub fn levels(&self) -> [f64; 3] {
        self.scores.levels(&self.yardstick())
    }

    /// The highest of the levels.
    pub fn level(&self) -> f64 {
        self.levels().into_iter().fold(0.0, f64::max)
    }

    /// Whether it fails so much that it may have to be left at once: more than a few per cent.
    pub fn is_acute(&self) -> bool {
        let [cascade, brownout, _gray] = self.levels();
        cascade.max(brownout) >= 0.5
    }

    /// The tier that trips now, or is nearest to it; the worse one where two are.
    pub fn worst_tier(&self) -> Tier {
        let levels = Tier::ALL.into_iter().zip(self.levels()).rev();
        let nearest = levels.max_by(|a, b| a.1.total_cmp(&b.1));
        self.trip().or(nearest.map(|(tier, _)| tier)).unwrap_or(Tier::Cascade)
    }

    /// The worst tier that trips now.
    pub fn trip(&self) -> Option<Tier> {
        self.scores.trip(&self.yardstick())
    }

    /// Whether probes alone condemn it: several failed, and there is no traffic to judge by.
    pub fn probes_trip(&self) -> bool {
        self.probes.failed >= probes::TO_EJECT && self.seconds.attempts() == 0.0
    }

    /// When what this tier sees began: by its score, or by probes where there is no traffic.
    pub fn fault_began(&self, tier: Tier) -> Option<Instant> {
        let by_probes = self.probes.failing_since.filter(|_| self.seconds.attempts() == 0.0);
        self.scores.began(tier).or(by_probes)
    }

    /// The first failure of what fails now.
    pub fn failing_since(&self) -> Option<Instant> {
        match self.health {
            Health::Ejected { .. } => self.failing_since,
            Health::Suspect => self.scores.since().or(self.probes.failing_since),
            Health::Healthy | Health::HalfOpen { .. } | Health::Ramping { .. } => {
                self.probes.failing_since
            }
        }
    }

    /// How the service fares at its provider.
    pub fn presence<'a>(&self, service: &'a Label, provider: ProviderId) -> Presence<'a> {
        let stay = match self.health {
            Health::Healthy | Health::Suspect | Health::Ramping { .. } => Stay::In,
            Health::Ejected { .. } | Health::HalfOpen { .. } => Stay::Out,
        };
        let (attempts, failing) = (self.seconds.attempts(), self.seconds.failing());
        Presence { service, provider, attempts, failing, stay }
    }

    /// What is held against it in the order, if it takes no requests of its own.
    pub fn doubt(&self) -> Doubt {
        let tripped = self.levels()[..2].iter().any(|level| *level >= 1.0);
        if tripped || self.probes.failed >= probes::TO_VETO { Doubt::Standing } else { Doubt::None }
    }
}
