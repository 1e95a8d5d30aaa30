//! The loop's memory: what it goes on from at the start, and what it hands to the keeper.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Steering;
use crate::clock;
use crate::control::keeper::{Busy, Keeper, Restored};
use crate::control::memory::{self, KnownAddresses, Remembered};
use crate::control::orders::Moment;
use crate::exchange::addresses::Answer;
use crate::exchange::commands::HandOver;
use crate::exchange::state::States;
use crate::model::health::PoolStanding;
use crate::model::id::UpstreamKey;
use crate::telemetry::journal::{Event, Line, rfc3339};
use crate::telemetry::setup::Chain;

/// What is remembered is handed over at every transition and at least this often.
const EVERY: Duration = Duration::from_secs(10);

/// Where to keep things, and what was kept before.
#[derive(Debug)]
pub struct Keeping {
    /// Takes errands; `None`: there is no `state_dir`.
    pub keeper: Option<Keeper>,
    /// From the process before this one.
    pub restored: Restored,
    /// Addresses older than this are not gone by.
    pub stale: Duration,
}

/// Whether the keeper has everything that must not be lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Handed {
    /// As of then.
    At(Instant),
    /// Something happened since.
    Behind,
    /// Another process keeps it.
    Over,
}

impl Steering {
    /// Takes in what the process before this one knew, before the first request: beliefs, orders.
    pub(super) fn resume(&mut self, remembered: &Remembered, now: Instant) {
        let mut transitions = self.detector.resume(&remembered.memory, now);
        transitions.extend(self.detector.obey(self.orders.overrides(), now));
        let wall = clock::wall();
        let known = remembered.memory.upstreams.len();
        let text = format!("bascule {} started", env!("CARGO_PKG_VERSION"));
        let (at, event) = (rfc3339(wall), Event::Started);
        let generation = self.publisher.current().routing.generation.get();
        self.journal.add(Line { at, event, text, generation, ..Line::default() }, wall);
        let view = self.publisher.current();
        for line in self.incidents.resume(&remembered.open, &view, Moment { now, wall }) {
            self.journal.add(line, wall);
        }
        if known > 0 || !self.orders.is_empty() {
            tracing::info!(upstreams = known, orders = self.orders.all().len(), "remembered");
        }
        self.lapse(now);
        self.conclude(&transitions, now);
    }

    /// Keeps the books of incidents, and tells what begins and ends.
    pub(super) fn account(&mut self, standings: &[PoolStanding], now: Instant) {
        let view = self.publisher.current();
        let at = Moment { now, wall: clock::wall() };
        for line in self.incidents.look(&view, standings, at) {
            tracing::info!(service = line.service.as_deref(), "{}", line.text);
            self.journal.add(line, at.wall);
        }
    }

    /// Hands over what must outlive the process, if anything happened or enough time has gone by.
    pub(super) fn keep(&mut self, now: Instant) {
        let due = match self.handed {
            Handed::At(at) => now >= at + EVERY,
            Handed::Behind => true,
            Handed::Over => false,
        };
        if due {
            self.keep_now(now);
        }
    }

    /// Something happened that must not be lost.
    pub(super) fn fall_behind(&mut self) {
        if self.handed != Handed::Over {
            self.handed = Handed::Behind;
        }
    }

    /// Hands it over in any case. Where the keeper has no room, the next time does it.
    pub(super) fn keep_now(&mut self, now: Instant) {
        let Some(keeper) = self.keeper.as_ref().filter(|_| self.handed != Handed::Over) else {
            return;
        };
        let at = Moment { now, wall: clock::wall() };
        self.handed = match keeper.remember(Box::new(self.known()), at) {
            Ok(()) => Handed::At(now),
            Err(Busy) => Handed::Behind,
        };
    }

    fn known(&self) -> Remembered {
        let view = self.publisher.current();
        Remembered {
            memory: self.detector.memory(),
            orders: self.orders.all().to_vec(),
            addresses: known_addresses(&view.states),
            open: self.incidents.open(&view),
        }
    }

    /// Says all that is known, and leaves the keeping of it to another process.
    pub(super) fn hand_over(&mut self, reply: oneshot::Sender<HandOver>) {
        let at = Moment { now: clock::now(), wall: clock::wall() };
        self.keep_now(at.now);
        let (done, released) = oneshot::channel();
        if let Some(Err(Busy)) = self.keeper.as_ref().map(|keeper| keeper.release(done)) {
            tracing::warn!("state_dir does not keep up: it is given up when this process ends");
        }
        let memory = memory::write(&self.known(), at).unwrap_or_else(|error| {
            tracing::error!(error = %Chain(&error), "memory cannot be written down");
            Vec::new()
        });
        self.handed = Handed::Over;
        if reply.send(HandOver { memory, released }).is_err() {
            self.take_back();
        }
    }

    /// Keeps things again: nobody took over.
    pub(super) fn take_back(&mut self) {
        if let Some(Err(Busy)) = self.keeper.as_ref().map(Keeper::resume) {
            tracing::error!("state_dir does not keep up: nothing is kept until the next start");
        }
        self.handed = Handed::Behind;
    }
}

fn known_addresses(states: &States) -> Vec<(UpstreamKey, KnownAddresses)> {
    let known = states.upstreams.iter().filter_map(|state| {
        let answer = state.addresses.current();
        let (addresses, at) = (answer.addresses.clone(), answer.at?);
        Some((state.key.clone(), KnownAddresses { addresses, at }))
    });
    known.collect()
}

/// Fills the address books with what was dialled before, so that a start without a resolver serves.
/// Literal addresses are not touched: they are what the file says.
pub(super) fn resume_addresses(
    states: &States,
    known: Vec<(UpstreamKey, KnownAddresses)>,
    stale: Duration,
    now: Instant,
) {
    for (key, KnownAddresses { addresses, at }) in known {
        let is_fresh = now.saturating_duration_since(at) < stale;
        let state = states.upstreams.iter().find(|state| state.key == key);
        if let Some(state) = state
            .map(Arc::as_ref)
            .filter(|state| is_fresh && state.addresses.current().addresses.is_empty())
        {
            state.addresses.publish(Answer { addresses, at: Some(at) });
        }
    }
}
