//! What attempts of a replay come to, told to the detector as `proxy::judge` would tell it.

use std::time::Duration;

use http::HeaderMap;

use super::{Event, Replay};
use crate::model::id::UpstreamId;
use crate::model::outcome::{Marker, Outcome};
use crate::model::signal::{Note, Reply, ResolutionReport, Signal, Subject};
use crate::rehearse::scenario::MarkerFate;
use crate::rehearse::traffic::Request;
use crate::request::classify::{self, Acquaintance};
use crate::request::witness::{client_prefix, witness};

/// How long an answer about a name is good, and the longest time between two look-ups that fail.
const NAME_LIVES: Duration = Duration::from_secs(30);

/// A head that came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) took: Duration,
    pub(super) status: u16,
    pub(super) fate: MarkerFate,
}

impl Replay {
    /// What an answer says of the marker, for a service that has one configured.
    pub(super) fn marker(&self, marker: MarkerFate) -> Marker {
        match (&self.rules().marker, marker) {
            (None, _) => Marker::Unconfigured,
            (Some(_), MarkerFate::Kept) => Marker::Present,
            (Some(_), MarkerFate::Absent) => Marker::Absent,
        }
    }

    /// A head came: counts it, and judges it.
    pub(super) fn head(
        &mut self,
        upstream: usize,
        request: &Request,
        head: Head,
    ) -> (Outcome, Marker) {
        let Head { took, status, fate } = head;
        let marker = self.marker(fate);
        let status = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
        let expected = classify::is_markable(status).then_some(marker);
        self.steer.head(upstream, took, expected);
        let trust = self.steer.flags(upstream).trust;
        let verdict = classify::head(status, marker, trust, || self.acquaintance(request));
        let habits = &self.topology.provider_of(UpstreamId::new(upstream)).habits;
        // The fields of a scenario are for people: its statuses alone are looked at.
        let (verdict, marker) =
            classify::with_habits((verdict, marker), status, &HeaderMap::new(), habits);
        if verdict == Outcome::Success && marker == Marker::Present && status.is_success() {
            let now = self.steer.instant(self.now);
            self.clients.note(client_prefix(request.client()), now);
        }
        (verdict, marker)
    }

    fn acquaintance(&self, request: &Request) -> Acquaintance {
        let now = self.steer.instant(self.now);
        match self.clients.knows(client_prefix(request.client()), now) {
            true => Acquaintance::KnownGood,
            false => Acquaintance::Stranger,
        }
    }

    /// What an attempt came to.
    pub(super) fn conclude(
        &mut self,
        upstream: usize,
        request: &Request,
        outcome: Outcome,
        marker: Marker,
    ) {
        let cell = request.cell();
        self.steer.count(self.now, upstream, (cell, outcome));
        let subject = match outcome {
            Outcome::Failure(kind) => Subject::Failure(kind),
            Outcome::OriginError => Subject::OriginError,
            Outcome::Success | Outcome::Ignored(_) => return,
        };
        let url_path = self.demand.url_path(request);
        self.steer.tell(Signal::Note(Note {
            upstream: UpstreamId::new(upstream),
            at: self.steer.instant(self.now),
            subject,
            witness: witness(request.client(), request.method(), url_path),
            cell,
            marker,
        }));
    }

    /// Looks an upstream's name up, and plans the next time: as `control::dns` would.
    pub(super) fn look_up(&mut self, upstream: usize, failed: u32) {
        let reply = self.world.look_up(self.places[upstream], self.now, &mut self.rng);
        let (pause, failed) = match reply {
            Reply::Came => (NAME_LIVES, 0),
            Reply::Missing => (Duration::from_secs(1 << failed.min(5)).min(NAME_LIVES), failed + 1),
        };
        self.plan(self.now + pause, Event::LookUp { upstream, failed });
        let (upstream, at) = (UpstreamId::new(upstream), self.steer.instant(self.now));
        self.steer.tell(Signal::Resolution(ResolutionReport { upstream, at, reply }));
    }
}
