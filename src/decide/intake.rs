//! What one upstream, or one origin, was reported to have done since the last conclusion.
//!
//! Outcomes arrive twice: counted in a [`Sample`](crate::model::signal::Sample), and, if they are
//! bad, described in a [`Note`](crate::model::signal::Note). The two travel apart and may fall into
//! different drains. A note counts at once; what was counted and is still without a note one drain
//! later found the ring full and counts as anonymous.

use std::time::Instant;

use super::cusum::Failure;
use crate::model::outcome::FailureKind;
use crate::model::signal::Witness;

/// Described failures of one drain, at most. Beyond it they are anonymous: by then every score has
/// tripped many times over.
const MOST: usize = 4096;

/// All anonymous failures have one witness: nobody can say that there were more.
const ANONYMOUS: Witness = Witness(0);

/// Bad and good outcomes since the last conclusion.
#[derive(Clone, Debug, Default)]
pub struct Intake {
    successes: u32,
    failures: Vec<Failure>,
    counted: i64,
    described: i64,
    /// Counted failures less described ones at the last drain; below zero when notes ran ahead.
    owed: i64,
}

/// One drain, ready to be scored.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    /// Good outcomes.
    pub successes: u32,
    /// Bad ones, in the order in which they were described.
    pub failures: Vec<Failure>,
}

impl Intake {
    /// Counts from a sample.
    pub fn count(&mut self, successes: u32, failures: u32) {
        self.successes = self.successes.saturating_add(successes);
        self.counted += i64::from(failures);
    }

    /// One described failure.
    pub fn note(&mut self, failure: Failure) {
        if self.failures.len() < MOST {
            self.failures.push(failure);
            self.described += 1;
        }
    }

    /// One described failure that is not to be scored.
    pub fn excuse(&mut self) {
        self.described += 1;
    }

    /// Whether anything waits for the next call, or may still come of what was counted.
    pub fn owes(&self) -> bool {
        self.owed > 0 || self.counted > 0 || self.described > 0
    }

    /// Hands out what came since the last call.
    pub fn drain(&mut self, now: Instant) -> Drain {
        let counted = std::mem::take(&mut self.counted);
        let described = std::mem::take(&mut self.described);
        let overdue = (self.owed - described).clamp(0, MOST as i64);
        let unclaimed = (self.owed + counted).min(0);
        self.owed += counted - described - overdue - unclaimed;
        let anonymous = Failure { at: now, kind: FailureKind::ServerError, witness: ANONYMOUS };
        self.failures.extend((0..overdue).map(|_| anonymous));
        Drain {
            successes: std::mem::take(&mut self.successes),
            failures: std::mem::take(&mut self.failures),
        }
    }
}

impl Drain {
    /// The successes to be counted before the failure of this number, or after the last one: the
    /// drain does not say in which order things happened, so they are taken as evenly mixed.
    pub fn successes_before(&self, failure: usize) -> u32 {
        let gaps = self.failures.len() as u64 + 1;
        let up_to = |gap: u64| u64::from(self.successes) * gap / gaps;
        (up_to(failure as u64 + 1) - up_to(failure as u64)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::world::start;

    fn failure(at: Instant) -> Failure {
        Failure { at, kind: FailureKind::Connect, witness: Witness(7) }
    }

    #[test]
    fn a_failure_is_counted_once_whichever_of_count_and_note_comes_first() {
        let now = start();
        let mut intake = Intake::default();
        intake.count(5, 2);
        assert_eq!(intake.drain(now).failures.len(), 0, "notes may still come");
        intake.note(failure(now));
        intake.note(failure(now));
        assert_eq!(intake.drain(now).failures.len(), 2);
        intake.note(failure(now));
        assert_eq!(intake.drain(now).failures.len(), 1, "a note does not wait for its count");
        intake.count(0, 1);
        assert_eq!(intake.drain(now).failures.len(), 0);
        assert_eq!(intake.drain(now).failures.len(), 0);
    }

    #[test]
    fn what_never_gets_a_note_is_anonymous_one_drain_later() {
        let now = start();
        let mut intake = Intake::default();
        intake.count(0, 9);
        assert_eq!(intake.drain(now).failures.len(), 0);
        assert_eq!(intake.drain(now).failures.len(), 9);
        assert_eq!(intake.drain(now).failures.len(), 0);
    }

    #[test]
    fn notes_whose_counts_never_come_do_not_hide_later_failures() {
        let now = start();
        let mut intake = Intake::default();
        intake.note(failure(now));
        intake.drain(now);
        intake.drain(now);
        intake.count(0, 1);
        intake.drain(now);
        assert_eq!(intake.drain(now).failures.len(), 1);
    }

    #[test]
    fn successes_are_spread_evenly_and_none_is_lost() {
        let now = start();
        let drain = Drain { successes: 11, failures: vec![failure(now); 3] };
        let spread: Vec<u32> = (0..=3).map(|gap| drain.successes_before(gap)).collect();
        assert_eq!(spread, [2, 3, 3, 3]);
    }
}
