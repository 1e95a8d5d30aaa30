//! The retry budget of a replay: the proxy's own, with one worker.

use std::time::{Duration, Instant};

use crate::exchange::budget;
use crate::exchange::state::PoolState;
use crate::model::health::Retries;
use crate::model::id::Label;
use crate::model::topology::RetryRule;

/// The budget of one service of the replay.
#[derive(Debug)]
pub(super) struct Budget {
    state: PoolState,
    /// Requests a second.
    rate: f64,
}

impl Budget {
    pub(super) fn new(service: Label, rate: f64, began: Instant) -> Self {
        Self { state: PoolState::new(service, 1, began), rate }
    }

    pub(super) fn count(&self, now: Instant) {
        self.state.rows[0].window.count_request(budget::second_of(self.state.began, now));
    }

    /// What a stride that ends now would have left in the window.
    pub(super) fn refill(&self, now: Instant) {
        let life = budget::CREDIT_LIFE.as_secs();
        let mut due = 0.0;
        for back in (0..life).rev() {
            due += self.rate;
            let second = now.checked_sub(Duration::from_secs(back));
            if let Some(second) = second.filter(|second| *second > self.state.began) {
                (0..due as u64).for_each(|_| self.count(second));
            }
            due = due.fract();
        }
    }

    /// How many it may give from now on.
    pub(super) fn set_retries(&self, retries: Retries) {
        self.state.set_retries(retries);
    }

    pub(super) fn take(&self, rule: &RetryRule, now: Instant) -> bool {
        budget::take(&self.state, 0, rule, now)
    }
}
