//! What happened lately: attempts of the last ten seconds, and of the last hour by the minute.
//!
//! In: counts, with the time they were gathered over. Out: rates and shares, the marker's share,
//! the p99 of heads. Bounded: old slots are overwritten.

use std::time::{Duration, Instant};

use crate::model::memory::HourMemory;
use crate::model::signal::{Counts, DURATION_BOUNDS, DURATION_BUCKETS, Sample};
use crate::model::unit::Permille;

const SECONDS: usize = 10;
const MINUTES: usize = 60;
/// Time constant of the pace. It slides, so that it is the same wherever a second begins.
const PACE_OVER: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Heads that must have been timed before the p99 means anything.
const ENOUGH_HEADS: u64 = 100;
/// Markable answers that must have come before the marker's absence means anything.
const ENOUGH_MARKABLE: u64 = 100;
/// A head is never late before this.
const LEAST_LATE: Duration = Duration::from_secs(1);

/// Attempts of the last ten seconds, in slots of one.
#[derive(Clone, Debug)]
pub struct Seconds {
    began: Instant,
    /// Of the last `advance`.
    now: Instant,
    newest: u64,
    slots: [Second; SECONDS],
    /// Successes a second, exponentially weighted over [`PACE_OVER`].
    pace: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    attempts: f64,
    failures: f64,
    safe: f64,
    /// The most that the pace came to.
    pace: f64,
}

impl Seconds {
    /// Empty.
    pub fn new(began: Instant) -> Self {
        Self { began, now: began, newest: 0, slots: Default::default(), pace: 0.0 }
    }

    /// Moves on to `now`, forgetting what is older than ten seconds.
    pub fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.now);
        self.pace *= (-passed.div_duration_f64(PACE_OVER)).exp();
        self.now = self.now.max(now);
        let newest = now.saturating_duration_since(self.began).as_secs();
        for gone in (self.newest + 1..=newest).take(SECONDS) {
            // Whole slots are skipped after a long silence; which ones are cleared does not matter.
            self.slots[gone as usize % SECONDS] = Second::default();
        }
        self.newest = self.newest.max(newest);
    }

    /// Adds what was gathered over `span` until the instant of the last `advance`; a span of more
    /// than a second is spread, so that hours in one sample do not look like a burst.
    pub fn add(&mut self, counts: &Counts, span: Duration) {
        let parts = span.as_secs_f64().max(1.0);
        let reach = (parts as usize).clamp(1, SECONDS);
        let failures = f64::from(counts.failures[0]) + f64::from(counts.failures[1]);
        let answers = |class: usize| {
            f64::from(counts.successes[class]) + f64::from(counts.origin_errors[class])
        };
        let safe = answers(0) + f64::from(counts.failures[0]);
        let attempts = answers(0) + answers(1) + failures;
        for back in 0..reach as u64 {
            let Some(second) = self.newest.checked_sub(back) else { break };
            let slot = &mut self.slots[second as usize % SECONDS];
            slot.attempts += attempts / parts;
            slot.failures += failures / parts;
            slot.safe += safe / parts;
        }
        self.quicken(attempts - failures, span);
    }

    /// Adds successes that came evenly over `span` to the pace.
    fn quicken(&mut self, successes: f64, span: Duration) {
        let span = span.div_duration_f64(PACE_OVER);
        let left_of_each = if span > 0.0 { -(-span).exp_m1() / span } else { 1.0 };
        self.pace += successes.max(0.0) * left_of_each / PACE_OVER.as_secs_f64();
        let slot = &mut self.slots[self.newest as usize % SECONDS];
        slot.pace = slot.pace.max(self.pace);
    }

    /// Attempts a second.
    pub fn rate(&self) -> f64 {
        self.attempts() / self.covered()
    }

    /// Attempts a second with safe methods.
    pub fn safe_rate(&self) -> f64 {
        self.slots.iter().map(|slot| slot.safe).sum::<f64>() / self.covered()
    }

    /// Successes a second: the mean or, where a client has just come to a service that slept, what
    /// the best pace of the ten seconds proves (less three standard deviations of a count, so that
    /// the luckiest of ten quiet seconds proves nothing).
    pub fn success_rate(&self) -> f64 {
        let successes = |slot: &Second| (slot.attempts - slot.failures).max(0.0);
        let mean = self.slots.iter().map(successes).sum::<f64>() / self.covered();
        let best = self.slots.iter().map(|slot| slot.pace).fold(0.0, f64::max);
        mean.max(best - 3.0 * best.sqrt())
    }

    /// Attempts of the last ten seconds.
    pub fn attempts(&self) -> f64 {
        self.slots.iter().map(|slot| slot.attempts).sum()
    }

    /// Failing share of the last ten seconds.
    pub fn failing(&self) -> Permille {
        let failures: f64 = self.slots.iter().map(|slot| slot.failures).sum();
        Permille::from_fraction(failures / self.attempts().max(1.0))
    }

    fn covered(&self) -> f64 {
        (self.newest + 1).min(SECONDS as u64) as f64
    }
}

/// What the last hour taught, in slots of a minute.
#[derive(Clone, Debug)]
pub struct Hour {
    began: Instant,
    newest: u64,
    slots: Box<[Minute; MINUTES]>,
    total: Minute,
}

#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    successes: u64,
    marked: u64,
    markable: u64,
    durations: [u64; DURATION_BUCKETS],
}

impl Minute {
    fn combine(&mut self, other: &Self, with: fn(u64, u64) -> u64) {
        self.successes = with(self.successes, other.successes);
        self.marked = with(self.marked, other.marked);
        self.markable = with(self.markable, other.markable);
        for (mine, theirs) in self.durations.iter_mut().zip(&other.durations) {
            *mine = with(*mine, *theirs);
        }
    }
}

impl Hour {
    /// Empty.
    pub fn new(began: Instant) -> Self {
        let slots = Box::new([Minute::default(); MINUTES]);
        Self { began, newest: 0, slots, total: Minute::default() }
    }

    /// What should still be known after a restart.
    pub fn memory(&self, now: Instant) -> HourMemory {
        let Minute { successes, marked, markable, durations } = self.total;
        let covered = now.saturating_duration_since(self.began).min(HOUR);
        HourMemory { covered, successes, marked, markable, durations }
    }

    /// Goes on from there: all of it counts as of the last minute, and is forgotten within the hour.
    pub fn resume(&mut self, memory: &HourMemory, now: Instant) {
        let HourMemory { covered, successes, marked, markable, durations } = *memory;
        *self = Self::new(now.checked_sub(covered.min(HOUR)).unwrap_or(now));
        self.advance(now);
        self.total = Minute { successes, marked, markable, durations };
        self.slots[self.newest as usize % MINUTES] = self.total;
    }

    /// Moves on to `now`, forgetting what is older than an hour.
    pub fn advance(&mut self, now: Instant) {
        let newest = now.saturating_duration_since(self.began).as_secs() / 60;
        for gone in (self.newest + 1..=newest).take(MINUTES) {
            let slot = &mut self.slots[gone as usize % MINUTES];
            self.total.combine(slot, u64::saturating_sub);
            *slot = Minute::default();
        }
        self.newest = self.newest.max(newest);
    }

    /// Adds to the minute of the last `advance`.
    pub fn add(&mut self, sample: &Sample) {
        let counts = &sample.counts;
        let minute = Minute {
            successes: u64::from(counts.successes[0]) + u64::from(counts.successes[1]),
            marked: u64::from(counts.marked),
            markable: u64::from(counts.markable),
            durations: sample.durations.map(u64::from),
        };
        self.slots[self.newest as usize % MINUTES].combine(&minute, u64::saturating_add);
        self.total.combine(&minute, u64::saturating_add);
    }

    /// Successes a second.
    pub fn success_rate(&self, now: Instant) -> f64 {
        let covered = now.saturating_duration_since(self.began).as_secs_f64().clamp(1.0, 3600.0);
        self.total.successes as f64 / covered
    }

    /// Successes.
    pub fn successes(&self) -> u64 {
        self.total.successes
    }

    /// Whether so many answers carried the marker that its absence means something.
    pub fn marker_armed(&self) -> bool {
        let Minute { marked, markable, .. } = self.total;
        markable >= ENOUGH_MARKABLE && marked.saturating_mul(100) >= markable.saturating_mul(95)
    }

    /// From when a head is late: 4 × the p99, at least 1 s. The p99 is the upper bound of its
    /// bucket, which errs towards patience.
    pub fn late_after(&self) -> Duration {
        let heads: u64 = self.total.durations.iter().sum();
        if heads < ENOUGH_HEADS {
            return LEAST_LATE;
        }
        let mut beyond = heads / 100;
        let mut place = DURATION_BUCKETS - 1;
        while place > 0 && self.total.durations[place] <= beyond {
            beyond -= self.total.durations[place];
            place -= 1;
        }
        let p99 = DURATION_BOUNDS[place.min(DURATION_BOUNDS.len() - 1)];
        Duration::from_secs_f64(4.0 * p99).max(LEAST_LATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::world::start;
    use crate::model::id::UpstreamId;

    fn counts(successes: u32, failures: u32) -> Counts {
        Counts { successes: [successes, 0], failures: [0, failures], ..Counts::default() }
    }

    fn sample(counts: Counts, durations: [u32; DURATION_BUCKETS]) -> Sample {
        Sample { upstream: UpstreamId::new(0), counts, durations }
    }

    #[test]
    fn ten_seconds_are_remembered_and_not_eleven() {
        let begin = start();
        let mut seconds = Seconds::new(begin);
        let at = |tenths: u64| begin + Duration::from_millis(100 * tenths);
        for tenth in 1..=200 {
            seconds.advance(at(tenth));
            seconds.add(&counts(9, 1), Duration::from_millis(100));
        }
        assert!((seconds.rate() - 100.0).abs() < 10.0, "{}", seconds.rate());
        assert_eq!(seconds.failing(), Permille::from_fraction(0.1));
        seconds.advance(at(400));
        assert!(seconds.attempts() == 0.0 && seconds.rate() == 0.0);
    }

    #[test]
    fn the_best_pace_says_what_a_client_that_has_just_come_would_get() {
        let begin = start();
        for (came, least, most) in [(200, 145.0, 160.0), (50, 25.0, 28.0), (4, 0.3, 0.5)] {
            let mut seconds = Seconds::new(begin);
            seconds.advance(begin + Duration::from_secs(60));
            seconds.add(&counts(came, 0), Duration::from_millis(100));
            let rate = seconds.success_rate();
            assert!((least..=most).contains(&rate), "{came}: {rate}");
        }
    }

    #[test]
    fn a_pace_is_the_same_wherever_its_seconds_begin() {
        let begin = start();
        let rates: Vec<f64> = (0..20)
            .map(|twentieth| {
                let mut seconds = Seconds::new(begin);
                let came = begin + Duration::from_secs(60) + Duration::from_millis(50 * twentieth);
                seconds.advance(came);
                for step in 1..=5 {
                    seconds.advance(came + Duration::from_millis(50 * step));
                    seconds.add(&counts(10, 0), Duration::from_millis(50));
                }
                seconds.advance(came + Duration::from_secs(3));
                seconds.success_rate()
            })
            .collect();
        assert!(rates.iter().all(|rate| (rate - rates[0]).abs() < 1e-6), "{rates:?}");
        assert!((20.0..=28.0).contains(&rates[0]), "{}", rates[0]);
    }

    #[test]
    fn an_hour_in_one_sample_is_no_burst() {
        let begin = start();
        let mut seconds = Seconds::new(begin);
        seconds.advance(begin + Duration::from_secs(3600));
        seconds.add(&counts(360_000, 0), Duration::from_secs(3600));
        assert!((seconds.rate() - 100.0).abs() < 1e-6, "{}", seconds.rate());
        assert!((seconds.safe_rate() - 100.0).abs() < 1e-6);
    }

    #[test]
    fn a_marker_is_armed_by_95_of_100_answers_of_the_last_hour() {
        let begin = start();
        for (markable, marked, armed) in [(99, 99, false), (100, 95, true), (100, 94, false)] {
            let mut hour = Hour::new(begin);
            hour.add(&sample(Counts { markable, marked, ..Counts::default() }, Default::default()));
            assert_eq!(hour.marker_armed(), armed, "{marked} of {markable}");
            hour.advance(begin + Duration::from_secs(3660));
            assert!(!hour.marker_armed(), "an hour later it is forgotten");
        }
    }

    #[test]
    fn late_is_four_times_the_p99_and_a_second_at_least() {
        let begin = start();
        // Heads per bucket, and from when a head is late, in milliseconds.
        let table: [(&[(usize, u32)], u64); 6] = [
            (&[], 1000),
            (&[(12, 99)], 1000),           // too few to know
            (&[(5, 1000)], 1000),          // 50 ms
            (&[(5, 989), (10, 11)], 3000), // 1.1 % take up to 750 ms
            (&[(5, 991), (10, 9)], 1000),  // 0.9 % do
            (&[(DURATION_BUCKETS - 1, 500)], 240_000),
        ];
        for (heads, expected) in table {
            let mut durations = [0; DURATION_BUCKETS];
            for (place, count) in heads {
                durations[*place] = *count;
            }
            let mut hour = Hour::new(begin);
            hour.add(&sample(Counts::default(), durations));
            assert_eq!(hour.late_after(), Duration::from_millis(expected), "{heads:?}");
        }
    }

    #[test]
    fn successes_are_counted_over_the_time_there_was() {
        let begin = start();
        let mut hour = Hour::new(begin);
        let mut now = begin;
        for _ in 0..30 {
            now += Duration::from_secs(60);
            hour.advance(now);
            hour.add(&sample(counts(600, 5), Default::default()));
        }
        assert!((hour.success_rate(now) - 10.0).abs() < 1e-9);
    }
}
