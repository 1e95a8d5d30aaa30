//! The retry budget of a replay: the proxy's own, with one worker.

use std::time::{Duration, Instant};

use crate::exchange::budget;
use crate::exchange::state::PoolState;
use crate::model::id::Label;
use crate::model::topology::RetryRule;
use crate::rehearse::traffic::RATE;

/// The budget of the replay's service.
#[derive(Debug)]
pub(super) struct Budget(PoolState);

impl Budget {
    pub(super) fn new(began: Instant) -> Self {
        let service = Label::new("service").expect("a constant");
        Self(PoolState::new(service, 1, began))
    }

    pub(super) fn count(&self, now: Instant) {
        self.0.rows[0].window.count_request(budget::second_of(self.0.began, now));
    }

    /// What a stride that ends now would have left in the window.
    pub(super) fn refill(&self, now: Instant) {
        let life = budget::CREDIT_LIFE.as_secs();
        for back in (0..life).rev().filter(|back| now - Duration::from_secs(*back) > self.0.began) {
            for _ in 0..RATE as u64 {
                self.count(now - Duration::from_secs(back));
            }
        }
    }

    pub(super) fn take(&self, rule: &RetryRule, now: Instant) -> bool {
        budget::take(&self.0, 0, rule, now)
    }
}
