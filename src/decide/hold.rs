//! How long does the n-th ejection last, and what must an upstream have shown before it may return?
//!
//! **Hold**: 30 s, doubled with each ejection that still counts, up to `max_hold`, ± 20 % so that
//! several instances do not return to a provider in step. One ejection stops counting after each
//! 30 healthy minutes.
//!
//! **Up-time rule**: before it may return, an upstream must have been good for 1.5 × the longest
//! good time that turned bad again since the first of those ejections, at least `hold` (30 s), at
//! most 30 min. An outage that comes and goes (five minutes bad, five good) is thereby left for good
//! after its second period, whatever its length.
//!
//! Jitter follows from a seed, so that the same ejection always has the same hold.

use std::time::{Duration, Instant};

use crate::model::id::UpstreamKey;
use crate::model::memory::RecordMemory;
use crate::model::topology::FailoverRule;

/// Healthy time after which one ejection less counts.
const FORGIVEN_AFTER: Duration = Duration::from_secs(30 * 60);
/// More good time than this is never asked for.
const MOST_UP_TIME: Duration = Duration::from_secs(30 * 60);

/// What is remembered of one upstream's ejections.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    ejections: u32,
    healthy_since: Option<Instant>,
    good_since: Option<Instant>,
    longest_good: Duration,
    /// Least good time before a return: the first hold.
    least_good: Duration,
}

/// How long the ejection of this number lasts. `jitter` is drawn evenly from 0 to 1.
pub fn length(ejections: u32, rule: &FailoverRule, jitter: f64) -> Duration {
    let doublings = ejections.saturating_sub(1).min(31);
    let grown = rule.hold.saturating_mul(1 << doublings).min(rule.max_hold);
    grown.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0)).min(rule.max_hold)
}

/// Evenly from 0 to 1, by seed, upstream and ejection: splitmix64 (Steele et al. 2014) over an FNV-1a
/// hash of the upstream's name.
pub fn jitter(seed: u64, key: &UpstreamKey, ejections: u32) -> f64 {
    let parts = [key.service.as_str(), key.provider.as_str(), &key.endpoint];
    let hash = (parts.iter().flat_map(|part| part.bytes()))
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let mut x = seed ^ hash ^ (u64::from(ejections) << 32);
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

impl Record {
    /// Never ejected, good since `now`.
    pub fn new(now: Instant) -> Self {
        Self { healthy_since: Some(now), good_since: Some(now), ..Self::default() }
    }

    /// One more ejection. Returns how many count, this one included.
    pub fn eject(&mut self, rule: &FailoverRule, now: Instant) -> u32 {
        let counting = self.counting(now);
        let good = self.good_for(now).max(self.healthy_for(now));
        self.longest_good =
            if counting == 0 { Duration::ZERO } else { self.longest_good.max(good) };
        self.least_good = rule.hold.min(MOST_UP_TIME);
        self.ejections = counting + 1;
        self.healthy_since = None;
        self.good_since = None;
        self.ejections
    }

    /// What should still be known after a restart.
    pub fn memory(&self) -> RecordMemory {
        let Self { ejections, healthy_since, longest_good, least_good, .. } = *self;
        RecordMemory { ejections, healthy_since, longest_good, least_good }
    }

    /// Goes on from there. Whether it was good meanwhile nobody knows: that begins anew.
    pub fn resume(&mut self, memory: &RecordMemory, now: Instant) {
        *self = Self {
            ejections: memory.ejections,
            healthy_since: memory.healthy_since.map(|since| since.min(now)),
            good_since: Some(now),
            longest_good: memory.longest_good.min(MOST_UP_TIME),
            least_good: memory.least_good.min(MOST_UP_TIME),
        };
    }

    /// It is healthy again: ejections begin to be forgotten.
    pub fn healthy(&mut self, now: Instant) {
        self.healthy_since = Some(now);
    }

    /// Something spoke for it.
    pub fn good(&mut self, at: Instant) {
        self.good_since.get_or_insert(at);
    }

    /// Something spoke against it: what was good until now did not last.
    pub fn bad(&mut self, at: Instant) {
        if self.healthy_since.is_none() {
            self.longest_good = self.longest_good.max(self.good_for(at));
        }
        self.good_since = None;
    }

    /// How long it has been good.
    pub fn good_for(&self, now: Instant) -> Duration {
        self.good_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// How long it must have been good before it may return.
    pub fn up_time_needed(&self) -> Duration {
        self.longest_good.mul_f64(1.5).clamp(self.least_good, MOST_UP_TIME)
    }

    /// When the up-time rule will hold if nothing bad happens; `None` while it is bad.
    pub fn up_time_ends(&self) -> Option<Instant> {
        Some(self.good_since? + self.up_time_needed())
    }

    fn healthy_for(&self, now: Instant) -> Duration {
        self.healthy_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    fn counting(&self, now: Instant) -> u32 {
        let forgiven = self.healthy_for(now).as_secs() / FORGIVEN_AFTER.as_secs();
        self.ejections.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert, proptest};

    use super::*;
    use crate::decide::world::start;
    use crate::model::id::Label;

    const MINUTE: Duration = Duration::from_secs(60);

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_hold_doubles_within_its_jitter_and_ends_at_the_most(
            ejections in 1_u32..100,
            jitter in 0.0_f64..1.0,
        ) {
            let rule = FailoverRule::default();
            let hold = length(ejections, &rule, jitter).as_secs_f64();
            let middle = (30.0 * 2.0_f64.powi(ejections as i32 - 1)).min(900.0);
            prop_assert!(hold >= 0.8 * middle - 1e-6 && hold <= 1.2 * middle + 1e-6);
            prop_assert!(hold <= 900.0);
        }

        #[test]
        fn jitter_is_even_and_always_the_same(seed: u64, ejections: u32) {
            let key = key("bunny");
            let drawn = jitter(seed, &key, ejections);
            prop_assert!((0.0..1.0).contains(&drawn));
            prop_assert!(drawn.to_bits() == jitter(seed, &key, ejections).to_bits());
        }
    }

    fn key(provider: &str) -> UpstreamKey {
        let label = |text| Label::new(text).expect("a label");
        let endpoint = "https://a.example:443".into();
        UpstreamKey { service: label("portal"), provider: label(provider), endpoint }
    }

    #[test]
    fn two_upstreams_do_not_return_in_step() {
        assert_ne!(jitter(1, &key("bunny"), 1).to_bits(), jitter(1, &key("gcore"), 1).to_bits());
    }

    #[test]
    fn one_ejection_is_forgiven_for_each_half_hour_of_health() {
        let (rule, now) = (FailoverRule::default(), start());
        let mut record = Record::new(now);
        assert_eq!(
            record.eject(&rule, now + 600 * MINUTE),
            1,
            "a clean past counts for nothing more"
        );
        for expected in 2..5 {
            assert_eq!(record.eject(&rule, now + 601 * MINUTE), expected);
        }
        record.healthy(now + 700 * MINUTE);
        assert_eq!(record.eject(&rule, now + 765 * MINUTE), 3, "two of four forgiven");
    }

    #[test]
    fn the_good_time_needed_grows_with_each_one_that_did_not_last() {
        let (rule, now) = (FailoverRule::default(), start());
        let mut record = Record::new(now);
        record.eject(&rule, now + 100 * MINUTE);
        assert_eq!(record.up_time_needed(), rule.hold, "the time before the incident is no hint");
        record.good(now + 105 * MINUTE);
        assert_eq!(record.good_for(now + 110 * MINUTE), 5 * MINUTE);
        record.bad(now + 110 * MINUTE);
        assert_eq!(record.up_time_ends(), None, "it is bad now");
        record.good(now + 115 * MINUTE);
        assert_eq!(record.up_time_ends(), Some(now + 115 * MINUTE + MINUTE * 15 / 2));
        record.bad(now + 300 * MINUTE);
        assert_eq!(record.up_time_needed(), MOST_UP_TIME);
        record.healthy(now + 400 * MINUTE);
        record.eject(&rule, now + 600 * MINUTE);
        assert_eq!(record.up_time_needed(), rule.hold, "long forgiven");
    }
}
