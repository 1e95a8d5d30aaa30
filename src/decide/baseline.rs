//! What is usual here: the failing share of an upstream on a good day.
//!
//! In: what it did each minute, and whether that minute was a good one. Out: the share from which its
//! scores start. A service in which one request of a hundred always fails must not be left for that,
//! and one that never fails is judged by the table of tiers alone: a baseline only ever raises `p0`.
//!
//! What is good is known only afterwards: a score may take half an hour to tell few per cent from
//! chance where requests are few. So an hour teaches when it is over and nothing tripped in it, and a
//! bad minute takes the hour so far with it: nobody gets used to an outage, nor to what is about to be
//! found to be one.
//!
//! Counts of good hours fade with a half-life of a day, and the share is taken at its lower bound:
//! what little data might say by chance is not believed.

use std::time::{Duration, Instant};

use super::share::{Share, Traffic};
use crate::model::memory::BaselineMemory;

/// How often it is looked at.
const MINUTE: Duration = Duration::from_secs(60);
/// What teaches, as a whole or not at all.
const HOUR: Duration = Duration::from_secs(60 * 60);
/// After this time a good hour counts for half.
const HALF_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// An hour in which this share fails is no good one, whatever the scores say.
const MOST: f64 = 0.05;

/// The failing share of good hours.
#[derive(Clone, Copy, Debug)]
pub struct Baseline {
    attempts: f64,
    failures: f64,
    /// The minute that is not over.
    minute: (Instant, Traffic),
    /// The hour that is not over, good so far.
    hour: (Instant, Traffic),
}

/// What a minute was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Minute {
    /// Nothing stood against the upstream.
    Good,
    /// Something did.
    Bad,
}

impl Baseline {
    /// Nothing is known: the table of tiers alone counts.
    pub fn new(now: Instant) -> Self {
        let none = (now, Traffic::default());
        Self { attempts: 0.0, failures: 0.0, minute: none, hour: none }
    }

    /// Takes in what was done since the process began, once a minute; the new share if it may have
    /// changed.
    pub fn pass(&mut self, traffic: Traffic, minute: Minute, now: Instant) -> Option<f64> {
        let (since, before) = self.minute;
        if now.saturating_duration_since(since) < MINUTE {
            return None;
        }
        self.minute = (now, traffic);
        if minute == Minute::Bad {
            self.hour = (now, Traffic::default());
            return None;
        }
        let (since, so_far) = self.hour;
        let done = so_far.plus(traffic.since(before));
        let age = now.saturating_duration_since(since);
        if age < HOUR {
            self.hour = (since, done);
            return None;
        }
        self.hour = (now, Traffic::default());
        if done.attempts == 0 || done.failures as f64 >= MOST * done.attempts as f64 {
            return None;
        }
        let left = 0.5_f64.powf(age.as_secs_f64() / HALF_LIFE.as_secs_f64());
        self.attempts = self.attempts * left + done.attempts as f64;
        self.failures = self.failures * left + done.failures as f64;
        Some(self.share())
    }

    /// What should still be known after a restart.
    pub const fn memory(&self) -> BaselineMemory {
        BaselineMemory { attempts: self.attempts, failures: self.failures }
    }

    /// Goes on from there. No good hour can have failed more often than [`MOST`], whatever a file
    /// says.
    pub fn resume(&mut self, memory: &BaselineMemory) {
        let believable = |count: f64| if count.is_finite() { count.max(0.0) } else { 0.0 };
        self.attempts = believable(memory.attempts);
        self.failures = believable(memory.failures).min(self.attempts * MOST);
    }

    /// At least this share fails on a good day.
    pub fn share(&self) -> f64 {
        Share::of(self.failures as u64, self.attempts as u64).least
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::world::start;

    /// A day of minutes of 600 requests each, of which so many fail.
    fn day(failures: u64, minute: Minute) -> Baseline {
        let mut now = start();
        let mut baseline = Baseline::new(now);
        let mut traffic = Traffic::default();
        for _ in 0..1440 {
            now += MINUTE;
            traffic = traffic.plus(Traffic { attempts: 600, failures });
            baseline.pass(traffic, minute, now);
        }
        baseline
    }

    #[test]
    fn a_day_teaches_the_share_that_always_fails() {
        let share = day(6, Minute::Good).share();
        assert!((0.0095..=0.01).contains(&share), "{share}");
    }

    #[test]
    fn nobody_gets_used_to_an_outage() {
        assert!(day(6, Minute::Bad).share() == 0.0);
        assert!(day(60, Minute::Good).share() == 0.0, "ten per cent are no good hour");
    }

    #[test]
    fn what_a_day_taught_outlives_a_restart() {
        let before = day(6, Minute::Good);
        let mut after = Baseline::new(start());
        after.resume(&before.memory());
        assert!(after.share() > 0.0 && after.share() == before.share());
    }

    #[test]
    fn a_file_that_makes_no_sense_makes_nobody_used_to_an_outage() {
        for (attempts, failures) in [(1e6, 9e5), (f64::NAN, 9e5), (f64::INFINITY, 1.0), (-1.0, 9.0)]
        {
            let mut baseline = Baseline::new(start());
            baseline.resume(&BaselineMemory { attempts, failures });
            assert!((0.0..=MOST).contains(&baseline.share()), "{attempts} {failures}");
        }
    }

    #[test]
    fn little_data_proves_little() {
        let now = start();
        let mut baseline = Baseline::new(now);
        let once = Traffic { attempts: 60, failures: 1 };
        let share = baseline.pass(once, Minute::Good, now + HOUR).expect("an hour is over");
        assert!(share < 0.005, "{share}");
    }

    #[test]
    fn a_bad_minute_takes_the_hour_before_it_with_it() {
        let mut now = start();
        let mut baseline = Baseline::new(now);
        let mut traffic = Traffic::default();
        for number in 1..=24 * 60 {
            now += MINUTE;
            traffic = traffic.plus(Traffic { attempts: 60, failures: 2 });
            let minute = if number % 59 == 0 { Minute::Bad } else { Minute::Good };
            assert_eq!(baseline.pass(traffic, minute, now), None);
        }
    }
}
