//! Whether a listener's clients all come through one proxy that nobody trusts: then they would all be
//! taken for one, by limits and by the detector's witnesses.

use std::sync::atomic::{AtomicBool, Ordering};

use super::ledger::Counter;

/// Connections after which an opinion is formed.
const WINDOW: u64 = 200;
/// Of them, in per cent, that come from one network and name others.
const NEARLY_ALL: u64 = 90;

/// What one worker saw at one listener. Written by that worker only.
#[derive(Debug, Default)]
pub struct Forwarded {
    seen: Counter,
    claimed: Counter,
    /// The network that began this window's claims; 0: none yet.
    network: Counter,
    suspected: AtomicBool,
}

impl Forwarded {
    /// One connection's first request; `claims`: the network of a stranger that names other clients.
    /// Whether it has just become clear that nearly all come through that network.
    pub fn note(&self, claims: Option<u64>) -> bool {
        self.seen.add(1);
        if let Some(network) = claims {
            if self.network.get() == 0 {
                self.network.add(network.max(1));
            }
            self.claimed.add(u64::from(self.network.get() == network.max(1)));
        }
        if self.seen.get() < WINDOW {
            return false;
        }
        let nearly_all = self.claimed.get() * 100 >= self.seen.get() * NEARLY_ALL;
        for counter in [&self.seen, &self.claimed, &self.network] {
            counter.sub(counter.get());
        }
        !self.suspected.swap(nearly_all, Ordering::Relaxed) && nearly_all
    }

    /// Whether it was so at last.
    pub fn is_suspected(&self) -> bool {
        self.suspected.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_nobody_trusts_is_noticed_once_and_forgotten_when_it_is_gone() {
        let forwarded = Forwarded::default();
        let told: Vec<u64> = (0..600).filter(|_| forwarded.note(Some(7))).collect();
        assert_eq!(told, [199]);
        assert!(forwarded.is_suspected());
        assert!((0..200).all(|_| !forwarded.note(None)));
        assert!(!forwarded.is_suspected());
    }

    #[test]
    fn many_networks_or_clients_beside_it_are_no_proxy() {
        let forwarded = Forwarded::default();
        let many = (0..1000).any(|n| forwarded.note(Some(n)));
        let half = (0..1000).any(|n| forwarded.note((n % 2 == 0).then_some(7)));
        assert!(!many && !half && !forwarded.is_suspected());
    }
}
