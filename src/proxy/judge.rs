//! Records what one attempt came to: once, whatever happens to it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{StatusCode, response};

use super::permit::Permit;
use super::request_body::RequestBody;
use super::story::Story;
use super::transaction::Transaction;
use super::worker::Worker;
use crate::clock;
use crate::exchange::evidence::Evidence;
use crate::exchange::lately::NameHash;
use crate::exchange::ledger::HostLedger;
use crate::exchange::state::UpstreamState;
use crate::model::cell::Cell;
use crate::model::id::UpstreamId;
use crate::model::outcome::{FailureKind, Ignored, Marker, Outcome};
use crate::model::signal::{Subject, Witness};
use crate::request::classify::{self, Acquaintance, MarkerTrust};
use crate::request::marker;
use crate::routing::matcher::Spelling;

/// One attempt's record. Dropped without a word, it says that the client went away.
pub(super) struct Judge {
    worker: Rc<Worker>,
    state: Arc<UpstreamState>,
    upstream: UpstreamId,
    body: RequestBody,
    cell: Cell,
    /// By host, where the pool has several.
    hosts: Option<Arc<HostLedger>>,
    witness: Witness,
    marker: Marker,
    /// The host, where the client may have made it up.
    name: Option<NameHash>,
    permit: Permit,
    concluded: bool,
    /// And the attempt's place in it.
    story: Option<(Rc<Story>, usize)>,
}

impl Judge {
    pub(super) fn new(transaction: &Transaction, upstream: UpstreamId) -> Self {
        let states = &transaction.view.states;
        let state = states.upstream(upstream);
        state.rows[transaction.worker.index].in_flight.add(1);
        Self {
            worker: Rc::clone(&transaction.worker),
            state: Arc::clone(state),
            upstream,
            body: transaction.body.clone(),
            cell: transaction.head.cell,
            hosts: states.hosts[upstream.index()].clone(),
            witness: transaction.witness,
            marker: Marker::Unconfigured,
            name: match transaction.head.spelling {
                Spelling::Ours => None,
                Spelling::Theirs => Some(state.names.hash(transaction.head.authority.as_bytes())),
            },
            permit: Permit::new(transaction),
            concluded: false,
            story: transaction.story.as_ref().map(|story| {
                let topology = &transaction.view.routing.topology;
                let jurisdiction = topology.provider_of(upstream).jurisdiction;
                (Rc::clone(story), story.attempt(state, jurisdiction))
            }),
        }
    }

    /// What the upstream is told of the trace; `None`: what came from the client.
    #[cfg(feature = "otlp")]
    pub(super) fn told(&self) -> Option<crate::request::trace_context::Told> {
        let (story, attempt) = self.story.as_ref()?;
        story.told(*attempt)
    }

    /// A head came: counts what is certain by now, and says what it came to.
    pub(super) fn head(
        &mut self,
        head: &response::Parts,
        started: Instant,
        transaction: &Transaction,
    ) -> Outcome {
        let status = head.status;
        let rule = transaction.pool().rules.marker.as_ref();
        let authority = transaction.head.authority.to_str().unwrap_or_default();
        let answer = marker::Answer { status, headers: &head.headers, authority };
        let marker = marker::read(rule, answer, clock::wall);
        if marker == Marker::Old && marker::is_refusal(status) {
            self.complain_of_old_marker(status);
        }
        let row = &self.state.rows[self.worker.index];
        let took = clock::now().saturating_duration_since(started);
        row.durations.observe(took);
        if let Some((story, attempt)) = &self.story {
            story.head(*attempt, status, took, marker);
        }
        if classify::is_markable(status) && matches!(marker, Marker::Present | Marker::Absent) {
            row.markable.add(1);
            row.marked.add(u64::from(marker == Marker::Present));
        }
        self.marker = marker;
        let trust =
            if self.state.is_marker_armed() { MarkerTrust::Armed } else { MarkerTrust::Unarmed };
        let clients = &transaction.state().clients;
        let client = || match clients.knows(transaction.client, clock::now()) {
            true => Acquaintance::KnownGood,
            false => Acquaintance::Stranger,
        };
        let verdict = classify::head(status, marker, trust, client);
        let verdict = classify::with_reason(verdict, &head.headers);
        // Apart from failures nobody's habits matter.
        let verdict = match verdict {
            Outcome::Failure(_) => {
                let habits = &transaction.view.routing.topology.provider_of(self.upstream).habits;
                let told = (verdict, marker);
                let (verdict, marker) = classify::with_habits(told, status, &head.headers, habits);
                self.marker = marker;
                verdict
            }
            Outcome::Success | Outcome::OriginError | Outcome::Ignored(_) => verdict,
        };
        if verdict == Outcome::Success && status.is_success() {
            if marker == Marker::Present {
                clients.note(transaction.client, started);
            }
            if let Some(name) = self.name {
                self.state.names.note(name, started);
            }
        }
        // A good head may still have a bad body; a bad one is bad already.
        if verdict != Outcome::Success {
            self.conclude(verdict);
        }
        verdict
    }

    /// Either an error is kept in a cache, or the marker is not renewed, or a clock is wrong: each of it
    /// makes the origin's errors look like the provider's.
    fn complain_of_old_marker(&self, status: StatusCode) {
        let key = &self.state.key;
        self.worker.complain(|| {
            tracing::warn!(
                service = key.service.as_str(),
                provider = key.provider.as_str(),
                status = status.as_u16(),
                "an error bears an origin marker that is not of now: it counts as the provider's"
            );
        });
    }

    /// What the attempt came to; only the first word counts.
    pub(super) fn conclude(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.concluded, true) {
            return;
        }
        let outcome = match outcome {
            Outcome::Failure(kind) if self.is_made_up(kind) => {
                Outcome::Ignored(Ignored::UnknownName)
            }
            Outcome::Success | Outcome::OriginError | Outcome::Failure(_) | Outcome::Ignored(_) => {
                outcome
            }
        };
        if let Some((story, attempt)) = &self.story {
            story.concluded(*attempt, outcome);
        }
        self.state.rows[self.worker.index].count(self.cell.class, outcome);
        if let Some(hosts) = &self.hosts {
            hosts.count(self.worker.index, self.cell, outcome);
        }
        let subject = match outcome {
            Outcome::Failure(kind) => Subject::Failure(kind),
            Outcome::OriginError => Subject::OriginError,
            Outcome::Success | Outcome::Ignored(_) => return,
        };
        self.worker.evidence.send(Evidence::Note {
            serial: self.state.serial,
            at: clock::now(),
            subject,
            witness: self.witness,
            cell: self.cell,
            marker: self.marker,
        });
    }

    /// Whether the failure may be that of a name which was never the upstream's to serve. Where none
    /// is known yet, only what depends on nothing but the name is.
    fn is_made_up(&self, kind: FailureKind) -> bool {
        let names = &self.state.names;
        let is_strange = || self.name.is_some_and(|name| !names.knows(name, clock::now()));
        match kind {
            FailureKind::Dns | FailureKind::Connect => false,
            FailureKind::Tls => is_strange(),
            FailureKind::Late
            | FailureKind::BrokeOff
            | FailureKind::BodyCut
            | FailureKind::BodyStall
            | FailureKind::ServerError
            | FailureKind::Overloaded
            | FailureKind::EdgeLeg
            | FailureKind::MarkerMissing
            | FailureKind::Blocked => !names.is_empty() && is_strange(),
        }
    }

    /// Ends when the upstream has been left for a while and another one serves, or once it is forbidden.
    pub(super) fn left(&self) -> impl Future<Output = ()> + 'static {
        let left = self.worker.connections.of(&self.state).left_for(Rc::clone(&self.worker));
        let permit = self.permit.clone();
        let forbidden = permit.run_out(Rc::clone(&self.worker), Arc::clone(&self.state));
        async move {
            // Both only wait, and what they wait for ends the stream.
            tokio::select! {
                () = left => {}
                () = forbidden => {}
            }
        }
    }

    /// Whether a newer file forbids what goes on here, and its grace is over.
    pub(super) fn is_forbidden(&self) -> bool {
        self.permit.is_over(&self.worker, &self.state)
    }

    /// Bytes went to the upstream that are no request's body.
    pub(super) fn sent(&self, bytes: u64) {
        self.state.rows[self.worker.index].sent.add(bytes);
        if let Some((story, _)) = &self.story {
            story.received(bytes);
        }
    }

    /// Body bytes came from the upstream.
    pub(super) fn received(&self, bytes: u64) {
        self.state.rows[self.worker.index].received.add(bytes);
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        // Dropped without a word: the client went away while we waited.
        self.conclude(Outcome::Ignored(Ignored::ClientGone));
        let row = &self.state.rows[self.worker.index];
        row.in_flight.sub(1);
        row.sent.add(self.body.read());
        if let Some((story, _)) = &self.story {
            story.received(self.body.read());
        }
        #[cfg(feature = "otlp")]
        if let Some((story, attempt)) = &self.story {
            story.ended(*attempt);
        }
    }
}
