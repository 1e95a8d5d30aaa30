//! Signs of life of the threads that must not stop, for a supervisor's watchdog.
//!
//! Each thread counts its own turns; whoever pings the supervisor looks whether every count has moved
//! since the last look. A timer of the pinging thread alone would go on while all others hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The count of a thread that has ended: it is missed no more. Who ends without being asked is seen
/// elsewhere.
const ENDED: u64 = u64::MAX;

/// The counts of all threads.
#[derive(Clone, Debug)]
pub struct Pulse {
    counts: Arc<[AtomicU64]>,
    every: Duration,
}

/// One thread's own count.
#[derive(Clone, Debug)]
pub struct Beat {
    pulse: Pulse,
    place: usize,
}

/// What the last look saw.
#[derive(Debug)]
pub struct Look {
    pulse: Pulse,
    seen: Vec<u64>,
}

/// Marks a thread as ended, however it ends.
struct End(Beat);

impl Drop for End {
    fn drop(&mut self) {
        self.0.count().store(ENDED, Ordering::Relaxed);
    }
}

impl Pulse {
    /// Of `threads` threads, each of which counts once in this time.
    pub fn new(threads: usize, every: Duration) -> Self {
        Self { counts: (0..threads).map(|_| AtomicU64::new(0)).collect(), every }
    }

    /// The count of one thread; `None` beyond the last.
    pub fn beat(&self, place: usize) -> Option<Beat> {
        (place < self.counts.len()).then(|| Beat { pulse: self.clone(), place })
    }

    /// To look at all of them again and again.
    pub fn look(&self) -> Look {
        Look { pulse: self.clone(), seen: vec![ENDED; self.counts.len()] }
    }
}

impl Beat {
    /// Counts until it is dropped; to be run by the thread's own runtime, so that it shows that tasks
    /// get their turn.
    pub async fn keep(self) {
        let (every, end) = (self.pulse.every, End(self));
        loop {
            end.0.count().fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(every).await;
        }
    }

    fn count(&self) -> &AtomicU64 {
        &self.pulse.counts[self.place]
    }
}

impl Look {
    /// The threads that have done nothing since the last call. At the first call all have.
    pub fn silent(&mut self) -> Vec<usize> {
        let mut silent = Vec::new();
        for (place, (count, seen)) in self.pulse.counts.iter().zip(&mut self.seen).enumerate() {
            let now = count.load(Ordering::Relaxed);
            if now == *seen && now != ENDED {
                silent.push(place);
            }
            *seen = now;
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_takes_no_turn_is_missed_until_it_ends() {
        let pulse = Pulse::new(2, Duration::from_secs(1));
        assert!(pulse.beat(2).is_none());
        let (first, second) = (pulse.beat(0).expect("there"), pulse.beat(1).expect("there"));
        let mut look = pulse.look();
        let mut well = Box::pin(first.keep());
        let mut stuck = Box::pin(second.keep());
        let turn = Duration::from_secs(2);
        // Both begin; then only one of them is ever polled.
        assert!(tokio::time::timeout(turn, &mut stuck).await.is_err());
        assert!(tokio::time::timeout(turn, &mut well).await.is_err());
        assert!(look.silent().is_empty(), "the first look has nothing to compare with");
        assert!(tokio::time::timeout(turn, &mut well).await.is_err());
        assert_eq!(look.silent(), [1]);
        drop(stuck);
        assert!(tokio::time::timeout(turn, &mut well).await.is_err());
        assert!(look.silent().is_empty(), "whoever has ended is missed no more");
    }
}
