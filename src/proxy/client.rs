//! One client's connection: who it is, and whether it is idle, sending a head or being served.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::attend::{GOODBYE, HALF_CLOSED, REST};
use super::tunnel::Tunnel;
use super::worker::Worker;
use crate::clock;
use crate::exchange::edge::ListenerState;
use crate::exchange::settings::Settings;
use crate::model::client::prefix;
use crate::model::limits::Limits;
use crate::model::listening::Redirect;
use crate::request::framing::Framing;
use crate::request::headers::{Proto, Trust, X_FORWARDED_FOR, client_address, forwarded_element};
use crate::request::witness::client_prefix;

/// What every request of one connection has in common.
pub(super) struct Client {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: Arc<ListenerState>,
    pub(super) settings: Arc<Settings>,
    pub(super) peer: IpAddr,
    /// `peer` as a field value, made once.
    pub(super) peer_value: HeaderValue,
    pub(super) trust: Trust,
    pub(super) proto: Proto,
    pub(super) redirect: Redirect,
    pub(super) activity: Rc<Activity>,
    /// The last request's host and its element of `Forwarded`: the next one mostly asks the same.
    pub(super) forwarded: RefCell<Option<(HeaderValue, HeaderValue)>>,
    /// What an HTTP/1.1 connection becomes after a 101.
    pub(super) tunnel: RefCell<Option<Tunnel>>,
}

impl Client {
    /// The element of `Forwarded` for a request to this host.
    pub(super) fn forwarded(&self, authority: &HeaderValue) -> HeaderValue {
        let mut last = self.forwarded.borrow_mut();
        match &*last {
            Some((host, element)) if host == authority => element.clone(),
            Some(_) | None => {
                let element = forwarded_element(self.peer, authority, self.proto);
                // A copy of its own: the field's bytes are a slice of all that was read with it.
                let host = HeaderValue::from_bytes(authority.as_bytes());
                *last = host.ok().map(|host| (host, element.clone()));
                element
            }
        }
    }

    /// Who asks: the other end, or whom trusted proxies name.
    pub(super) fn origin(&self, headers: &HeaderMap) -> IpAddr {
        match self.trust {
            Trust::Stranger => self.peer,
            Trust::TrustedProxy => client_address(self.peer, headers, |ip| self.is_trusted(ip)),
        }
    }

    /// Looks, at a connection's first request, whether it seems to be a proxy's.
    pub(super) fn note_forwarding(&self, headers: &HeaderMap) {
        if self.forwarded.borrow().is_some() {
            return;
        }
        let claims = self.trust == Trust::Stranger && headers.contains_key(X_FORWARDED_FOR);
        let network = claims.then(|| client_prefix(self.peer).get());
        if self.listener.rows[self.worker.index].forwarded.note(network) {
            tracing::warn!(
                network = %prefix(self.peer),
                listener = %self.listener.address,
                "nearly all connections come from a proxy that is not in `trusted_proxies`: its \
                 clients are taken for one"
            );
        }
    }

    /// Whether an address is one of `trusted_proxies`.
    fn is_trusted(&self, address: IpAddr) -> bool {
        is_trusted(&self.settings, address)
    }
}

/// Whether an address is one of `trusted_proxies`.
pub(super) fn is_trusted(settings: &Settings, address: IpAddr) -> bool {
    settings.trusted_proxies.iter().any(|range| range.contains(&address))
}

/// What a connection is doing; decides how long it may go on doing it.
#[derive(Debug)]
pub(super) struct Activity {
    /// Requests being served.
    active: Cell<u32>,
    /// Those of them that wait for an upstream.
    waiting: Cell<u32>,
    /// Those of them whose answer has no head yet.
    unanswered: Cell<u32>,
    /// How often the client's side has asked for more of an answer.
    asked: Cell<u32>,
    phase: Cell<Phase>,
    since: Cell<Instant>,
    /// Whether all bytes that came were whole requests.
    read_out: Cell<bool>,
    /// Whether all bytes of answers have been written.
    written_out: Cell<bool>,
    /// Whether some of them had to wait for the client.
    stuck: Cell<bool>,
    /// Bodies of requests that have not been read to their end.
    bodies: Cell<u32>,
    /// Since when nothing more is to come from a client that waits for an answer, and that has taken
    /// nothing of it.
    half_closed: Cell<Option<Instant>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Idle,
    Head,
    Served,
}

/// How long a connection may go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Patience {
    /// For ever: it is being served.
    Served,
    /// Until then, between two requests.
    Idle(Instant),
    /// Until then, inside a head.
    Head(Instant),
}

impl Activity {
    /// Of a connection that has just been accepted: its first head is under way, so that a silent
    /// client has only that long.
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            active: Cell::new(0),
            waiting: Cell::new(0),
            unanswered: Cell::new(0),
            asked: Cell::new(0),
            phase: Cell::new(Phase::Head),
            since: Cell::new(clock::now()),
            read_out: Cell::new(false),
            written_out: Cell::new(true),
            stuck: Cell::new(false),
            bodies: Cell::new(0),
            half_closed: Cell::new(None),
        })
    }

    pub(super) fn bytes_came(&self) {
        if self.phase.get() == Phase::Idle {
            self.phase.set(Phase::Head);
            self.since.set(clock::now());
        }
    }

    /// A request begins; dropping the value ends it.
    pub(super) fn begin(self: &Rc<Self>) -> Active {
        self.active.set(self.active.get() + 1);
        self.waiting.set(self.waiting.get() + 1);
        self.unanswered.set(self.unanswered.get() + 1);
        self.phase.set(Phase::Served);
        let (waits, is_unanswered) = (Cell::new(true), Cell::new(true));
        Active { activity: Rc::clone(self), waits, is_unanswered }
    }

    /// Whether every request being served waits for nobody but the client, and how often it has asked
    /// so far: where neither changes, it takes nothing any more.
    pub(super) fn demand(&self) -> (bool, u32) {
        (self.waiting.get() == 0, self.asked.get())
    }

    /// A body is read from the connection until the value is dropped.
    pub(super) fn reads(self: &Rc<Self>) -> Reading {
        self.bodies.set(self.bodies.get() + 1);
        Reading(Rc::clone(self))
    }

    /// From when on it may wait without hyper: when nothing of a request or of an answer is in its
    /// hands.
    pub(super) fn rests_from(&self) -> Option<Instant> {
        let nothing = self.bodies.get() == 0 && self.read_out.get() && self.written_out.get();
        nothing.then(|| self.since.get() + REST)
    }

    /// Whether nothing of an answer waits to be written.
    pub(super) fn is_written_out(&self) -> bool {
        self.written_out.get()
    }

    /// The client has closed its half. Whether hyper need not know yet: a request that has come as a
    /// whole is answered (RFC 9112, section 9.6).
    fn closes_its_half(&self) -> bool {
        let waits = self.phase.get() == Phase::Served && self.bodies.get() == 0;
        let waits = waits && self.read_out.get();
        if waits && self.half_closed.get().is_none() {
            self.half_closed.set(Some(clock::now()));
        }
        waits
    }

    /// When a client that has closed its half is taken for gone; at once where nothing is left of its
    /// answer.
    pub(super) fn gone_from(&self) -> Option<Instant> {
        let since = self.half_closed.get()?;
        let waits = self.phase.get() == Phase::Served || !self.written_out.get();
        Some(if waits { since + HALF_CLOSED } else { since })
    }

    /// What writing came to.
    fn wrote<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.written_out.set(false);
        match written {
            Poll::Pending => self.stuck.set(true),
            Poll::Ready(Ok(_)) if self.half_closed.get().is_some() => {
                self.half_closed.set(Some(clock::now()));
            }
            Poll::Ready(_) => {}
        }
        written
    }

    /// What flushing came to. After a wait for the client hyper has yet to look at what it read
    /// meanwhile: rest begins anew.
    fn flushed(&self, flushed: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        self.written_out.set(matches!(flushed, Poll::Ready(Ok(()))));
        match flushed {
            Poll::Pending => self.stuck.set(true),
            Poll::Ready(_) if self.stuck.replace(false) && self.phase.get() == Phase::Idle => {
                self.since.set(clock::now());
            }
            Poll::Ready(_) => {}
        }
        flushed
    }

    /// From when on its end may be told, in a drain that began at `begun`; `None`: not yet. A client of
    /// HTTP/1.1 learns it from the head of an answer; where that has gone out, from the next one's. One that
    /// asks for nothing is not waited for.
    pub(super) fn may_be_told_from(&self, word: Word, begun: Instant) -> Option<Instant> {
        match (self.phase.get(), word) {
            (Phase::Served, Word::OfConnection) => Some(begun),
            (Phase::Served, Word::OfAnswer) => (self.unanswered.get() > 0).then_some(begun),
            (Phase::Idle | Phase::Head, Word::OfConnection) => Some(begun + GOODBYE),
            (Phase::Idle | Phase::Head, Word::OfAnswer) => {
                Some(self.since.get().max(begun) + GOODBYE)
            }
        }
    }

    /// How long the connection may go on.
    pub(super) fn patience(&self, limits: &Limits) -> Patience {
        match self.phase.get() {
            Phase::Served => Patience::Served,
            Phase::Idle => Patience::Idle(self.since.get() + limits.idle_timeout),
            Phase::Head => Patience::Head(self.since.get() + limits.header_read_timeout),
        }
    }
}

/// By what a client is told that its connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Word {
    /// `Connection: close` in an answer (RFC 9112, section 9.6).
    OfAnswer,
    /// GOAWAY at any time (RFC 9113, section 6.8).
    OfConnection,
}

/// One request being served on a connection; waits for an upstream until told otherwise.
#[derive(Debug)]
pub(super) struct Active {
    activity: Rc<Activity>,
    waits: Cell<bool>,
    is_unanswered: Cell<bool>,
}

impl Active {
    /// The head of its answer is on its way.
    pub(super) fn answered(&self) {
        if self.is_unanswered.replace(false) {
            self.activity.unanswered.set(self.activity.unanswered.get() - 1);
        }
    }

    /// The client's side has asked for more of the answer; `waits`: there is none yet.
    pub(super) fn asked(&self, waits: bool) {
        let activity = &self.activity;
        activity.asked.set(activity.asked.get().wrapping_add(1));
        if self.waits.replace(waits) != waits {
            let waiting = activity.waiting.get();
            activity.waiting.set(if waits { waiting + 1 } else { waiting - 1 });
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.answered();
        if self.waits.get() {
            self.activity.waiting.set(self.activity.waiting.get() - 1);
        }
        let left = self.activity.active.get() - 1;
        self.activity.active.set(left);
        if left == 0 {
            self.activity.phase.set(Phase::Idle);
            self.activity.since.set(clock::now());
            // hyper may hold the last of the answer yet, and let others have their turn before it writes.
            self.activity.written_out.set(false);
        }
    }
}

/// A request's body that is being read.
#[derive(Debug)]
pub(super) struct Reading(Rc<Activity>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.bodies.set(self.0.bodies.get() - 1);
    }
}

/// A client's bytes, with an eye on when they come and on how they are framed. hyper flushes when it
/// has nothing more to write, and only then gets as far as the stream's own flush.
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) activity: Rc<Activity>,
    pub(super) framing: Framing,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let known = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = result {
            if buffer.filled().len() == known
                && buffer.remaining() > 0
                && self.activity.closes_its_half()
            {
                // Whoever drives the connection wakes it.
                return Poll::Pending;
            }
            self.activity.bytes_came();
            self.framing.follow(&mut buffer.filled_mut()[known..]);
            self.activity.read_out.set(self.framing.is_between());
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.activity.flushed(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.activity.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_an_answer_is_not_taken_for_written_before_hyper_has_flushed_again() {
        let activity = Activity::new();
        let request = activity.begin();
        activity.read_out.set(true);
        assert!(activity.closes_its_half(), "its answer is still to come");
        assert!(activity.wrote(Poll::Ready(Ok(1))).is_ready());
        assert!(activity.flushed(Poll::Ready(Ok(()))).is_ready());
        // hyper took the last frame after it had flushed, and yielded.
        drop(request);
        let gone = activity.gone_from().expect("its half is closed");
        assert!(gone > clock::now(), "the last frame would be lost");
        assert!(activity.flushed(Poll::Ready(Ok(()))).is_ready());
        assert!(
            activity.gone_from().expect("its half is closed") <= clock::now(),
            "nothing is left"
        );
    }
}
