//! What happened, on its way to the steering loop: bounded, never waited for.
//!
//! Evidence names upstreams by serial number, because it may come from a request that began under
//! an older topology. When the ring is full the newest is dropped and counted; the ledger still has
//! the outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::model::cell::Cell;
use crate::model::id::Label;
use crate::model::outcome::Marker;
use crate::model::signal::{PairEnd, ProbeResult, Reply, Subject, Witness};

/// Notes and pairs waiting for a drain, at most.
const CAPACITY: usize = 8192;

/// One piece of evidence. The fields are those of [`Signal`](crate::model::signal::Signal).
#[derive(Clone, Debug)]
pub enum Evidence {
    /// One failure, or one 5xx of the origin's.
    Note {
        /// Of the upstream.
        serial: u64,
        /// When it was counted.
        at: Instant,
        /// What it was.
        subject: Subject,
        /// Who saw it.
        witness: Witness,
        /// Of the request.
        cell: Cell,
        /// What the answer said of the marker.
        marker: Marker,
    },
    /// One retried request.
    Pair {
        /// Where it failed first.
        first: u64,
        /// Where it was tried next.
        second: u64,
        /// How that went.
        second_went: PairEnd,
        /// When that was known.
        at: Instant,
        /// Of the request.
        cell: Cell,
    },
    /// One probe of an upstream.
    Probe {
        /// Of the upstream.
        serial: u64,
        /// When it was known.
        at: Instant,
        /// What it came to.
        result: ProbeResult,
        /// How long it took.
        took: Duration,
    },
    /// One probe of an origin.
    Origin {
        /// Whose origin.
        service: Label,
        /// When it was known.
        at: Instant,
        /// What it came to.
        result: ProbeResult,
    },
    /// One look-up of an upstream's name.
    Resolution {
        /// Of the upstream.
        serial: u64,
        /// When it was known.
        at: Instant,
        /// Whether addresses came.
        reply: Reply,
    },
    /// One round over the control targets.
    Control {
        /// When it was known.
        at: Instant,
        /// Whether any of them answered.
        reply: Reply,
    },
}

/// The witnesses' end. Clone freely.
#[derive(Clone, Debug)]
pub struct EvidenceSender {
    ring: mpsc::Sender<Evidence>,
    dropped: Arc<Dropped>,
}

/// What found no place.
#[derive(Debug, Default)]
struct Dropped {
    traffic: AtomicU64,
    probes: AtomicU64,
}

/// The steering loop's end.
#[derive(Debug)]
pub struct EvidenceReceiver {
    ring: mpsc::Receiver<Evidence>,
}

/// Both ends.
pub fn channel() -> (EvidenceSender, EvidenceReceiver) {
    let (ring, receiver) = mpsc::channel(CAPACITY);
    let sender = EvidenceSender { ring, dropped: Arc::default() };
    (sender, EvidenceReceiver { ring: receiver })
}

impl EvidenceSender {
    /// Never waits; what finds no place is counted by what it was.
    pub fn send(&self, evidence: Evidence) {
        let Err(refused) = self.ring.try_send(evidence) else { return };
        let count = match refused.into_inner() {
            Evidence::Probe { .. } | Evidence::Origin { .. } | Evidence::Control { .. } => {
                &self.dropped.probes
            }
            Evidence::Note { .. } | Evidence::Pair { .. } | Evidence::Resolution { .. } => {
                &self.dropped.traffic
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many found no place so far, reports of probes left out.
    pub fn dropped(&self) -> u64 {
        self.dropped.traffic.load(Ordering::Relaxed)
    }

    /// How many reports of probes found none.
    pub fn probe_reports_dropped(&self) -> u64 {
        self.dropped.probes.load(Ordering::Relaxed)
    }
}

impl EvidenceReceiver {
    /// Waits for one; `None` when every sender is gone. Cancel-safe: nothing is lost when dropped.
    pub async fn next(&mut self) -> Option<Evidence> {
        self.ring.recv().await
    }

    /// One that is already there.
    pub fn ready(&mut self) -> Option<Evidence> {
        self.ring.try_recv().ok()
    }
}
