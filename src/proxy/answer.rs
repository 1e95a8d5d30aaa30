//! An answer's body on its way to the client: streamed, watched for stalls and short ends, counted
//! when it is over.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::activity::Active;
use super::judge::Judge;
use super::lent::{Reply, WireError};
use super::stall::{BodyPatience, Watch};
use super::story::Story;
use super::worker::Worker;
use crate::exchange::state::PoolState;
use crate::model::outcome::{FailureKind, Ignored, Outcome};

/// What a client receives.
pub(super) struct AnswerBody {
    source: Source,
    /// Ends the request's accounting when the body is dropped.
    request: Option<Request>,
    /// Of the last frame of an upstream, what was too large to be handed over with it.
    rest: Bytes,
}

enum Source {
    /// Made by us.
    Own(Option<Bytes>),
    /// An upstream's.
    Relayed(Box<Relay>),
}

/// Why a body ends early; the client sees a broken message, never a short one that looks whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the upstream's body ended short")]
    Cut(#[source] WireError),
    #[error("the upstream's body stalled")]
    Stalled,
    #[error("the upstream was left")]
    Left,
}

/// One request of a service, from its head to the last byte of its answer.
pub(super) struct Request {
    pub(super) worker: Rc<Worker>,
    pub(super) pool: Arc<PoolState>,
    active: Active,
    story: Option<Rc<Story>>,
}

impl Request {
    /// Counts it as in flight until it is dropped.
    /// The client's connection is busy for as long.
    pub(super) fn begin(
        worker: &Rc<Worker>,
        pool: &Arc<PoolState>,
        active: Active,
        story: Option<Rc<Story>>,
    ) -> Self {
        pool.rows[worker.index].in_flight.add(1);
        Self { worker: Rc::clone(worker), pool: Arc::clone(pool), active, story }
    }

    /// Bytes went to the client that are no answer's body.
    pub(super) fn sent(&self, bytes: u64) {
        if let Some(story) = &self.story {
            story.sent(bytes);
        }
    }

    /// What the client's side got when it asked for more of the answer.
    fn gave(&self, frame: &Poll<Option<Result<Frame<Bytes>, BodyError>>>) {
        let bytes = match frame {
            Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len),
            Poll::Ready(Some(Err(_)) | None) | Poll::Pending => 0,
        };
        self.active.asked(frame.is_pending(), bytes);
        if let Some(story) = self.story.as_ref().filter(|_| bytes > 0) {
            story.sent(bytes as u64);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.pool.rows[self.worker.index].in_flight.sub(1);
    }
}

/// An upstream's body.
pub(super) struct Relay {
    /// Until it is over.
    reply: Option<Reply>,
    judge: Judge,
    /// What the head came to; the body can only make it worse.
    verdict: Outcome,
    patience: BodyPatience,
    /// Of one without an end: over when its upstream was left for good.
    leaving: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// Begun at the first wait, so that a body that is there already costs no timer.
    watch: Option<Watch>,
}

impl AnswerBody {
    /// Of our own making.
    pub(super) fn own(bytes: Bytes) -> Self {
        let source = Source::Own((!bytes.is_empty()).then_some(bytes));
        Self { source, request: None, rest: Bytes::new() }
    }

    /// An upstream's.
    pub(super) fn relayed(
        reply: Reply,
        judge: Judge,
        verdict: Outcome,
        patience: BodyPatience,
    ) -> Self {
        let leaving = match patience {
            BodyPatience::Bounded { .. } => None,
            BodyPatience::Unbounded => Some(Box::pin(judge.left()) as _),
        };
        let relay = Relay { reply: Some(reply), judge, verdict, patience, leaving, watch: None };
        let source = Source::Relayed(Box::new(relay));
        let mut body = Self { source, request: None, rest: Bytes::new() };
        if body.is_end_stream() {
            body.finish();
        }
        body
    }

    /// The request ends when this body does.
    pub(super) fn carrying(mut self, request: Request) -> Self {
        request.active.answered();
        self.request = Some(request);
        self
    }

    /// Says nothing where it would say something of ours.
    pub(super) fn leave_own_away(&mut self) {
        if let Source::Own(bytes) = &mut self.source {
            *bytes = None;
        }
    }

    /// How many bytes it holds, where they are our own and not counted as they go.
    pub(super) fn own_bytes(&self) -> u64 {
        match (&self.source, &self.request) {
            (Source::Own(Some(bytes)), None) => bytes.len() as u64,
            (Source::Own(_) | Source::Relayed(_), _) => 0,
        }
    }

    /// Whether nothing more comes from where it comes from.
    fn is_over(&self) -> bool {
        match &self.source {
            Source::Own(bytes) => bytes.is_none(),
            Source::Relayed(relay) => relay.reply.as_ref().is_none_or(Reply::is_end_stream),
        }
    }

    /// Keeps what is too large to be handed over at once.
    fn cut<E>(
        &mut self,
        frame: Poll<Option<Result<Frame<Bytes>, E>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        let most =
            self.request.as_ref().map_or(usize::MAX, |request| request.active.largest_piece());
        match frame {
            Poll::Ready(Some(Ok(frame)))
                if frame.data_ref().is_some_and(|data| data.len() > most) =>
            {
                let mut data = frame.into_data().unwrap_or_default();
                self.rest = data.split_off(most);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            frame => frame,
        }
    }

    fn finish(&mut self) {
        if let Source::Relayed(relay) = &mut self.source {
            relay.end(relay.verdict);
            if let Some(reply) = relay.reply.take() {
                reply.give_back();
            }
        }
    }
}

impl Relay {
    fn end(&mut self, outcome: Outcome) {
        self.judge.conclude(outcome);
    }

    /// A body that failed: the connection is closed, the client's answer breaks off.
    fn fail(&mut self, kind: FailureKind) {
        // A bad status was counted by its head; how its page ends adds nothing.
        let outcome = match self.verdict {
            Outcome::Failure(kind) => Outcome::Failure(kind),
            Outcome::Success | Outcome::OriginError | Outcome::Ignored(_) => Outcome::Failure(kind),
        };
        self.end(outcome);
        self.reply = None;
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(reply) = &mut self.reply else { return Poll::Ready(None) };
        if self.judge.is_forbidden() {
            return self.leave();
        }
        match reply.poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.received(frame.data_ref().map_or(0, Bytes::len) as u64);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.fail(FailureKind::BodyCut);
                Poll::Ready(Some(Err(BodyError::Cut(error))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending if self.was_left(context) => self.leave(),
            Poll::Pending if self.is_stalled(context) => {
                self.fail(FailureKind::BodyStall);
                Poll::Ready(Some(Err(BodyError::Stalled)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_stalled(&mut self, context: &mut Context<'_>) -> bool {
        if self.watch.is_none() {
            self.watch = Watch::new(self.patience);
        }
        self.watch.as_mut().is_some_and(|watch| watch.is_stalled(context))
    }

    /// While its client takes nothing: nothing is read, and nobody is blamed for the time.
    fn poll_held_up(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.reply.is_some() && (self.judge.is_forbidden() || self.was_left(context)) {
            return self.leave();
        }
        if let Some(watch) = &mut self.watch {
            watch.rest();
        }
        if let Some(reply) = &mut self.reply {
            // Its client may take nothing before it has sent all that it has to say.
            reply.send_on(context);
        }
        Poll::Pending
    }

    /// Breaks it off, and blames nobody.
    fn leave(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.end(Outcome::Ignored(Ignored::Cancelled));
        self.reply = None;
        Poll::Ready(Some(Err(BodyError::Left)))
    }

    fn was_left(&mut self, context: &mut Context<'_>) -> bool {
        self.leaving.as_mut().is_some_and(|leaving| leaving.as_mut().poll(context).is_ready())
    }

    fn received(&mut self, bytes: u64) {
        self.judge.received(bytes);
        if let Some(watch) = &mut self.watch {
            watch.received(bytes);
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let (Source::Relayed(relay), Some(request)) = (&mut this.source, &this.request)
            && request.active.is_held_up(request.worker.connections.held.is_full(), context)
        {
            return relay.poll_held_up(context);
        }
        let frame = match &mut this.source {
            _ if !this.rest.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.rest)))))
            }
            Source::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Relayed(relay) => relay.poll_frame(context),
        };
        let frame = this.cut(frame);
        if let Some(request) = &this.request {
            request.gave(&frame);
        }
        let over = match &frame {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => this.is_over(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        if over {
            this.finish();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            _ if !self.rest.is_empty() => SizeHint::default(),
            Source::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Source::Relayed(relay) => match &relay.reply {
                Some(reply) => reply.size_hint(),
                None => SizeHint::with_exact(0),
            },
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Not over, and not failed: the client went away.
        if self.reply.as_ref().is_some_and(|reply| !reply.is_end_stream()) {
            self.end(Outcome::Ignored(Ignored::ClientGone));
        }
    }
}
