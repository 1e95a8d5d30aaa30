//! Is the fallback worse than the first choice, by the requests of a drill?
//!
//! In: samples of both sides, the time. Out: how the drill ended, once it has.
//!
//! | it ends | when |
//! |---|---|
//! | failures | the fallback's failing share is certainly above the first choice's: the strict Wilson bounds (z = 3) of the two do not touch, and it failed at least [`LEAST_FAILURES`] times |
//! | latency | certainly more than [`MOST_SLOW`] of its answers, and more than of the first choice's, are slow: later than twice the bound within which 95 % of the first choice's stay, and than [`NEVER_SLOW`] |
//! | passed, or too little | its time is over; it takes [`ENOUGH`] attempts at the fallback to pass |
//!
//! Bounds so far apart that looking ten times a second for an hour does not abort a drill of two equal
//! upstreams by chance. Not here: what happens in the service besides ([`super::pool`]).

use std::time::Instant;

use super::share::Share;
use crate::model::drill::{DrillEnd, DrillSide, DrillStanding};
use crate::model::id::UpstreamId;
use crate::model::signal::{DURATION_BOUNDS, DURATION_BUCKETS, Sample};
use crate::model::unit::Permille;

/// Fewer failures are chance, whatever the shares.
const LEAST_FAILURES: u64 = 3;
/// Fewer attempts at the fallback prove nothing.
const ENOUGH: u64 = 20;
/// Answers of the first choice before it is known how fast it is.
const KNOWN: u64 = 100;
/// Share of slow answers that a fallback may have, being farther away.
const MOST_SLOW: f64 = 0.10;
/// In seconds: nothing sooner is slow, whatever the first choice does.
const NEVER_SLOW: f64 = 0.1;

/// One drill that is on.
#[derive(Clone, Copy, Debug)]
pub struct Drill {
    /// Whose share it takes.
    pub from: UpstreamId,
    /// Who gets it.
    pub to: UpstreamId,
    /// Of the service's requests.
    pub share: Permille,
    /// Its end, if nothing ends it before.
    pub until: Instant,
    first: Seen,
    fallback: Seen,
}

/// What one side did.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    attempts: u64,
    failures: u64,
    durations: [u64; DURATION_BUCKETS],
}

impl Seen {
    fn add(&mut self, sample: &Sample) {
        let sum = |counts: [u32; 2]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
        let failures = sum(sample.counts.failures);
        self.failures += failures;
        self.attempts += failures + sum(sample.counts.successes) + sum(sample.counts.origin_errors);
        for (all, new) in self.durations.iter_mut().zip(sample.durations) {
            *all += u64::from(new);
        }
    }

    fn answers(&self) -> u64 {
        self.durations.iter().sum()
    }

    /// Answers beyond the bucket at this place.
    fn beyond(&self, place: usize) -> u64 {
        self.durations.iter().skip(place + 1).sum()
    }

    fn failing(&self) -> Share {
        Share::of_the_worst(self.failures, self.attempts)
    }
}

impl Drill {
    /// Of a share of the requests, up to an instant.
    pub fn begin(from: UpstreamId, to: UpstreamId, share: Permille, until: Instant) -> Self {
        Self { from, to, share, until, first: Seen::default(), fallback: Seen::default() }
    }

    /// Counters of an upstream since the last drain.
    pub fn sample(&mut self, sample: &Sample) {
        if sample.upstream == self.from {
            self.first.add(sample);
        } else if sample.upstream == self.to {
            self.fallback.add(sample);
        }
    }

    /// How it ends now by what was seen; `None`: it goes on.
    pub fn end(&self, now: Instant) -> Option<DrillEnd> {
        let (first, fallback) = (self.first.failing(), self.fallback.failing());
        if self.fallback.failures >= LEAST_FAILURES && fallback.least > first.most {
            return Some(DrillEnd::Failures);
        }
        if self.is_slow() {
            return Some(DrillEnd::Latency);
        }
        if now < self.until {
            return None;
        }
        let is_enough = self.fallback.attempts >= ENOUGH;
        Some(if is_enough { DrillEnd::Passed } else { DrillEnd::TooLittle })
    }

    fn is_slow(&self) -> bool {
        let Some(place) = self.slow_beyond() else { return false };
        let of = |seen: &Seen| Share::of_the_worst(seen.beyond(place), seen.answers());
        of(&self.fallback).least > of(&self.first).most.max(MOST_SLOW)
    }

    /// Place of the last bucket that is not slow; `None` while that is not known, or where nothing can
    /// be slower.
    fn slow_beyond(&self) -> Option<usize> {
        let answers = self.first.answers();
        if answers < KNOWN {
            return None;
        }
        let holds_most = |place: &usize| self.first.beyond(*place) * 20 <= answers;
        let usual = (0..DURATION_BOUNDS.len()).find(holds_most)?;
        let limit = (2.0 * DURATION_BOUNDS[usual]).max(NEVER_SLOW);
        DURATION_BOUNDS.iter().position(|bound| *bound >= limit)
    }

    /// For people.
    pub fn standing(&self, end: Option<DrillEnd>) -> DrillStanding {
        let place = self.slow_beyond();
        let side = |seen: &Seen| DrillSide {
            attempts: seen.attempts,
            failures: seen.failures,
            slow: place.map_or(0, |place| seen.beyond(place)),
        };
        let Self { from, to, share, .. } = *self;
        DrillStanding {
            from,
            to,
            share,
            first: side(&self.first),
            fallback: side(&self.fallback),
            end,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::decide::world::start;
    use crate::model::signal::Counts;

    const FROM: usize = 0;
    const TO: usize = 1;

    /// So many attempts of which so many failed, every head in the bucket at this place.
    fn sample(upstream: usize, (attempts, failures): (u32, u32), place: usize) -> Sample {
        let mut durations = [0; DURATION_BUCKETS];
        durations[place] = attempts;
        let counts = Counts {
            successes: [attempts - failures, 0],
            failures: [failures, 0],
            ..Counts::default()
        };
        Sample { upstream: UpstreamId::new(upstream), counts, durations }
    }

    fn drill() -> (Drill, Instant) {
        let until = start() + Duration::from_secs(600);
        let ids = (UpstreamId::new(FROM), UpstreamId::new(TO));
        (Drill::begin(ids.0, ids.1, Permille::from_fraction(0.05), until), until)
    }

    #[test]
    fn each_drill_ends_as_its_figures_say() {
        use DrillEnd::{Failures, Latency, Passed, TooLittle};
        #[rustfmt::skip]
        let table = [
            // what it shows, first: attempts, failures, bucket; fallback: the same; end before, and at its time
            ("equal ones pass",              (1900, 2, 5), (100, 0, 5),  None, Passed),
            ("farther away is not slow",     (1900, 2, 5), (100, 0, 6),  None, Passed),
            ("twice as late is slow",        (1900, 2, 6), (100, 0, 9),  Some(Latency), Latency),
            ("both are slow",                (1900, 2, 12), (100, 0, 12), None, Passed),
            ("it fails where the first does not", (1900, 2, 5), (100, 10, 5), Some(Failures), Failures),
            ("both fail alike",              (1900, 190, 5), (100, 14, 5), None, Passed),
            ("two failures are chance",      (1900, 0, 5), (3, 2, 5),    None, TooLittle),
            ("too few to tell",              (1900, 0, 5), (19, 0, 5),   None, TooLittle),
            ("nobody knows how fast the first is", (99, 0, 1), (100, 0, 12), None, Passed),
        ];
        for (shows, first, fallback, before, at_its_time) in table {
            let (mut drill, until) = drill();
            drill.sample(&sample(FROM, (first.0, first.1), first.2));
            drill.sample(&sample(TO, (fallback.0, fallback.1), fallback.2));
            assert_eq!(drill.end(until - Duration::from_millis(1)), before, "{shows}");
            assert_eq!(drill.end(until), Some(at_its_time), "{shows}");
        }
    }

    #[test]
    fn equal_upstreams_are_hardly_ever_told_apart_by_chance() {
        let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
        let mut roll = || {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut aborted = 0;
        for _ in 0..200 {
            let (mut drill, until) = drill();
            // 100 requests a second for ten minutes, half a per cent of which fail.
            for _ in 0..600 {
                let mut of =
                    |attempts: u32| (0..attempts).filter(|_| roll() < 0.005).count() as u32;
                let failures = (of(95), of(5));
                drill.sample(&sample(FROM, (95, failures.0), 5));
                drill.sample(&sample(TO, (5, failures.1), 5));
                if drill.end(start()).is_some() {
                    aborted += 1;
                    break;
                }
            }
            assert!(drill.end(until).is_some());
        }
        assert!(aborted <= 4, "{aborted} of 200");
    }

    #[test]
    fn others_do_not_count() {
        let (mut drill, until) = drill();
        drill.sample(&sample(2, (1000, 1000), 5));
        assert_eq!(drill.standing(None).fallback, DrillSide::default());
        assert_eq!(drill.end(until), Some(DrillEnd::TooLittle));
    }
}
