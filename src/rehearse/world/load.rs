//! How much of the service's load each stand-in carries, and how much of it reaches the origin: a
//! model, for faults of capacity only.

use std::time::Duration;

/// Loads are means of about this long.
const MEMORY: f64 = 5.0;
/// Share of requests that a warm cache passes on to the origin; a cold one passes all on.
const WARM_MISSES: f64 = 0.1;
/// Requests that take a cache two thirds of the way to warm.
const TO_WARM: f64 = 500.0;
/// Seconds without traffic after which two thirds of a cache are gone.
const TO_COLD: f64 = 600.0;

/// Loads of every upstream.
#[derive(Debug)]
pub(super) struct Load {
    caches: Vec<Cache>,
    /// The time up to which they are true.
    until: Duration,
    /// Of the whole service, in requests a second.
    demand: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Cache {
    /// Requests a second.
    rate: f64,
    /// How warm, `0..=1`.
    warmth: f64,
}

impl Load {
    pub(super) fn new(upstreams: usize, demand: f64) -> Self {
        Self { caches: vec![Cache::default(); upstreams], until: Duration::ZERO, demand }
    }

    /// One request came.
    pub(super) fn count(&mut self, upstream: usize, at: Duration) {
        self.pass(at);
        self.caches[upstream].rate += 1.0 / MEMORY;
        self.caches[upstream].take(1.0);
    }

    /// These many came to each upstream since the last time, evenly.
    pub(super) fn count_many(&mut self, requests: &[f64], at: Duration) {
        let over = self.pass(at);
        for (cache, came) in self.caches.iter_mut().zip(requests) {
            if over > 0.0 {
                cache.rate += came / over * (1.0 - (-over / MEMORY).exp());
            }
            cache.take(*came);
        }
    }

    /// Every rate is a mean up to now, so that their sum is one too. Answers the seconds passed.
    fn pass(&mut self, at: Duration) -> f64 {
        let over = at.saturating_sub(self.until).as_secs_f64();
        self.until = self.until.max(at);
        for cache in &mut self.caches {
            cache.rate *= (-over / MEMORY).exp();
            cache.warmth *= (-over / TO_COLD).exp();
        }
        over
    }

    /// In shares of the service's demand.
    pub(super) fn of(&self, upstream: usize) -> f64 {
        self.caches[upstream].rate / self.demand
    }

    /// What the caches let through, in shares of the service's demand.
    pub(super) fn of_origin(&self) -> f64 {
        let missed = |cache: &Cache| cache.rate * (1.0 - (1.0 - WARM_MISSES) * cache.warmth);
        self.caches.iter().map(missed).sum::<f64>() / self.demand
    }
}

impl Cache {
    fn take(&mut self, requests: f64) {
        self.warmth = 1.0 - (1.0 - self.warmth) * (-requests / TO_WARM).exp();
    }
}
