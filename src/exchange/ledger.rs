//! Counters that every request touches: one row per worker, written by that worker alone with plain
//! loads and stores, summed by whoever reads. They only grow; readers keep differences.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::cell::Cell;
use crate::model::outcome::{MethodClass, Outcome};
use crate::model::signal::{DURATION_BOUNDS, DURATION_BUCKETS};

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// By its one writer only: a load and a store, not an atomic addition.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// By its one writer only; for gauges of things that also end.
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// By anyone.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// By its one writer only: whoever sees it with [`Counter::seen`] sees all that was counted before.
    fn stamp(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// By anyone.
    fn seen(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// A histogram of durations with one writer.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [Counter; DURATION_BUCKETS],
    sum_micros: Counter,
}

impl Durations {
    /// By its one writer only.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = DURATION_BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[place].add(1);
        self.sum_micros.add(took.as_micros() as u64);
    }

    /// Adds this row to a sum over rows.
    pub fn add_to(&self, total: &mut DurationCounts) {
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.get();
        }
        total.sum_micros += self.sum_micros.get();
    }
}

/// A histogram as read: counts per bucket (not cumulative), the last without upper bound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DurationCounts {
    /// In the order of [`DURATION_BOUNDS`], then one more.
    pub buckets: [u64; DURATION_BUCKETS],
    /// Of all observed durations.
    pub sum_micros: u64,
}

/// Direction of counted bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// Request bodies, towards the upstream.
    Sent,
    /// Answer bodies, from the upstream.
    Received,
}

/// What one worker counted of one upstream.
#[derive(Debug, Default)]
#[repr(align(128))] // Two cache lines: neighbouring workers' rows never share one.
pub struct UpstreamRow {
    outcomes: [[Counter; Outcome::COUNT]; 2],
    /// Grows with each outcome, after it.
    stamps: Counter,
    /// Answers that carried the marker.
    pub marked: Counter,
    /// Answers that could have.
    pub markable: Counter,
    /// From the start of an attempt to its head.
    pub durations: Durations,
    /// Body bytes towards the upstream.
    pub sent: Counter,
    /// Body bytes from it.
    pub received: Counter,
    /// Attempts whose answer has not ended yet.
    pub in_flight: Counter,
}

impl UpstreamRow {
    /// By its one writer only.
    pub fn count(&self, class: MethodClass, outcome: Outcome) {
        self.outcomes[class.index()][outcome.index()].add(1);
        self.stamps.stamp();
    }

    /// How many outcomes there were in all: where that has not changed, nothing has.
    pub fn stamps(&self) -> u64 {
        self.stamps.seen()
    }

    /// How often an outcome was counted.
    pub fn outcome(&self, class: MethodClass, outcome: Outcome) -> u64 {
        self.outcomes[class.index()][outcome.index()].get()
    }
}

/// What attempts at one upstream came to, by host, where its pool has several.
#[derive(Debug)]
pub struct HostLedger {
    /// Unique in this process, never reused.
    pub serial: u64,
    /// By worker, then by [`HostId`](crate::model::cell::HostId).
    rows: Box<[Box<[HostRow]>]>,
}

/// Outcomes that matter, by method class.
#[derive(Debug, Default)]
struct HostRow([[Counter; 3]; 2]);

impl HostLedger {
    /// For so many workers and hosts.
    pub fn new(serial: u64, workers: usize, hosts: usize) -> Self {
        let row = |_| (0..hosts).map(|_| HostRow::default()).collect();
        Self { serial, rows: (0..workers).map(row).collect() }
    }

    /// By this worker only. What no row is for, and what says nothing, is not counted.
    pub fn count(&self, worker: usize, cell: Cell, outcome: Outcome) {
        let place = match outcome {
            Outcome::Success => 0,
            Outcome::OriginError => 1,
            Outcome::Failure(_) => 2,
            Outcome::Ignored(_) => return,
        };
        if let Some(row) = self.rows[worker].get(cell.host.index()) {
            row.0[cell.class.index()][place].add(1);
        }
    }

    /// How many hosts.
    pub fn hosts(&self) -> usize {
        self.rows.first().map_or(0, |row| row.len())
    }

    /// Of one host and method class: successes, origin errors, failures.
    pub fn sum(&self, cell: Cell) -> [u64; 3] {
        let mut sum = [0; 3];
        for row in self.rows.iter().filter_map(|rows| rows.get(cell.host.index())) {
            for (total, counter) in sum.iter_mut().zip(&row.0[cell.class.index()]) {
                *total += counter.get();
            }
        }
        sum
    }
}

/// Classes of status codes sent to clients, in the order of [`PoolRow::answers`].
pub const CODE_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What one worker counted of one pool.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct PoolRow {
    /// Answers to clients by class of their code, 1xx first.
    pub answers: [Counter; 5],
    /// From a request's head to its answer's head.
    pub durations: Durations,
    /// Requests whose answer has not ended yet.
    pub in_flight: Counter,
    /// Attempts beyond a request's first.
    pub retries: Counter,
    /// Retries that the budget refused.
    pub budget_refusals: Counter,
    /// Requests that went to another upstream than planned, because that could hold no more.
    pub spilled: Counter,
    /// Requests turned away because no upstream could hold more.
    pub overload_refusals: Counter,
    /// Requests and retries of the last ten seconds.
    pub window: super::budget::Window,
}
