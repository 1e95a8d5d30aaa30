//! How much of the service's load each stand-in carries, and how much of it reaches the origin: a
//! model, for faults of capacity only.

use std::time::Duration;

use crate::rehearse::traffic::RATE;

/// Loads are means of about this long.
const MEMORY: f64 = 5.0;
/// Share of requests that a warm cache passes on to the origin; a cold one passes all on.
const WARM_MISSES: f64 = 0.1;
/// Requests that take a cache two thirds of the way to warm.
const TO_WARM: f64 = 500.0;
/// Seconds without traffic after which two thirds of a cache are gone.
const TO_COLD: f64 = 600.0;

/// Loads of every upstream, and the time up to which they are true.
#[derive(Debug)]
pub(super) struct Load(Vec<Cache>, Duration);

#[derive(Clone, Copy, Debug, Default)]
struct Cache {
    /// Requests a second.
    rate: f64,
    /// How warm, `0..=1`.
    warmth: f64,
}

impl Load {
    pub(super) fn new(upstreams: usize) -> Self {
        Self(vec![Cache::default(); upstreams], Duration::ZERO)
    }

    /// One request came.
    pub(super) fn count(&mut self, upstream: usize, at: Duration) {
        self.pass(at);
        self.0[upstream].rate += 1.0 / MEMORY;
        self.0[upstream].take(1.0);
    }

    /// These many came to each upstream since the last time, evenly.
    pub(super) fn count_many(&mut self, requests: &[f64], at: Duration) {
        let over = self.pass(at);
        for (cache, came) in self.0.iter_mut().zip(requests) {
            if over > 0.0 {
                cache.rate += came / over * (1.0 - (-over / MEMORY).exp());
            }
            cache.take(*came);
        }
    }

    /// Every rate is a mean up to now, so that their sum is one too. Answers the seconds passed.
    fn pass(&mut self, at: Duration) -> f64 {
        let over = at.saturating_sub(self.1).as_secs_f64();
        self.1 = self.1.max(at);
        for cache in &mut self.0 {
            cache.rate *= (-over / MEMORY).exp();
            cache.warmth *= (-over / TO_COLD).exp();
        }
        over
    }

    /// In shares of the service's demand.
    pub(super) fn of(&self, upstream: usize) -> f64 {
        self.0[upstream].rate / RATE
    }

    /// What the caches let through, in shares of the service's demand.
    pub(super) fn of_origin(&self) -> f64 {
        let missed = |cache: &Cache| cache.rate * (1.0 - (1.0 - WARM_MISSES) * cache.warmth);
        self.0.iter().map(missed).sum::<f64>() / RATE
    }
}

impl Cache {
    fn take(&mut self, requests: f64) {
        self.warmth = 1.0 - (1.0 - self.warmth) * (-requests / TO_WARM).exp();
    }
}
