//! Tells a supervisor's watchdog that every thread takes its turns; is silent as soon as one does not,
//! so that the supervisor starts anew what cannot help itself.

use std::time::Duration;

use crate::exchange::pulse::Pulse;
use crate::net::notify::{self, Stage};

/// Turns that a thread counts between two looks, so that a single one that comes late matters little.
const TURNS: u32 = 4;

/// Looks at the threads, for as long as it is polled.
#[derive(Debug)]
pub struct Watchdog {
    pulse: Pulse,
    threads: Vec<String>,
    every: Duration,
}

impl Watchdog {
    /// Over these threads; `None` when no supervisor asks.
    pub fn new(threads: Vec<String>) -> Option<Self> {
        let every = notify::watchdog()?;
        Some(Self { pulse: Pulse::new(threads.len(), every / TURNS), threads, every })
    }

    /// To be counted by the threads.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Pings; never ends.
    pub async fn run(self) {
        let mut look = self.pulse.look();
        loop {
            let silent = look.silent();
            if silent.is_empty() {
                notify::tell(Stage::Alive);
            }
            for name in silent.into_iter().filter_map(|place| self.threads.get(place)) {
                tracing::error!(
                    thread = name,
                    "a thread hangs: the watchdog is not told that all is well"
                );
            }
            tokio::time::sleep(self.every).await;
        }
    }
}
