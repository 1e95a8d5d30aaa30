//! Three scores over the same attempts, one per [`Tier`], and the rule for services with too few
//! witnesses to score: the unbroken run.
//!
//! **The unbroken run.** The rule of thirds ([`super::distinct`]) keeps one URL or one client from
//! moving everybody, and so would keep a service that *has* one URL or one client where it is. There
//! a cascade takes at least `LEAST_RUN` failures with no success between them, for as long as the
//! cascade's dwell, and for so long that at least `SILENCE` successes were due (by chance once in a
//! thousand times), by the rate of the last hour or, where that is higher, of the last seconds.
//! So while anyone else's requests still succeed, even a few a minute, one loud client proves nothing.
//!
//! Not here: blame, and what follows from a trip ([`super::pool`]).

use std::time::Instant;

use super::admission::is_overload;
use super::cusum::{Excursion, Failure, Guard, Rule, Score, threshold};
use super::intake::Drain;
use super::share::Share;
use crate::model::health::{Attribution, Evidence, Tier, TripRule};
use crate::model::outcome::FailureKind;
use crate::model::topology::Sensitivity;

/// With fewer witnesses no score can trip.
const LEAST_WITNESSES: u32 = 3;
/// Failures without a success between them that a trip takes where witnesses are too few.
const LEAST_RUN: u32 = 10;
/// Successes that must have been due and stayed out; `e^−7` is about one in a thousand.
const SILENCE: f64 = 7.0;

/// The tiers of one upstream, or of one origin.
#[derive(Clone, Debug)]
pub struct Scores {
    rules: [Rule; 3],
    sensitivity: Sensitivity,
    tiers: [Score; 3],
    run: Option<Run>,
}

/// What the scores are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Yardstick {
    /// What a score has to reach.
    pub threshold: f64,
    /// Successes a second of the last hour or, if higher, of the last seconds, by which an
    /// unbroken run of failures is judged; `None` where what fails is no fair sample of the service's
    /// requests, so that no run means anything.
    pub success_rate: Option<f64>,
    /// When.
    pub now: Instant,
}

/// Failures since the last success.
#[derive(Clone, Copy, Debug)]
struct Run {
    since: Instant,
    failures: u32,
    last: FailureKind,
}

impl Scores {
    /// All at zero.
    pub fn new(sensitivity: Sensitivity) -> Self {
        let rules = Tier::ALL.map(|tier| Rule::of(tier, sensitivity, 0.0));
        Self { rules, sensitivity, tiers: Default::default(), run: None }
    }

    /// Goes by another sensitivity, or another share that fails on good days, from now on.
    pub fn adopt(&mut self, sensitivity: Sensitivity, baseline: f64) {
        self.sensitivity = sensitivity;
        self.rules = Tier::ALL.map(|tier| Rule::of(tier, sensitivity, baseline));
    }

    /// What it goes by.
    pub fn sensitivity(&self) -> Sensitivity {
        self.sensitivity
    }

    /// Goes by another share that fails on good days.
    pub fn learn(&mut self, baseline: f64) {
        self.adopt(self.sensitivity, baseline);
    }

    /// What a score has to reach at so many attempts a second.
    pub fn threshold(&self, rate: f64) -> f64 {
        threshold(rate, self.sensitivity)
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.tiers = Default::default();
        self.run = None;
    }

    /// Half-way up: whoever comes back has to prove itself.
    pub fn half_way(&mut self, threshold: f64, now: Instant) {
        self.tiers = std::array::from_fn(|_| Score::begin_at(threshold / 2.0, now));
        self.run = None;
    }

    /// Takes in one drain.
    pub fn observe(&mut self, drain: &Drain, threshold: f64, guard: Guard) {
        for (number, failure) in drain.failures.iter().enumerate() {
            self.succeed(drain.successes_before(number), threshold);
            self.fail(failure, threshold, guard);
        }
        self.succeed(drain.successes_before(drain.failures.len()), threshold);
    }

    fn fail(&mut self, failure: &Failure, threshold: f64, guard: Guard) {
        for (score, rule) in self.tiers.iter_mut().zip(&self.rules) {
            score.fail(failure, rule, threshold, guard);
        }
        let first = Run { since: failure.at, failures: 0, last: failure.kind };
        let run = self.run.get_or_insert(first);
        run.failures = run.failures.saturating_add(1);
        run.last = failure.kind;
    }

    fn succeed(&mut self, count: u32, threshold: f64) {
        if count == 0 {
            return;
        }
        for (score, rule) in self.tiers.iter_mut().zip(&self.rules) {
            score.succeed(count, rule, threshold);
        }
        self.run = None;
    }

    /// How far each tier is on its way to a trip, 0 to 1.
    pub fn levels(&self, by: &Yardstick) -> [f64; 3] {
        let mut levels = self.tiers.each_ref().map(|score| score.level(by.threshold));
        levels[0] = levels[0].max(self.run_level(by));
        levels
    }

    fn run_level(&self, by: &Yardstick) -> f64 {
        let (Some(run), Some(success_rate)) = (self.run, by.success_rate) else { return 0.0 };
        let lasted = by.now.saturating_duration_since(run.since).as_secs_f64();
        // Where nothing ever succeeded, no success is due: the length of the run alone decides.
        let silence =
            if success_rate > 0.0 { lasted * success_rate / SILENCE } else { f64::INFINITY };
        (f64::from(run.failures) / f64::from(LEAST_RUN)).min(silence).min(1.0)
    }

    /// The worst tier that trips now.
    pub fn trip(&self, by: &Yardstick) -> Option<Tier> {
        let scored = (Tier::ALL.into_iter().zip(&self.tiers).zip(&self.rules))
            .find(|((_, score), rule)| score.trips_at(rule.dwell).is_some_and(|at| at <= by.now))
            .map(|((tier, _), _)| tier);
        let unbroken = self.run.is_some_and(|run| {
            let lasted = by.now.saturating_duration_since(run.since);
            lasted >= self.rules[0].dwell && self.run_level(by) >= 1.0
        });
        if unbroken { Some(Tier::Cascade) } else { scored }
    }

    /// Whether what fails now may be the beginning of a cascade.
    pub fn may_be_cascade(&self) -> bool {
        self.tiers[0].excursion().is_some_and(|excursion| excursion.failures > 0)
    }

    /// When the first failure of what now worries most was.
    pub fn since(&self) -> Option<Instant> {
        let begins = self.tiers.iter().filter_map(|score| Some((score.sum(), score.excursion()?)));
        // From the mildest on, so that of equal sums the worst tier's is taken.
        begins.rev().max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, excursion)| excursion.since)
    }

    /// When the score of this tier left zero; `None` while it is there.
    pub fn began(&self, tier: Tier) -> Option<Instant> {
        self.tiers[tier_index(tier)].excursion().map(|excursion| excursion.since)
    }

    /// The failing share that this tier sees. Of too few witnesses, by an unbroken run that trips:
    /// a score leaves out their repeated failures, but not the successes before them.
    pub fn failing(&self, tier: Tier, by: &Yardstick) -> Share {
        let excursion = self.tiers[tier_index(tier)].excursion();
        let few = excursion.is_none_or(|excursion| excursion.witnesses() < LEAST_WITNESSES);
        match self.run {
            Some(run) if few && tier == Tier::Cascade && self.run_level(by) >= 1.0 => {
                Share::of(run.failures.into(), run.failures.into())
            }
            Some(_) | None => excursion
                .map_or(Share::of(0, 0), |e| Share::of(e.failures.into(), e.attempts.into())),
        }
    }

    /// Share of the failures that this tier sees that are by overload.
    pub fn by_overload(&self, tier: Tier) -> f64 {
        let excursion = self.tiers[tier_index(tier)].excursion();
        let share =
            |e: &Excursion| f64::from(e.of_kinds(is_overload)) / f64::from(e.failures.max(1));
        excursion.map_or(0.0, share)
    }

    /// What this tier's score proves to fail at least: it left zero in a bad moment.
    pub fn fails_at_least(&self, tier: Tier) -> f64 {
        let excursion = self.tiers[tier_index(tier)].excursion();
        let worst = |e: &Excursion| Share::of_the_worst(e.failures.into(), e.attempts.into()).least;
        excursion.map_or(0.0, worst)
    }

    /// What a trip of this tier stands on.
    pub fn evidence(&self, tier: Tier, by: &Yardstick, attribution: Attribution) -> Evidence {
        let score = &self.tiers[tier_index(tier)];
        let excursion = score.excursion();
        let level = score.level(by.threshold);
        let run = self.run.filter(|_| level < 1.0 && self.run_level(by) >= 1.0);
        let (rule, score, threshold) = match run {
            Some(run) => (TripRule::UnbrokenRun, run.failures.into(), LEAST_RUN.into()),
            None => (TripRule::Score, level * by.threshold, by.threshold),
        };
        let failures = excursion.map_or(0, |e| e.failures);
        let attempts = excursion.map_or(0, |e| e.attempts);
        let since = run.map(|run| run.since).or(excursion.map(|e| e.since));
        Evidence {
            rule,
            score,
            threshold,
            failures: run.map_or(failures, |run| run.failures),
            attempts: run.map_or(attempts, |run| run.failures),
            witnesses: excursion.map_or(0, Excursion::witnesses),
            commonest: excursion
                .filter(|e| e.failures > 0)
                .map(Excursion::commonest)
                .or(self.run.map(|run| run.last))
                .unwrap_or(FailureKind::ServerError),
            since: since.unwrap_or(by.now),
            attribution,
        }
    }

    /// When a dwell that now keeps a tripped score back is over.
    pub fn dwell_ends(&self, by: &Yardstick) -> Option<Instant> {
        (self.tiers.iter().zip(&self.rules))
            .filter_map(|(score, rule)| score.trips_at(rule.dwell))
            .chain(self.run.map(|run| run.since + self.rules[0].dwell))
            .filter(|end| *end > by.now)
            .min()
    }
}

/// Place of a tier in [`Tier::ALL`].
pub const fn tier_index(tier: Tier) -> usize {
    tier as usize
}

#[cfg(test)]
mod tests;
