//! Which hosts' traffic was moved: by where requests were sent first, not by what was decided.

use std::time::Duration;

use crate::rehearse::traffic::HOSTS;

/// Requests are counted over so many seconds.
const WINDOW: u64 = 10;
/// A window with fewer requests of a host says nothing.
const FEWEST: f64 = 20.0;

/// Traffic of every host.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    window: u64,
    /// Of this window: requests, and those that were sent past the operator's first choice.
    counts: [(f64, f64); HOSTS.len()],
    moved: [bool; HOSTS.len()],
}

impl Hosts {
    /// So many requests of a host were sent somewhere first, a part of them past the first choice.
    pub fn sent(&mut self, at: Duration, host: usize, (requests, past): (f64, f64)) {
        let window = at.as_secs() / WINDOW;
        if window != self.window {
            self.window = window;
            self.counts = Default::default();
        }
        let (all, moved) = &mut self.counts[host];
        *all += requests;
        *moved += past;
        self.moved[host] |= *all >= FEWEST && *moved > *all / 2.0;
    }

    /// Hosts most of whose requests went elsewhere at some time.
    pub fn moved(&self) -> impl Iterator<Item = &'static str> {
        HOSTS.into_iter().zip(self.moved).filter(|(_, moved)| *moved).map(|(host, _)| host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_moved_when_most_of_its_requests_are() {
        let mut hosts = Hosts::default();
        for second in 0..100 {
            let at = Duration::from_secs(second);
            hosts.sent(at, 0, (50.0, 1.0));
            hosts.sent(at, 1, (50.0, if (40..60).contains(&second) { 50.0 } else { 0.0 }));
        }
        assert_eq!(hosts.moved().collect::<Vec<_>>(), [HOSTS[1]]);
    }
}
