//! Retry budget of a service: retries of the last ten seconds are at most a share of its requests
//! of the last ten seconds, plus a few a second so that a quiet service can retry at all.
//!
//! While the origin is to blame, a second try is as good as the first, and one a second is made for
//! the whole service instead.
//!
//! Each worker counts its own requests and retries; only a retry, which is rare, sums over the
//! workers. Two workers that ask in the same instant can overshoot by one each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::state::PoolState;
use crate::model::health::Retries;
use crate::model::topology::RetryRule;

/// How long a request's credit lives, in seconds.
const LIFE: u64 = 10;
/// One slot a second, and one being overwritten.
const SLOTS: usize = LIFE as usize + 1;

/// Counts per second over the life of a credit, with one writer.
#[derive(Debug, Default)]
pub struct Window {
    requests: [Slot; SLOTS],
    retries: [Slot; SLOTS],
}

impl Window {
    /// By its one writer only.
    pub fn count_request(&self, second: u64) {
        self.requests[(second % SLOTS as u64) as usize].add(second);
    }

    /// By its one writer only.
    pub fn count_retry(&self, second: u64) {
        self.retries[(second % SLOTS as u64) as usize].add(second);
    }

    fn has_retried(&self, second: u64) -> bool {
        self.retries[(second % SLOTS as u64) as usize].is_of(second)
    }

    fn sum(slots: &[Slot; SLOTS], now: u64) -> u64 {
        slots.iter().map(|slot| slot.within_life(now)).sum()
    }
}

/// Upper half: the second; lower half: the count. One word, so a reader never sees a mix.
#[derive(Debug, Default)]
struct Slot(AtomicU64);

impl Slot {
    fn add(&self, second: u64) {
        let word = self.0.load(Ordering::Relaxed);
        let stamp = (second & 0xffff_ffff) << 32;
        let next = if word & !0xffff_ffff == stamp { word + 1 } else { stamp + 1 };
        self.0.store(next, Ordering::Relaxed);
    }

    /// Whether anything was counted in this second.
    fn is_of(&self, second: u64) -> bool {
        self.0.load(Ordering::Relaxed) >> 32 == second & 0xffff_ffff
    }

    fn within_life(&self, now: u64) -> u64 {
        let word = self.0.load(Ordering::Relaxed);
        let age = (now & 0xffff_ffff).wrapping_sub(word >> 32) & 0xffff_ffff;
        if age < LIFE { word & 0xffff_ffff } else { 0 }
    }
}

/// Whole seconds since the pool's state was made: the unit of the window. Begins at `LIFE`, so
/// that an untouched slot is old.
pub fn second_of(began: Instant, now: Instant) -> u64 {
    now.saturating_duration_since(began).as_secs() + LIFE
}

/// Takes a retry out of the budget, before the retry waits for anything; `worker` is the caller's
/// own row. `false`: it must not be made.
pub fn take(pool: &PoolState, worker: usize, rule: &RetryRule, now: Instant) -> bool {
    let second = second_of(pool.began, now);
    let total = |pick: fn(&Window) -> &[Slot; SLOTS]| -> u64 {
        pool.rows.iter().map(|row| Window::sum(pick(&row.window), second)).sum()
    };
    let retries = total(|window| &window.retries);
    let allowed = match pool.retries() {
        Retries::Budget => {
            let requests = total(|window| &window.requests);
            let share = requests * u64::from(rule.budget.get()) / 1000;
            retries < share + u64::from(rule.min_per_second) * LIFE
        }
        Retries::OneASecond => pool.rows.iter().all(|row| !row.window.has_retried(second)),
    };
    let row = &pool.rows[worker];
    if allowed {
        row.window.count_retry(second);
        row.retries.add(1);
        true
    } else {
        row.budget_refusals.add(1);
        false
    }
}

/// How long credits live.
pub const CREDIT_LIFE: Duration = Duration::from_secs(LIFE);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::Label;
    use crate::model::unit::Permille;

    fn pool(began: Instant) -> PoolState {
        PoolState::new(Label::new("portal").expect("label"), 2, began)
    }

    fn rule() -> RetryRule {
        RetryRule {
            budget: Permille::from_fraction(0.2),
            min_per_second: 3,
            ..RetryRule::default()
        }
    }

    #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning of invented time")]
    fn start() -> Instant {
        Instant::now()
    }

    fn taken(pool: &PoolState, at: Instant) -> usize {
        std::iter::repeat_with(|| take(pool, 0, &rule(), at)).take(1000).filter(|ok| *ok).count()
    }

    #[test]
    fn a_quiet_service_may_retry_its_minimum() {
        let start = start();
        assert_eq!(taken(&pool(start), start), 30);
    }

    #[test]
    fn a_busy_service_may_retry_its_share_besides() {
        let start = start();
        let pool = pool(start);
        for worker in [0, 1] {
            for _ in 0..100 {
                pool.rows[worker].window.count_request(second_of(start, start));
            }
        }
        assert_eq!(taken(&pool, start), 30 + 40);
        assert_eq!(pool.rows[0].budget_refusals.get(), 930);
    }

    #[test]
    fn while_the_origin_is_blamed_one_a_second_goes_on_whatever_is_due() {
        let start = start();
        let pool = pool(start);
        assert_eq!(taken(&pool, start), 30, "the budget is spent");
        pool.set_retries(Retries::OneASecond);
        assert_eq!(taken(&pool, start), 0, "this second had its share");
        for second in 1..5 {
            assert_eq!(taken(&pool, start + Duration::from_secs(second)), 1);
        }
        pool.set_retries(Retries::Budget);
        assert_eq!(taken(&pool, start + Duration::from_secs(20)), 30, "and all is as before");
    }

    #[test]
    fn credits_and_debts_are_forgotten_after_ten_seconds() {
        let start = start();
        let pool = pool(start);
        for _ in 0..100 {
            pool.rows[0].window.count_request(second_of(start, start));
        }
        assert_eq!(taken(&pool, start + Duration::from_secs(9)), 50);
        assert_eq!(taken(&pool, start + Duration::from_secs(18)), 0);
        assert_eq!(taken(&pool, start + Duration::from_secs(19)), 30);
    }
}
