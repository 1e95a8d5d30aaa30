//! Everything that is known of one upstream: what it did, what its scores say, what we believe.
//!
//! In: signals about this upstream. Out: levels, trips, and the moves of its machine that need no
//! one else's word. Ejections need the pool's ([`super::pool`]): blame is a matter of comparison.

use std::time::{Duration, Instant};

use super::attribution::{Armed, Case, Sampling, Traffic};
use super::breaker::{Event, PASSES_TO_RAMP, Pace};
use super::cusum::{Failure, Guard};
use super::hold::{self, Record};
use super::intake::Intake;
use super::rank::Doubt;
use super::scores::{Scores, Yardstick};
use super::window::{Hour, Seconds};
use crate::model::health::{Health, HealthTag, Reason, Tier};
use crate::model::id::UpstreamKey;
use crate::model::outcome::FailureKind;
use crate::model::signal::{Note, ProbeReport, ProbeResult, Sample, Subject};
use crate::model::topology::FailoverRule;
use crate::model::unit::Permille;

/// Failed probes in a row that take out an upstream without traffic.
pub const PROBES_TO_EJECT: u32 = 3;
/// Failed probes in a row that end half-open. One would end it by chance, in ten minutes of one a
/// second.
pub const PROBES_TO_VETO: u32 = 2;
/// Half-open with fewer safe requests than this in [`THIN_FOR`] lets probes decide.
const THIN: u64 = 5;
const THIN_FOR: Duration = Duration::from_secs(60);
/// A standby's scores are forgotten after so long without an attempt: nobody will ever add to them,
/// and what it did with retries says little about what it would do now.
const STANDBY_FORGETS: Duration = Duration::from_secs(30);
/// In a pool where nothing is left, so much good time is enough to be tried.
const LAST_RESORT_UP_TIME: Duration = Duration::from_secs(5);

/// One upstream.
#[derive(Debug)]
pub struct Watch {
    /// Who it is, across reloads.
    pub key: UpstreamKey,
    /// What we believe.
    pub health: Health,
    /// What was seen since it began to fail.
    pub case: Case,
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
    /// Everything since the process began.
    pub traffic: Traffic,
    /// The first failure of what led to the last ejection.
    pub failing_since: Option<Instant>,
    /// Whether its attempts are a fair sample of the service's requests.
    pub sampling: Sampling,
    scores: Scores,
    intake: Intake,
    safe_successes: u32,
    /// Safe answers since half-open began.
    safe_tried: u64,
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

/// Probes in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Probes {
    /// Failures since the last pass.
    pub failed: u32,
    /// Passes since the last failure.
    pub passed: u32,
    /// When, and whether it passed.
    pub last: Option<(Instant, bool)>,
    /// How the last failure came about.
    pub kind: Option<FailureKind>,
    /// The first failure since the last pass.
    pub failing_since: Option<Instant>,
    /// A failure that was not compared with what siblings did yet.
    pub uncompared: Option<Instant>,
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
    /// Healthy, and nothing known.
    pub fn new(key: UpstreamKey, rule: &FailoverRule, now: Instant) -> Self {
        Self {
            key,
            health: Health::Healthy,
            case: Case::open(&[], now),
            record: Record::new(now),
            probes: Probes::default(),
            seconds: Seconds::new(now),
            hour: Hour::new(now),
            standing: Standing::Nothing,
            last: None,
            traffic: Traffic::default(),
            failing_since: None,
            sampling: Sampling::Fair,
            scores: Scores::new(rule.sensitivity),
            intake: Intake::default(),
            safe_successes: 0,
            safe_tried: 0,
            last_failure: None,
            last_attempt: now,
            now,
        }
    }

    /// Goes by other rules from now on; what is known is kept.
    pub fn adopt(&mut self, rule: &FailoverRule) {
        self.scores.adopt(rule.sensitivity);
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
        self.safe_successes = self
            .safe_successes
            .saturating_add(counts.successes[0])
            .saturating_add(counts.origin_errors[0]);
        self.case.marked(origin_errors);
        self.intake.count(successes, failures);
    }

    /// One failure; origin errors are the pool's business.
    pub fn note(&mut self, note: &Note) {
        let Subject::Failure(kind) = note.subject else { return };
        let armed = if self.hour.marker_armed() { Armed::Yes } else { Armed::No };
        self.case.failed(kind, note.marker, armed);
        self.intake.note(Failure { at: note.at, kind, witness: note.witness });
    }

    /// One probe.
    pub fn probe(&mut self, report: &ProbeReport) {
        let at = report.at;
        match report.result {
            // The origin's error came through: the provider did its work.
            ProbeResult::Passed | ProbeResult::OriginError => {
                self.probes.failed = 0;
                self.probes.failing_since = None;
                self.probes.passed = self.probes.passed.saturating_add(1);
                self.probes.last = Some((at, true));
                self.record.good(at);
            }
            ProbeResult::Failed(kind) => {
                self.probes.passed = 0;
                self.probes.failing_since.get_or_insert(at);
                self.probes.failed = self.probes.failed.saturating_add(1);
                self.probes.last = Some((at, false));
                self.probes.kind = Some(kind);
                self.probes.uncompared = Some(at);
                self.record.bad(at);
            }
        }
    }

    /// Takes in what came since the last call, moves the machine by it.
    pub fn absorb(&mut self, now: Instant, pace: &Pace) {
        self.now = now;
        self.seconds.advance(now);
        self.hour.advance(now);
        self.case.fade(now);
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
        self.scores.observe(&drain, self.yardstick().threshold, guard);
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
        self.doubt_record(now);
    }

    /// An upstream that is out is not judged by its scores, but what they say decides whether it was
    /// good meanwhile.
    fn doubt_record(&mut self, now: Instant) {
        if self.level() < 0.5 {
            return;
        }
        match self.health {
            Health::Ejected { .. } => {
                self.record.bad(now);
                self.scores.reset();
            }
            Health::Healthy
            | Health::Suspect
            | Health::HalfOpen { .. }
            | Health::Ramping { .. } => {}
        }
    }

    /// What the scores are compared with.
    pub fn yardstick(&self) -> Yardstick {
        Yardstick {
            threshold: self.scores.threshold(self.seconds.rate()),
            success_rate: match self.sampling {
                Sampling::Fair => Some(self.hour.success_rate(self.now)),
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

    /// The worst tier that trips now.
    pub fn trip(&self) -> Option<Tier> {
        self.scores.trip(&self.yardstick())
    }

    /// Whether probes alone condemn it: several failed, and there is no traffic to judge by.
    pub fn probes_trip(&self) -> bool {
        self.probes.failed >= PROBES_TO_EJECT && self.seconds.attempts() == 0.0
    }

    /// When what now fails began to: by its scores, or by its probes where there is no traffic.
    pub fn fault_began(&self) -> Option<Instant> {
        let by_probes = self.probes.failing_since.filter(|_| self.seconds.attempts() == 0.0);
        self.scores.since().or(by_probes)
    }

    /// What is held against it in the order, if it takes no requests of its own.
    pub fn doubt(&self) -> Doubt {
        let tripped = self.levels()[..2].iter().any(|level| *level >= 1.0);
        if tripped || self.probes.failed >= PROBES_TO_VETO { Doubt::Standing } else { Doubt::None }
    }

    /// Takes it out.
    pub fn eject(&mut self, rule: &FailoverRule, jitter: impl Fn(u32) -> f64) -> Duration {
        let now = self.now;
        let ejections = self.record.eject(now);
        let hold = hold::length(ejections, rule, jitter(ejections));
        let pace = Pace { ramp: rule.ramp, gate: super::breaker::Gate::Closed };
        let event = Event::Eject { until: now + hold, ejections };
        self.health = self.health.next(event, now, &pace);
        self.standing = Standing::Nothing;
        self.scores.reset();
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
                let thin =
                    self.safe_tried < THIN && self.now.saturating_duration_since(since) >= THIN_FOR;
                if thin && self.probes.passed >= PASSES_TO_RAMP {
                    return Some((Event::Acquitted, Reason::Proven));
                }
                Some((Event::Tick, Reason::Proven))
            }
            Health::Ramping { since, .. } => {
                let clean_since = self.last_failure.map_or(since, |at| at.max(since));
                let quiet = self.now.saturating_duration_since(clean_since) >= pace.quiet_step();
                let event = if quiet { Event::Quiet } else { Event::Tick };
                Some((event, Reason::RampDone))
            }
        }
    }

    fn due_by_level(&self) -> Option<(Event, Reason)> {
        // From the mildest on, so that of equal levels the worst tier's is named.
        let (tier, level) =
            (Tier::ALL.into_iter().zip(self.levels()).rev()).max_by(|a, b| a.1.total_cmp(&b.1))?;
        match self.health.tag() {
            HealthTag::Healthy if level >= 0.5 => {
                let level = Permille::from_fraction(level);
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

    /// Makes a move that is due.
    pub fn make(&mut self, event: Event, pace: &Pace) {
        let before = self.health.tag();
        self.health = self.health.next(event, self.now, pace);
        let after = self.health.tag();
        if before == after {
            return;
        }
        match after {
            HealthTag::HalfOpen => {
                self.safe_tried = 0;
                self.probes.passed = 0;
                self.prove();
            }
            HealthTag::Ramping => self.prove(),
            HealthTag::Healthy if before == HealthTag::Ramping => {
                self.record.healthy(self.now);
                self.scores.reset();
            }
            HealthTag::Healthy | HealthTag::Suspect | HealthTag::Ejected => {}
        }
    }

    fn prove(&mut self) {
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
                let clean_since = self.last_failure.map_or(since, |at| at.max(since));
                Some((since + pace.ramp / 5).max(self.now).min(clean_since + pace.quiet_step()))
            }
        };
        by_health.filter(|at| *at > self.now)
    }
}
