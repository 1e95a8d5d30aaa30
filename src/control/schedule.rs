//! When to probe what. Pure: time and jitter come in, what is due comes out.
//!
//! A new subject is due at once; a running probe keeps its subject from being due; what finds no
//! free place stays due and is first in line.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::model::health::ProbePace;

/// Between two probes while half-open.
const BRISK: Duration = Duration::from_secs(1);
/// Between two probes while suspect.
const URGENT: Duration = Duration::from_millis(500);

/// When each subject was last asked.
#[derive(Debug)]
pub struct Schedule<S> {
    slots: BTreeMap<S, Slot>,
}

#[derive(Debug)]
struct Slot {
    asked: Option<Instant>,
    /// Factor on the interval after that time, `0.8..=1.2`.
    jitter: f64,
    running: bool,
}

impl<S> Default for Schedule<S> {
    fn default() -> Self {
        Self { slots: BTreeMap::new() }
    }
}

impl<S: Ord + Clone> Schedule<S> {
    /// Goes by these subjects from now on; those that stay are not disturbed.
    pub fn adopt(&mut self, subjects: &[S]) {
        let wanted: BTreeSet<&S> = subjects.iter().collect();
        self.slots.retain(|subject, _| wanted.contains(subject));
        for subject in subjects {
            let new = || Slot { asked: None, jitter: 1.0, running: false };
            self.slots.entry(subject.clone()).or_insert_with(new);
        }
    }

    /// At most `room` subjects to ask now, longest overdue first; `interval` says how often each.
    pub fn due(&self, now: Instant, room: usize, interval: impl Fn(&S) -> Duration) -> Vec<S> {
        let mut due: Vec<(Option<Instant>, &S)> = self
            .slots
            .iter()
            .filter(|(_, slot)| !slot.running)
            .map(|(subject, slot)| {
                let every = interval(subject).mul_f64(slot.jitter);
                (slot.asked.map(|asked| asked + every), subject)
            })
            .filter(|(at, _)| at.is_none_or(|at| at <= now))
            .collect();
        due.sort();
        due.into_iter().take(room).map(|(_, subject)| subject.clone()).collect()
    }

    /// A probe of it began; `jitter` in `0.0..1.0` becomes ± 20 % of the time to the next one.
    pub fn began(&mut self, subject: &S, now: Instant, jitter: f64) {
        if let Some(slot) = self.slots.get_mut(subject) {
            *slot = Slot { asked: Some(now), jitter: 0.8 + 0.4 * jitter, running: true };
        }
    }

    /// It ended.
    pub fn ended(&mut self, subject: &S) {
        if let Some(slot) = self.slots.get_mut(subject) {
            slot.running = false;
        }
    }
}

/// Between two probes of an upstream: never slower than the file wants it.
pub fn interval(configured: Duration, pace: ProbePace) -> Duration {
    match pace {
        ProbePace::Normal => configured,
        ProbePace::Brisk => configured.min(BRISK),
        ProbePace::Urgent => configured.min(URGENT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const EVERY: Duration = Duration::from_secs(5);

    fn every(_: &u32) -> Duration {
        EVERY
    }

    #[test]
    fn a_new_subject_is_due_at_once_and_then_after_its_interval() {
        let start = clock::now();
        let mut schedule = Schedule::default();
        schedule.adopt(&[1]);
        assert_eq!(schedule.due(start, 9, every), [1]);
        schedule.began(&1, start, 0.5);
        assert!(schedule.due(start + EVERY * 2, 9, every).is_empty(), "it is still running");
        schedule.ended(&1);
        assert!(schedule.due(start + EVERY - Duration::from_millis(1), 9, every).is_empty());
        assert_eq!(schedule.due(start + EVERY, 9, every), [1]);
    }

    #[test]
    fn jitter_moves_the_next_probe_by_a_fifth_at_most() {
        let start = clock::now();
        for (jitter, seconds) in [(0.0, 4), (0.5, 5), (1.0, 6)] {
            let mut schedule = Schedule::default();
            schedule.adopt(&[1]);
            schedule.began(&1, start, jitter);
            schedule.ended(&1);
            let at = |seconds| start + Duration::from_secs(seconds);
            let shortly = Duration::from_millis(1);
            assert!(schedule.due(at(seconds) - shortly, 9, every).is_empty(), "{jitter}");
            assert_eq!(schedule.due(at(seconds) + shortly, 9, every), [1], "{jitter}");
        }
    }

    #[test]
    fn what_finds_no_place_is_first_in_line() {
        let start = clock::now();
        let mut schedule = Schedule::default();
        schedule.adopt(&[1, 2, 3]);
        assert_eq!(schedule.due(start, 2, every), [1, 2]);
        for subject in [1, 2] {
            schedule.began(&subject, start, 0.5);
            schedule.ended(&subject);
        }
        assert_eq!(schedule.due(start + EVERY, 2, every), [3, 1]);
    }

    #[test]
    fn a_reload_disturbs_nobody_who_stays() {
        let start = clock::now();
        let mut schedule = Schedule::default();
        schedule.adopt(&[1, 2]);
        for subject in [1, 2] {
            schedule.began(&subject, start, 0.5);
            schedule.ended(&subject);
        }
        schedule.adopt(&[2, 3]);
        assert_eq!(schedule.due(start, 9, every), [3]);
        schedule.ended(&1);
        assert_eq!(schedule.due(start + EVERY, 9, every), [3, 2]);
    }

    #[test]
    fn doubt_makes_probes_faster_and_never_slower() {
        let fast = Duration::from_millis(100);
        assert_eq!(interval(EVERY, ProbePace::Normal), EVERY);
        assert_eq!(interval(EVERY, ProbePace::Brisk), BRISK);
        assert_eq!(interval(EVERY, ProbePace::Urgent), URGENT);
        assert_eq!(interval(fast, ProbePace::Urgent), fast);
    }
}
