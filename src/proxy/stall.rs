//! How patient we are with a body that comes slowly: when its sender has been silent, or slow, for too long.

use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use http::HeaderMap;
use tokio::time::Sleep;

use super::reject;
use crate::clock;
use crate::model::topology::Timeouts;

/// Over which the least rate is a mean.
pub(super) const RATE_WINDOW: Duration = Duration::from_secs(10);

/// How patient we are with a body.
#[derive(Clone, Copy, Debug)]
pub(super) enum BodyPatience {
    /// An ordinary one.
    Bounded {
        /// Longest silence.
        stall: Duration,
        /// Bytes a second, mean over [`RATE_WINDOW`] of waiting; 0 = off.
        min_rate: u64,
    },
    /// Server-sent events and gRPC: silence is part of the protocol.
    Unbounded,
}

/// How patient we are with the body behind these fields, in either direction.
pub(super) fn patience(headers: &HeaderMap, timeouts: &Timeouts) -> BodyPatience {
    match reject::is_endless(headers) {
        true => BodyPatience::Unbounded,
        false => {
            BodyPatience::Bounded { stall: timeouts.body_stall, min_rate: timeouts.body_min_rate }
        }
    }
}

/// Looks at one body while it is waited for.
pub(super) struct Watch {
    stall: Duration,
    min_rate: u64,
    timer: Pin<Box<Sleep>>,
    waiting_since: Option<Instant>,
    /// Waited for in the current rate window, and received in it.
    waited: Duration,
    received: u64,
}

impl Watch {
    /// Of a body that is waited for; `None` where silence is a part of it.
    pub(super) fn new(patience: BodyPatience) -> Option<Self> {
        let BodyPatience::Bounded { stall, min_rate } = patience else { return None };
        let timer = Box::pin(tokio::time::sleep(stall.min(RATE_WINDOW)));
        let (waited, received) = (Duration::ZERO, 0);
        Some(Self { stall, min_rate, timer, waiting_since: None, waited, received })
    }

    /// So many bytes came.
    pub(super) fn received(&mut self, bytes: u64) {
        self.received += bytes;
        self.rest();
    }

    /// Nothing is waited for at the moment.
    pub(super) fn rest(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            self.waited += clock::now().saturating_duration_since(since);
        }
    }

    /// Whether the upstream has been silent, or slow, for too long while we were ready to read.
    pub(super) fn is_stalled(&mut self, context: &mut Context<'_>) -> bool {
        let Self { stall, min_rate, .. } = *self;
        let since = *self.waiting_since.get_or_insert_with(clock::now);
        loop {
            let waiting = clock::now().saturating_duration_since(since);
            if waiting >= stall {
                return true;
            }
            let in_window = self.waited + waiting;
            if min_rate > 0 && in_window >= RATE_WINDOW {
                let least = min_rate * RATE_WINDOW.as_secs();
                if self.received < least {
                    return true;
                }
                self.received = 0;
                self.waited = Duration::ZERO;
                self.waiting_since = Some(clock::now());
                return self.is_stalled(context);
            }
            let next = (stall - waiting).min(RATE_WINDOW.saturating_sub(in_window));
            let next = if min_rate > 0 { next } else { stall - waiting };
            self.timer.as_mut().reset(tokio::time::Instant::from_std(clock::now() + next));
            if self.timer.as_mut().poll(context).is_pending() {
                return false;
            }
        }
    }
}
