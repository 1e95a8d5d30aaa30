//! A request's body on its way to one or several upstreams: streamed, with the beginning kept for a
//! second attempt as long as it is small.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::activity::{Activity, Reading};
use super::stall::{BodyPatience, RATE_WINDOW};
use crate::clock;
use crate::request::retry::Replay;
use crate::request::trailers;

/// Why a body could not be passed on whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum BodyFault {
    /// The client broke off or sent a malformed body.
    #[error("the client's body broke off")]
    Client,
    /// More than `limits.max_request_body`.
    #[error("the request body is too large")]
    TooLarge,
    /// The client sends too slowly.
    #[error("the client's body came too slowly")]
    Slow,
    /// A newer attempt reads it now.
    #[error("another attempt reads this body")]
    Superseded,
}

/// One request's body, shared by its attempts one after the other.
#[derive(Clone, Debug)]
pub(super) enum RequestBody {
    /// None; costs nothing.
    Empty,
    /// As it arrives.
    Live(Rc<RefCell<Source>>),
}

/// The client's end of a live body.
#[derive(Debug)]
pub(super) struct Source {
    incoming: Incoming,
    /// Frames read so far, as long as all of them fit `keep`.
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    keep: usize,
    replay: Replay,
    limit: u64,
    read: u64,
    ended: bool,
    ended_at: Option<Instant>,
    progress_at: Instant,
    /// Since when the next bytes have been waited for.
    waits_for_client: Option<Instant>,
    patience: BodyPatience,
    /// Waited for and received since the rate was looked at last.
    waited: Duration,
    received: u64,
    fault: Option<BodyFault>,
    /// The attempt that may read on; older ones are cut off.
    reader: u32,
    /// Until all of it has been read.
    reading: Option<Reading>,
    is_stream: bool,
}

/// What a piece of a body counts that is kept, however small it is: it has a place of its own.
const LEAST_KEPT: usize = 256;

#[derive(Clone, Debug)]
enum Kept {
    Data(Bytes),
    Trailers(http::HeaderMap),
}

impl RequestBody {
    /// Of a request; `keep` bytes are kept for a second attempt, `limit` is the most that passes.
    pub(super) fn new(incoming: Incoming, keep: usize, limit: u64, patience: BodyPatience) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        Self::Live(Rc::new(RefCell::new(Source {
            incoming,
            kept: VecDeque::new(),
            kept_bytes: 0,
            keep,
            replay: Replay::Possible,
            limit,
            read: 0,
            ended: false,
            ended_at: None,
            progress_at: clock::now(),
            waits_for_client: None,
            patience,
            waited: Duration::ZERO,
            received: 0,
            fault: None,
            reader: 0,
            reading: None,
            is_stream: false,
        })))
    }

    /// Whether it comes as a stream of HTTP/2, whose end is told from its reset.
    pub(super) fn of_stream(self, is_stream: bool) -> Self {
        if let Self::Live(source) = &self {
            source.borrow_mut().is_stream = is_stream;
        }
        self
    }

    /// Its connection knows while it is being read.
    pub(super) fn noted_in(self, activity: &Rc<Activity>) -> Self {
        if let Self::Live(source) = &self {
            source.borrow_mut().reading = Some(activity.reads());
        }
        self
    }

    /// Whether a second attempt could send it whole.
    pub(super) fn replay(&self) -> Replay {
        match self {
            Self::Empty => Replay::Possible,
            Self::Live(source) => source.borrow().replay,
        }
    }

    /// Whether nothing more is to come from the client: only then can two attempts run at once.
    pub(super) fn is_complete(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Live(source) => source.borrow().ended,
        }
    }

    /// What went wrong with it, if anything did.
    pub(super) fn fault(&self) -> Option<BodyFault> {
        match self {
            Self::Empty => None,
            Self::Live(source) => source.borrow().fault,
        }
    }

    /// Since when an upstream can be expected to answer: the attempt's start without a body, else
    /// the body's end; `None` while it is still under way.
    pub(super) fn awaiting_since(&self, started: Instant) -> Option<Instant> {
        match self {
            Self::Empty => Some(started),
            Self::Live(source) => source.borrow().ended_at.map(|ended| ended.max(started)),
        }
    }

    /// Since when the upstream has not taken what the client has sent; `None` when the client is
    /// the one to wait for.
    pub(super) fn unread_since(&self) -> Option<Instant> {
        match self {
            Self::Empty => None,
            Self::Live(source) => {
                let source = source.borrow();
                (source.ended_at.is_none() && source.waits_for_client.is_none())
                    .then_some(source.progress_at)
            }
        }
    }

    /// Whether the client has been silent, or slow, for too long while its bytes were waited for. Ends
    /// the body where it has.
    pub(super) fn gives_up_on_client(&self, now: Instant) -> bool {
        match self {
            Self::Empty => false,
            Self::Live(source) => source.borrow_mut().gives_up_on_client(now),
        }
    }

    /// Bytes that have come from the client so far.
    pub(super) fn read(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Live(source) => source.borrow().read,
        }
    }

    /// The body for the next attempt; earlier ones can read no further.
    pub(super) fn for_attempt(&self) -> AttemptBody {
        match self {
            Self::Empty => AttemptBody { body: Self::Empty, reader: 0, next: 0 },
            Self::Live(source) => {
                let mut borrowed = source.borrow_mut();
                borrowed.reader += 1;
                AttemptBody { body: self.clone(), reader: borrowed.reader, next: 0 }
            }
        }
    }
}

/// What one attempt sends: first what was kept, then what still arrives.
#[derive(Debug)]
pub(super) struct AttemptBody {
    body: RequestBody,
    reader: u32,
    next: usize,
}

impl Body for AttemptBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self.get_mut();
        match &this.body {
            RequestBody::Empty => Poll::Ready(None),
            RequestBody::Live(source) => {
                source.borrow_mut().poll_frame(context, this.reader, &mut this.next)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            RequestBody::Empty => true,
            RequestBody::Live(source) => {
                let source = source.borrow();
                source.ended && self.next >= source.kept.len()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            RequestBody::Empty => SizeHint::with_exact(0),
            // Only before the first frame is it the size of the whole, which is when hyper asks.
            RequestBody::Live(source) => {
                let source = source.borrow();
                if source.read == 0 { source.incoming.size_hint() } else { SizeHint::default() }
            }
        }
    }
}

impl Source {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
        reader: u32,
        next: &mut usize,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        if reader != self.reader {
            return Poll::Ready(Some(Err(BodyFault::Superseded)));
        }
        if let Some(fault) = self.fault {
            return Poll::Ready(Some(Err(fault)));
        }
        if let Some(kept) = self.kept.get(*next) {
            *next += 1;
            return Poll::Ready(Some(Ok(kept.frame())));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) else {
            self.waits_for_client.get_or_insert_with(clock::now);
            return Poll::Pending;
        };
        self.progress_at = clock::now();
        if let Some(since) = self.waits_for_client.take() {
            self.waited += self.progress_at.saturating_duration_since(since);
        }
        let Some(frame) = frame else {
            if self.is_stream && !self.incoming.is_end_stream() {
                // hyper takes a reset without an error for an end, which only a server may mean by it (RFC 9113,
                // section 8.1).
                self.fault = Some(BodyFault::Client);
                return Poll::Ready(Some(Err(BodyFault::Client)));
            }
            self.end();
            return Poll::Ready(None);
        };
        let frame = frame.map_err(|_| BodyFault::Client).and_then(|frame| self.take(frame, next));
        if let Err(fault) = &frame {
            self.fault = Some(*fault);
        }
        Poll::Ready(Some(frame))
    }

    /// Counts a frame, and keeps it if all so far can be kept.
    fn take(&mut self, frame: Frame<Bytes>, next: &mut usize) -> Result<Frame<Bytes>, BodyFault> {
        let kept = match frame.into_data() {
            Ok(data) => Kept::Data(data),
            Err(frame) => {
                let mut fields = frame.into_trailers().unwrap_or_default();
                trailers::clean(&mut fields);
                Kept::Trailers(fields)
            }
        };
        if let Kept::Data(data) = &kept {
            self.read += data.len() as u64;
            self.received += data.len() as u64;
            self.kept_bytes += data.len().max(LEAST_KEPT);
        }
        if self.read > self.limit {
            return Err(BodyFault::TooLarge);
        }
        if self.incoming.is_end_stream() {
            self.end();
        } else if self.incoming.size_hint().exact() == Some(0) {
            // HTTP/2 may tell the end in a frame of its own, which nobody may ever ask for.
            self.arrived();
        }
        if self.replay == Replay::Possible && self.kept_bytes <= self.keep {
            self.kept.push_back(kept.clone());
            *next += 1;
        } else {
            // Over the bound: what was kept is of no use without the rest.
            self.replay = Replay::Impossible;
            self.kept.clear();
            *next = 0;
        }
        Ok(kept.frame())
    }

    fn gives_up_on_client(&mut self, now: Instant) -> bool {
        let BodyPatience::Bounded { stall, min_rate } = self.patience else { return false };
        let Some(since) = self.waits_for_client.filter(|_| !self.ended) else { return false };
        let silent = now.saturating_duration_since(since);
        let mut slow = silent >= stall;
        if min_rate > 0 && self.waited + silent >= RATE_WINDOW {
            slow |= self.received < min_rate * RATE_WINDOW.as_secs();
            // What is waited for from here on belongs to the next window.
            self.waited = Duration::ZERO;
            self.received = 0;
            if !slow {
                self.waits_for_client = Some(now);
            }
        }
        if slow {
            self.fault = Some(BodyFault::Slow);
        }
        slow
    }

    fn end(&mut self) {
        self.ended = true;
        self.reading = None;
        self.arrived();
    }

    fn arrived(&mut self) {
        self.ended_at.get_or_insert_with(clock::now);
    }
}

impl Kept {
    fn frame(&self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data.clone()),
            Self::Trailers(trailers) => Frame::trailers(trailers.clone()),
        }
    }
}
