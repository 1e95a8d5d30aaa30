//! Which part of one upstream's requests fails by itself?
//!
//! In: what came of the requests of each cell since something began to fail. Out: a score for each
//! cell that fails, and the largest slice that fails while the rest does not.
//!
//! A cell's score is the upstream's own mathematics over fewer requests ([`super::scores`]): where
//! one host in ten fails wholly, its cell needs four failures, the upstream's score two hundred
//! attempts. That a slice is at fault, and not the upstream, takes more: so much of the rest must have
//! gone well *since then* that it cannot be failing as the slice does. Until it has, the upstream is
//! judged as one, and leaving it whole is the safe mistake.
//!
//! Bounded: [`Cell::COUNT`] cells, forgotten as soon as none of them is in doubt.
//!
//! Not here: what becomes of a slice ([`super::pool`]).

use super::cusum::{Failure, Guard};
use super::intake::Intake;
use super::scores::{Scores, Yardstick, tier_index};
use super::share::Traffic;
use crate::model::cell::{Cell, Slice};
use crate::model::health::Tier;
use crate::model::topology::Sensitivity;

/// Attempts of the rest, since something began to fail, by which it is known to be well.
const ENOUGH_OF_THE_REST: f64 = 20.0;
/// Failures that the rest would have had by then if it failed as the slice does.
const ENOUGH_EXPECTED: f64 = 5.0;
/// Below this failing share the rest is well, if it also fails this much less than the slice.
const WELL: f64 = 0.05;
const TIMES_BETTER: f64 = 10.0;
/// A cell with at least [`ENOUGH_OF_A_CELL`] attempts fails with the slice that it belongs to from this
/// part of the slice's share on.
const FAILS_WITH: f64 = 0.25;
const ENOUGH_OF_A_CELL: f64 = 3.0;

/// The cells of one upstream since something began to fail.
#[derive(Clone, Debug)]
pub struct Cells {
    sensitivity: Sensitivity,
    baseline: f64,
    tallies: Vec<Tally>,
}

#[derive(Clone, Debug)]
struct Tally {
    cell: Cell,
    /// Since any score left zero, and since the cascade's or the brownout's did.
    gray: Traffic,
    acute: Traffic,
    intake: Intake,
    scores: Scores,
}

impl Cells {
    /// Nothing fails.
    pub fn new(sensitivity: Sensitivity) -> Self {
        Self { sensitivity, baseline: 0.0, tallies: Vec::new() }
    }

    /// Goes by another sensitivity, or another share that fails on good days, from now on.
    pub fn adopt(&mut self, sensitivity: Sensitivity, baseline: f64) {
        self.sensitivity = sensitivity;
        self.baseline = baseline;
        for tally in &mut self.tallies {
            tally.scores.adopt(sensitivity, baseline);
        }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.tallies.clear();
    }

    /// Attempts of one cell; while nothing fails, successes say nothing.
    pub fn count(&mut self, cell: Cell, successes: u32, failures: u32) {
        if self.tallies.is_empty() && failures == 0 || successes + failures == 0 {
            return;
        }
        let failed = u64::from(failures);
        let came = Traffic { attempts: u64::from(successes) + failed, failures: failed };
        let tally = self.tally(cell);
        tally.gray = tally.gray.plus(came);
        tally.acute = tally.acute.plus(came);
        tally.intake.count(successes, failures);
    }

    /// One failure of a cell.
    pub fn note(&mut self, cell: Cell, failure: Failure) {
        self.tally(cell).intake.note(failure);
    }

    fn tally(&mut self, cell: Cell) -> &mut Tally {
        let known = self.tallies.iter().position(|tally| tally.cell == cell);
        let place = known.unwrap_or_else(|| {
            let mut scores = Scores::new(self.sensitivity);
            scores.learn(self.baseline);
            let (none, intake) = (Traffic::default(), Intake::default());
            self.tallies.push(Tally { cell, gray: none, acute: none, intake, scores });
            self.tallies.len() - 1
        });
        &mut self.tallies[place]
    }

    /// Scores what came since the last call.
    pub fn drain(&mut self, by: &Yardstick) {
        let by = self.stricter(by);
        for tally in &mut self.tallies {
            let drain = tally.intake.drain(by.now);
            tally.scores.observe(&drain, by.threshold, Guard::Distinct);
        }
        let owes = self.tallies.iter().any(|tally| tally.intake.owes());
        let most = |tiers: fn([f64; 3]) -> f64| {
            self.tallies.iter().map(|tally| tiers(tally.scores.levels(&by))).fold(0.0, f64::max)
        };
        let acute = most(|[cascade, brownout, _gray]| cascade.max(brownout));
        if !owes && acute == 0.0 && most(|[_, _, gray]| gray) == 0.0 {
            self.reset();
        } else if !owes && acute == 0.0 {
            self.tallies.iter_mut().for_each(|tally| tally.acute = Traffic::default());
        }
    }

    /// So many scores watch at once, each of which could be wrong.
    fn stricter(&self, by: &Yardstick) -> Yardstick {
        let scores = self.tallies.len().max(1) as f64;
        Yardstick { threshold: by.threshold + scores.ln(), success_rate: None, now: by.now }
    }

    /// The largest slice that fails while the rest is well, with the score of its worst cell. Where the
    /// upstream itself trips, by `tripped`, a cell that is half-way there may explain it; else only one
    /// that trips by itself.
    pub fn culprit(&self, by: &Yardstick, tripped: Option<Tier>) -> Option<(Slice, Scores)> {
        let by = self.stricter(by);
        let tier = |tally: &Tally| {
            let half_way = |tier: &Tier| tally.scores.levels(&by)[tier_index(*tier)] >= 0.5;
            tally.scores.trip(&by).or(tripped.filter(half_way))
        };
        let in_question = self.tallies.iter().filter_map(|tally| Some((tally, tier(tally)?)));
        let (worst, tier) = in_question.max_by_key(|(tally, _)| tally.gray.failures)?;
        let Cell { class, host } = worst.cell;
        let slices = [Slice::Host(host), Slice::Class(class), Slice::Cell(worst.cell)];
        let slice = slices.into_iter().find(|slice| self.fails_alone(*slice, tier))?;
        Some((slice, worst.scores.clone()))
    }

    fn fails_alone(&self, slice: Slice, tier: Tier) -> bool {
        let seen = |tally: &Tally| match tier {
            Tier::Cascade | Tier::Brownout => tally.acute,
            Tier::Gray => tally.gray,
        };
        let share = |seen: Traffic| seen.failures as f64 / seen.attempts.max(1) as f64;
        let (mut inside, mut outside) = (Traffic::default(), Traffic::default());
        for tally in &self.tallies {
            let side = if slice.holds(tally.cell) { &mut inside } else { &mut outside };
            *side = side.plus(seen(tally));
        }
        let here = share(inside);
        let fails_with_it = |tally: &Tally| {
            let own = seen(tally);
            (own.attempts as f64) * here < ENOUGH_OF_A_CELL || share(own) >= here * FAILS_WITH
        };
        let mut members = self.tallies.iter().filter(|tally| slice.holds(tally.cell));
        let rest = outside.attempts as f64;
        members.all(fails_with_it)
            && rest * here >= ENOUGH_EXPECTED
            && rest >= ENOUGH_OF_THE_REST
            && share(outside) < WELL.min(here / TIMES_BETTER)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::decide::world::start;
    use crate::model::cell::HostId;
    use crate::model::outcome::{FailureKind, MethodClass};
    use crate::model::signal::Witness;

    const SAFE: MethodClass = MethodClass::Safe;
    const UNSAFE: MethodClass = MethodClass::Unsafe;

    fn cell(class: MethodClass, host: usize) -> Cell {
        Cell { class, host: HostId::new(host) }
    }

    /// What is found after 300 ms, in which each cell had these successes and failures.
    fn found(cells: &[(Cell, u32, u32)]) -> Option<Slice> {
        let begin = start();
        let mut known = Cells::new(Sensitivity::Balanced);
        let yardstick = |now| Yardstick { threshold: 20.0, success_rate: None, now };
        for (cell, _, failures) in cells {
            for witness in 0..*failures {
                let (kind, witness) = (FailureKind::ServerError, Witness(witness));
                known.note(*cell, Failure { at: begin, kind, witness });
            }
        }
        for (cell, successes, failures) in cells {
            known.count(*cell, *successes, *failures);
        }
        let now = begin + Duration::from_millis(300);
        known.drain(&yardstick(now));
        known.culprit(&yardstick(now), None).map(|(slice, _)| slice)
    }

    #[test]
    fn the_largest_slice_that_fails_alone_is_found() {
        #[rustfmt::skip]
        let table = [
            ("one host, both classes", vec![(cell(SAFE, 0), 0, 20), (cell(UNSAFE, 0), 0, 8), (cell(SAFE, 1), 40, 0)],
                Some(Slice::Host(HostId::new(0)))),
            ("one class, both hosts", vec![(cell(UNSAFE, 0), 0, 20), (cell(UNSAFE, 1), 0, 18), (cell(SAFE, 0), 40, 0)],
                Some(Slice::Class(UNSAFE))),
            ("one cell of four", vec![(cell(UNSAFE, 0), 0, 20), (cell(UNSAFE, 1), 18, 0), (cell(SAFE, 0), 40, 0)],
                Some(Slice::Cell(cell(UNSAFE, 0)))),
            ("everything", vec![(cell(SAFE, 0), 0, 20), (cell(UNSAFE, 0), 0, 20), (cell(SAFE, 1), 0, 20)], None),
            ("too little of the rest", vec![(cell(SAFE, 0), 0, 20), (cell(SAFE, 1), 19, 0)], None),
            ("the rest fails too, a little", vec![(cell(SAFE, 0), 0, 20), (cell(SAFE, 1), 97, 3)], Some(Slice::Host(HostId::new(0)))),
            ("the rest fails too", vec![(cell(SAFE, 0), 0, 20), (cell(SAFE, 1), 90, 10)], None),
            ("a host without a rest", vec![(cell(SAFE, 0), 0, 20)], None),
            ("nothing", vec![(cell(SAFE, 0), 20, 0), (cell(SAFE, 1), 40, 0)], None),
        ];
        for (shows, cells, slice) in table {
            assert_eq!(found(&cells), slice, "{shows}");
        }
    }

    #[test]
    fn where_nothing_fails_any_more_everything_is_forgotten() {
        let now = start();
        let by = Yardstick { threshold: 20.0, success_rate: None, now };
        let mut cells = Cells::new(Sensitivity::Balanced);
        let failure = Failure { at: now, kind: FailureKind::Tls, witness: Witness(1) };
        cells.note(cell(SAFE, 0), failure);
        cells.count(cell(SAFE, 0), 0, 1);
        cells.drain(&by);
        assert_eq!(cells.tallies.len(), 1);
        cells.count(cell(SAFE, 0), 90, 0);
        cells.drain(&by);
        assert!(cells.tallies.is_empty());
        cells.count(cell(SAFE, 0), 50, 0);
        assert!(cells.tallies.is_empty(), "successes alone are no reason to remember");
    }
}
