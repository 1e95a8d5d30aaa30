//! What a replay counts while it runs, for [`super::expect`] and [`super::report`].

pub mod series;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use self::series::Series;

use crate::model::health::Transition;

/// The window over which retries are compared with requests, in seconds.
const WINDOW: u64 = 10;

/// How a client's request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// Answered well.
    Well,
    /// Failed, and a healthy permitted upstream could have served it.
    Lost,
    /// Failed, and nobody could have served it.
    Hopeless,
}

/// Everything that happened, by numbers. Times are those of the replay.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Client requests.
    pub requests: u64,
    /// Of them, failed though a healthy permitted upstream could have served them.
    pub lost: u64,
    /// [`Tally::lost`] by how many flips there had been when the request began.
    pub lost_after_flips: Vec<u64>,
    /// Of [`Tally::lost`], with a safe method.
    pub lost_safe: u64,
    /// Of them, failed for everybody.
    pub hopeless: u64,
    /// What would have been lost with the first upstream alone.
    pub lost_without: f64,
    /// Attempts at upstreams, for client requests.
    pub attempts: u64,
    /// Requests by the upstream whose answer the client got.
    pub served_by: Vec<u64>,
    /// The same, in the middle of the fault.
    pub served_in_the_middle: Vec<u64>,
    /// Requests and well answered ones while the trigger lasted.
    pub during: (u64, u64),
    /// Unsafe requests that two upstreams may have acted on.
    pub unsafe_replayed: u32,
    /// The first client request that a fault met.
    pub first_fault: Option<Duration>,
    /// The last client request that was lost or hopeless for a fault's sake.
    pub last_bad: Option<Duration>,
    /// Most attempts over requests in any `WINDOW`.
    pub amplification: f64,
    /// What the detector concluded, in order.
    pub transitions: Vec<(Duration, Transition)>,
    /// Changes of the pool's first candidate: when, from, to.
    pub flips: Vec<(Duration, usize, usize)>,
    /// Who was ejected at some time.
    pub ejected: BTreeSet<usize>,
    /// What happened when.
    pub series: Series,
    window: VecDeque<(u64, u64, u64)>,
}

impl Tally {
    /// Nothing yet.
    pub fn new(upstreams: usize, series: Series) -> Self {
        Self {
            series,
            served_by: vec![0; upstreams],
            served_in_the_middle: vec![0; upstreams],
            amplification: 1.0,
            ..Self::default()
        }
    }

    /// A request and its first attempt begin.
    pub fn begin(&mut self, at: Duration) {
        self.requests += 1;
        self.attempts += 1;
        self.in_window(at, 1, 1);
    }

    /// A further attempt begins.
    pub fn retry(&mut self, at: Duration) {
        self.attempts += 1;
        self.in_window(at, 0, 1);
    }

    /// Many requests, each answered by its first upstream.
    pub fn serve(&mut self, upstream: usize, requests: u64) {
        self.requests += requests;
        self.attempts += requests;
        self.served_by[upstream] += requests;
    }

    /// A request is lost that a healthy permitted upstream could have served.
    pub fn lose(&mut self, began: Duration) {
        self.lost += 1;
        let flips = self.flips.partition_point(|(at, ..)| *at < began);
        if self.lost_after_flips.len() <= flips {
            self.lost_after_flips.resize(flips + 1, 0);
        }
        self.lost_after_flips[flips] += 1;
    }

    /// Share of all requests that were lost.
    pub fn lost_share(&self) -> f64 {
        self.lost as f64 / self.requests.max(1) as f64
    }

    fn in_window(&mut self, at: Duration, requests: u64, attempts: u64) {
        let second = at.as_secs();
        match self.window.back_mut() {
            Some((newest, r, a)) if *newest == second => {
                *r += requests;
                *a += attempts;
            }
            _ => {
                self.judge_window();
                self.window.push_back((second, requests, attempts));
                self.window.retain(|(old, ..)| second - old < WINDOW);
            }
        }
    }

    /// Compares what is in the window, once it is full.
    fn judge_window(&mut self) {
        let (Some(first), Some(last)) = (self.window.front(), self.window.back()) else { return };
        if last.0 - first.0 + 1 < WINDOW {
            return;
        }
        let (requests, attempts) = self
            .window
            .iter()
            .fold((0, 0), |(r, a), (_, requests, attempts)| (r + requests, a + attempts));
        self.amplification = self.amplification.max(attempts as f64 / requests.max(1) as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amplification_is_the_worst_of_any_ten_seconds() {
        let mut tally = Tally::new(1, Series::default());
        for second in 0..30 {
            for _ in 0..10 {
                tally.begin(Duration::from_secs(second));
            }
            if (12..22).contains(&second) {
                tally.retry(Duration::from_secs(second));
            }
        }
        assert!((tally.amplification - 1.1).abs() < 1e-9, "{}", tally.amplification);
        assert_eq!((tally.requests, tally.attempts), (300, 310));
    }
}
