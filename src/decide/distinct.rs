//! How many independent observers do the failures of one excursion really have?
//!
//! In: the [`Witness`] of each failure. Out: whether the failure may enter a score.
//!
//! **The rule of thirds.** A failure counts while its witness holds at most a third of what has
//! counted so far. So whatever one client or one URL does, and however often, it needs two others
//! to move a score at all, and adds no more than they do: two witnesses can add one failure each
//! and no more, which no threshold is low enough for. Three that fail evenly are never held back:
//! a service of three URLs trips as fast as one of three thousand.
//!
//! A cap per witness and second was the alternative. It needs a clock in every score, it slows
//! down a small service at the very moment when all of it fails, and in a score that falls slowly
//! (gray) one witness may still fill all but the last two failures.
//!
//! Not here: services whose traffic has fewer than three witnesses at all; for them
//! [`super::scores`] has the rule of the unbroken run.

use crate::model::signal::Witness;

/// Witnesses told apart; with more, the least seen one gives up its place (Space-Saving, Metwally
/// et al. 2005). Its successor inherits the count, so nobody is ever taken for rarer than they are.
const PLACES: usize = 24;

/// Who has seen the failures of one excursion, and how often.
#[derive(Clone, Debug, Default)]
pub struct Witnesses {
    seen: Vec<(Witness, u32)>,
    admitted: u32,
}

/// Whether a failure enters a score.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// It does.
    Counts,
    /// Its witness has said enough already.
    Repeats,
}

impl Witnesses {
    /// Judges the next failure by its witness, and remembers it if it counts.
    pub fn admit(&mut self, witness: Witness) -> Admission {
        let place = self.place_of(witness);
        let times = place.map_or(0, |place| self.seen[place].1);
        if times.saturating_mul(3) > self.admitted {
            return Admission::Repeats;
        }
        self.admitted = self.admitted.saturating_add(1);
        match place {
            Some(place) => self.seen[place] = (witness, times.saturating_add(1)),
            None => self.seen.push((witness, 1)),
        }
        Admission::Counts
    }

    /// Distinct witnesses so far; stops counting at a bound that is far more than enough.
    pub fn count(&self) -> u32 {
        self.seen.len() as u32
    }

    /// Where the witness is, or, in a full table, whom it replaces.
    fn place_of(&self, witness: Witness) -> Option<usize> {
        let known = self.seen.iter().position(|(seen, _)| *seen == witness);
        if known.is_some() || self.seen.len() < PLACES {
            return known;
        }
        (0..PLACES).min_by_key(|place| self.seen[*place].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(order: &[u32]) -> usize {
        let mut witnesses = Witnesses::default();
        order.iter().filter(|w| witnesses.admit(Witness(**w)) == Admission::Counts).count()
    }

    #[test]
    fn two_witnesses_add_one_failure_each_however_loud_they_are() {
        assert_eq!(admitted(&[1; 1000]), 1);
        assert_eq!(admitted(&[1, 2].repeat(1000)), 2);
    }

    #[test]
    fn three_that_fail_evenly_are_never_held_back() {
        assert_eq!(admitted(&[1, 2, 3].repeat(100)), 300);
    }

    #[test]
    fn a_loud_one_adds_no_more_than_half_of_what_the_others_add() {
        let mut order = vec![9; 500];
        for quiet in 0..20 {
            order.push(quiet);
            order.extend([9; 50]);
        }
        let by_others = 20;
        assert!(admitted(&order) <= by_others + by_others / 2 + 1);
    }

    #[test]
    fn the_table_is_bounded_and_a_late_loud_one_is_still_held_back() {
        let mut witnesses = Witnesses::default();
        for quiet in 0..1000 {
            witnesses.admit(Witness(quiet));
        }
        let before = witnesses.admitted;
        for _ in 0..10_000 {
            witnesses.admit(Witness(5000));
        }
        assert_eq!(witnesses.seen.len(), PLACES);
        assert!(witnesses.admitted <= before + before / 2 + 1, "{}", witnesses.admitted);
    }
}
