//! One score: when has the share of failures become too high to be chance?
//!
//! A Bernoulli CUSUM (Reynolds & Stoumbos 1999): `S ← max(0, S + ln(p1/p0))` for a failure,
//! `S ← max(0, S + ln((1−p1)/(1−p0)))` for a success. It is the fastest test there is for a share
//! that jumps from `p0` to `p1` at an unknown moment, at a given rate of false alarms. `S` stops
//! at the threshold: more certainty than enough would only delay the return. Once there it counts as
//! there until it falls under half: a few successes between two looks at it change nothing.
//!
//! Not here: what three such scores say together ([`super::scores`]) and what follows from a trip
//! ([`super::pool`]).

use std::time::{Duration, Instant};

use super::distinct::{Admission, Witnesses};
use crate::model::health::Tier;
use crate::model::outcome::FailureKind;
use crate::model::signal::Witness;
use crate::model::topology::Sensitivity;

/// A baseline raises `p0` and `p1` no further than this.
const MOST_P0: f64 = 0.15;
const MOST_P1: f64 = 0.6;

/// One failed attempt as a score sees it.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// When it was counted.
    pub at: Instant,
    /// What it was.
    pub kind: FailureKind,
    /// Who saw it.
    pub witness: Witness,
}

/// Whether failures of one witness are held back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Guard {
    /// By the rule of thirds, see [`super::distinct`].
    Distinct,
    /// All count: a trickle is too thin to wait for three witnesses, and sending it elsewhere
    /// again costs nobody anything.
    Anyone,
}

/// What one score looks for.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// What a failure adds.
    pub failure: f64,
    /// What a success takes away; positive.
    pub success: f64,
    /// How long `S` must have been above 0 before it may trip.
    pub dwell: Duration,
}

impl Rule {
    /// The tier's share at rest `p0`, its share in trouble `p1`, and its dwell. Where a share of
    /// `baseline` fails on good days, `p0` rises to three times that, and `p1` by the same factor.
    pub fn of(tier: Tier, sensitivity: Sensitivity, baseline: f64) -> Self {
        let (p0, p1, dwell) = match tier {
            Tier::Cascade => (0.005, 0.50, 200),
            Tier::Brownout => (0.01, 0.20, 500),
            Tier::Gray => (0.005, 0.03, 2000),
        };
        let raised = f64::clamp(3.0 * baseline, p0, MOST_P0);
        let (p0, p1) = (raised, f64::min(p1 * raised / p0, MOST_P1));
        let dwell = Duration::from_millis(dwell);
        Self {
            failure: f64::ln(p1 / p0),
            success: -f64::ln((1.0 - p1) / (1.0 - p0)),
            dwell: match sensitivity {
                Sensitivity::Cautious => dwell * 2,
                Sensitivity::Balanced => dwell,
                Sensitivity::Fast => dwell / 2,
            },
        }
    }
}

/// What a score has to reach at this many attempts a second: at most one false alarm in 30 days per
/// upstream whatever the traffic, `ln 3` because three scores watch at once.
pub fn threshold(rate: f64, sensitivity: Sensitivity) -> f64 {
    const THIRTY_DAYS: f64 = 30.0 * 86_400.0;
    let balanced = (rate * THIRTY_DAYS).ln().clamp(12.0, 26.0) + f64::ln(3.0);
    match sensitivity {
        Sensitivity::Cautious => balanced + 4.0,
        Sensitivity::Balanced => balanced,
        Sensitivity::Fast => balanced - 3.0,
    }
}

/// The sum, and what has happened since it left zero.
#[derive(Clone, Debug, Default)]
pub struct Score {
    sum: f64,
    reached: bool,
    excursion: Option<Excursion>,
}

/// What has happened since the sum left zero.
#[derive(Clone, Debug)]
pub struct Excursion {
    /// The first failure.
    pub since: Instant,
    /// Failures that counted.
    pub failures: u32,
    /// Those, and successes.
    pub attempts: u32,
    kinds: [u32; FailureKind::ALL.len()],
    witnesses: Witnesses,
}

impl Excursion {
    fn begin(since: Instant) -> Self {
        let (failures, attempts) = (0, 0);
        Self {
            since,
            failures,
            attempts,
            kinds: Default::default(),
            witnesses: Witnesses::default(),
        }
    }

    /// The commonest kind of failure; the one listed first on a tie.
    pub fn commonest(&self) -> FailureKind {
        let most = self.kinds.iter().max().copied().unwrap_or(0);
        let place = self.kinds.iter().position(|times| *times == most).unwrap_or(0);
        FailureKind::ALL[place]
    }

    /// How many of the failures are of such kinds.
    pub fn of_kinds(&self, wanted: impl Fn(FailureKind) -> bool) -> u32 {
        let kinds = FailureKind::ALL.into_iter().filter(|kind| wanted(*kind));
        kinds.map(|kind| self.kinds[kind.index()]).sum()
    }

    /// Distinct witnesses among the failures.
    pub fn witnesses(&self) -> u32 {
        self.witnesses.count()
    }
}

impl Score {
    /// Already half-way up, as of an upstream that has to prove itself.
    pub fn begin_at(sum: f64, now: Instant) -> Self {
        Self { sum, reached: false, excursion: Some(Excursion::begin(now)) }
    }

    /// Takes in a failure.
    pub fn fail(&mut self, failure: &Failure, rule: &Rule, threshold: f64, guard: Guard) {
        let excursion = self.excursion.get_or_insert_with(|| Excursion::begin(failure.at));
        let admission = excursion.witnesses.admit(failure.witness);
        if admission == Admission::Repeats && guard == Guard::Distinct {
            return;
        }
        if excursion.failures == 0 {
            excursion.since = failure.at;
        }
        excursion.failures = excursion.failures.saturating_add(1);
        excursion.attempts = excursion.attempts.saturating_add(1);
        excursion.kinds[failure.kind.index()] += 1;
        self.sum = (self.sum + rule.failure).min(threshold);
        self.reached |= self.sum >= threshold;
    }

    /// Takes in so many successes at once.
    pub fn succeed(&mut self, count: u32, rule: &Rule, threshold: f64) {
        let Some(excursion) = &mut self.excursion else { return };
        excursion.attempts = excursion.attempts.saturating_add(count);
        self.sum -= f64::from(count) * rule.success;
        self.reached &= self.sum >= threshold / 2.0;
        if self.sum <= 0.0 {
            *self = Self::default();
        }
    }

    /// `S`, never negative.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// How far it is on its way to a trip, 0 to 1.
    pub fn level(&self, threshold: f64) -> f64 {
        if self.reached { 1.0 } else { (self.sum / threshold).min(1.0) }
    }

    /// `None` while the sum is zero.
    pub fn excursion(&self) -> Option<&Excursion> {
        self.excursion.as_ref()
    }

    /// When it trips, or has tripped, if no success comes: the end of the dwell.
    pub fn trips_at(&self, dwell: Duration) -> Option<Instant> {
        let excursion = self.excursion.as_ref().filter(|_| self.reached)?;
        Some(excursion.since + dwell)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, prop_assert, proptest};

    use super::*;
    use crate::decide::world::start;

    #[test]
    fn the_weights_are_those_of_the_table() {
        let table = [
            (Tier::Cascade, 4.605, 0.688, 200),
            (Tier::Brownout, 2.996, 0.213, 500),
            (Tier::Gray, 1.792, 0.0254, 2000),
        ];
        for (tier, failure, success, dwell) in table {
            let rule = Rule::of(tier, Sensitivity::Balanced, 0.0);
            assert!((rule.failure - failure).abs() < 1e-3, "{tier:?} {rule:?}");
            assert!((rule.success - success).abs() < 1e-3, "{tier:?} {rule:?}");
            assert_eq!(rule.dwell, Duration::from_millis(dwell));
            assert_eq!(Rule::of(tier, Sensitivity::Cautious, 0.0).dwell, rule.dwell * 2);
            assert_eq!(Rule::of(tier, Sensitivity::Fast, 0.0).dwell, rule.dwell / 2);
        }
    }

    #[test]
    fn ten_thousand_times_the_traffic_costs_two_more_failures() {
        let at = |rate| threshold(rate, Sensitivity::Balanced);
        assert!((at(1.0) - 15.87).abs() < 0.01);
        assert!((at(100.0) - 20.47).abs() < 0.01);
        let more =
            (at(10_000.0) - at(1.0)) / Rule::of(Tier::Cascade, Sensitivity::Balanced, 0.0).failure;
        assert!((1.9..2.1).contains(&more), "{more}");
        assert!((at(0.0) - 13.1).abs() < 0.01, "no traffic at all");
        assert!((at(1e12) - 27.1).abs() < 0.01);
        assert!((threshold(1.0, Sensitivity::Cautious) - at(1.0) - 4.0).abs() < 1e-9);
        assert!((at(1.0) - threshold(1.0, Sensitivity::Fast) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_baseline_raises_what_counts_as_rest_and_never_lowers_it() {
        for tier in Tier::ALL {
            let of = |baseline| Rule::of(tier, Sensitivity::Balanced, baseline);
            let usual = of(0.0);
            assert!((of(0.001).failure - usual.failure).abs() < 1e-9, "0.1 % is below any rest");
            let (mut failure, rest) = (usual.failure, |share: f64, rule: Rule| {
                share * rule.failure - (1.0 - share) * rule.success
            });
            for baseline in [0.004, 0.01, 0.03, 0.05, 0.5] {
                let rule = of(baseline);
                assert!(rule.failure <= failure + 1e-9 && rule.failure > 0.0 && rule.success > 0.0);
                assert!(baseline > 0.05 || rest(baseline, rule) < 0.0, "it falls at rest");
                failure = rule.failure;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn the_sum_stays_between_nothing_and_the_threshold(
            outcomes in vec(proptest::option::of(0_u32..40), 0..400),
        ) {
            let rule = Rule::of(Tier::Brownout, Sensitivity::Balanced, 0.0);
            let (mut score, threshold, now) = (Score::default(), 20.0, start());
            for outcome in outcomes {
                match outcome {
                    None => score.succeed(1, &rule, threshold),
                    Some(witness) => {
                        let (kind, witness) = (FailureKind::Connect, Witness(witness));
                        let failure = Failure { at: now, kind, witness };
                        score.fail(&failure, &rule, threshold, Guard::Distinct);
                    }
                }
                prop_assert!((0.0..=threshold).contains(&score.sum()));
                prop_assert!(score.sum() == 0.0 || score.excursion().is_some());
                if let Some(excursion) = score.excursion() {
                    prop_assert!(excursion.failures <= excursion.attempts);
                }
            }
            score.succeed(1000, &rule, threshold);
            prop_assert!(score.sum() == 0.0 && score.excursion().is_none());
        }
    }

    #[test]
    fn a_score_that_was_there_is_there_until_it_has_fallen_to_half() {
        let rule = Rule::of(Tier::Cascade, Sensitivity::Balanced, 0.0);
        let (mut score, now) = (Score::default(), start());
        for witness in 0..5 {
            let failure = Failure { at: now, kind: FailureKind::Tls, witness: Witness(witness) };
            score.fail(&failure, &rule, 20.0, Guard::Distinct);
        }
        score.succeed(1, &rule, 20.0);
        assert_eq!(score.trips_at(rule.dwell), Some(now + rule.dwell));
        assert!((score.level(20.0) - 1.0).abs() < f64::EPSILON);
        score.succeed(14, &rule, 20.0);
        assert_eq!(score.trips_at(rule.dwell), None);
        assert!(score.level(20.0) < 0.5);
        assert_eq!(score.excursion().map(Excursion::commonest), Some(FailureKind::Tls));
    }
}
