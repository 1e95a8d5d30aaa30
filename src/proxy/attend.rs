//! Driving one client connection to its end: patience with what is idle or slow, and the last words
//! when the process drains.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::activity::{Activity, Patience, Word};
use super::worker::{Stage, Worker};
use crate::clock;
use crate::model::limits::Limits;

/// After so long without a request an HTTP/1.1 connection waits without hyper.
pub(super) const REST: Duration = Duration::from_millis(100);
/// A client that has closed its half, and takes nothing of its answer for so long, has gone: most of
/// those that close it have closed both, and waiting for them would keep upstreams busy.
pub(super) const HALF_CLOSED: Duration = Duration::from_secs(5);

/// For what a client may have sent before it knew that the process ends, and for the last words to one
/// that is idle: far more than a way there and back takes.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);

/// A connection, and what its driver does besides polling it.
pub(super) struct Driven<'a, C, F, S> {
    pub(super) connection: Pin<&'a mut C>,
    /// What its end is told by.
    pub(super) word: Word,
    /// Begins its graceful end.
    pub(super) finish: F,
    /// Sends what it wrote in this turn.
    pub(super) send: S,
}

pub(super) type Sent = Poll<io::Result<()>>;

/// How a connection ended.
pub(super) enum Attended {
    Ended(hyper::Result<()>),
    /// The client takes nothing any more.
    Unsent,
    Idle,
    /// Nothing is under way on it, and may not be for a while.
    Rests,
    SlowHead,
    /// The client takes nothing of its answers for too long.
    SlowReader,
}

/// When a connection that is to end tells its client.
struct LastCall {
    begun: Instant,
    timer: Pin<Box<Sleep>>,
}

impl LastCall {
    fn new() -> Box<Self> {
        let begun = clock::now();
        Box::new(Self { begun, timer: Box::pin(tokio::time::sleep(GOODBYE)) })
    }

    fn is_due(&mut self, activity: &Activity, word: Word, context: &mut Context<'_>) -> bool {
        let Some(at) = activity.may_be_told_from(word, self.begun) else { return false };
        let at = tokio::time::Instant::from_std(at);
        if self.timer.deadline() != at {
            self.timer.as_mut().reset(at);
        }
        self.timer.as_mut().poll(context).is_ready()
    }
}

/// Since when a client that is being served asks for nothing, while nobody else is waited for.
struct Standstill {
    asked: u32,
    since: Instant,
    /// When each answer has to have been asked for.
    round: Instant,
}

impl Standstill {
    /// Whether one answer of several has stood still for too long, while others have not: then the client is to send
    /// its next requests elsewhere. What it takes is served to its end, and what it does not take ends with that.
    fn is_partial(&mut self, activity: &Activity, limits: &Limits) -> bool {
        let now = clock::now();
        if now < self.round {
            return false;
        }
        self.round = now + limits.idle_timeout;
        activity.leaves_one_standing()
    }

    /// When it has lasted too long; `None` where it is an upstream that is waited for.
    fn until(&mut self, activity: &Activity, limits: &Limits, now: Instant) -> Option<Instant> {
        let (waits_for_client, asked) = activity.demand();
        if !waits_for_client || asked != self.asked {
            (self.asked, self.since) = (asked, now);
        }
        waits_for_client.then(|| self.since + limits.idle_timeout)
    }
}

/// Drives a connection that was idle for too long, and was told so, to its end. A request that came in the
/// meantime is still served.
pub(super) async fn take_leave(
    limits: &Limits,
    activity: &Activity,
    mut is_over: impl FnMut(&mut Context<'_>) -> bool,
) {
    let mut ended = pin!(poll_fn(|context| match is_over(context) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    }));
    let in_time = tokio::time::timeout(GOODBYE, ended.as_mut()).await;
    if in_time.is_err() && activity.patience(limits) == Patience::Served {
        drop(tokio::time::timeout(limits.idle_timeout, ended).await);
    }
}

/// Drives a connection until it ends, is idle or slow for too long, or the process ends.
pub(super) async fn attend<C: Future<Output = hyper::Result<()>>>(
    worker: &Worker,
    limits: &Limits,
    activity: &Activity,
    driven: Driven<'_, C, impl Fn(Pin<&mut C>), impl Fn(&mut Context<'_>) -> Sent>,
) -> Attended {
    let Driven { mut connection, word, finish, send } = driven;
    let mut draining = pin!(worker.draining.notified());
    let mut finishing = false;
    // What begins in a drain begins with a request that was already here; hyper has to read it before
    // it is told of the end, or it would close what it has not begun to read.
    let begun_late = worker.stage.get() != Stage::Serving;
    let mut is_begun = false;
    // Boxed: most connections never see a drain.
    let mut last_call: Option<Box<LastCall>> = None;
    // The bell is heard by registering once; the stage itself is looked at, which costs nothing.
    let mut listening = false;
    let now = clock::now();
    let mut standstill = Standstill { asked: 0, since: now, round: now + limits.idle_timeout };
    let mut timer = pin!(tokio::time::sleep(limits.header_read_timeout));
    poll_fn(|context| {
        if !std::mem::replace(&mut listening, true) {
            // Whatever it says, the stage says it too.
            let _registered: Poll<()> = draining.as_mut().poll(context);
        }
        if begun_late
            && !std::mem::replace(&mut is_begun, true)
            && let Poll::Ready(end) = connection.as_mut().poll(context)
        {
            return Poll::Ready(Attended::Ended(end));
        }
        match worker.stage.get() {
            Stage::Serving => {}
            Stage::Draining | Stage::Over if finishing => {}
            stage @ (Stage::Draining | Stage::Over) => {
                // A client of HTTP/1.1 that is told nothing may be sending its next request right now:
                // it gets its answer, with which it is told.
                let call = last_call.get_or_insert_with(LastCall::new);
                finishing =
                    begun_late || stage == Stage::Over || call.is_due(activity, word, context);
                if finishing {
                    finish(connection.as_mut());
                }
            }
        }
        if word == Word::OfConnection && !finishing && standstill.is_partial(activity, limits) {
            finishing = true;
            finish(connection.as_mut());
        }
        if let Poll::Ready(end) = connection.as_mut().poll(context) {
            return Poll::Ready(Attended::Ended(end));
        }
        if let Poll::Ready(Err(_)) = send(context) {
            return Poll::Ready(Attended::Unsent);
        }
        poll_due(timer.as_mut(), context, |now| {
            let rests = if finishing { None } else { activity.rests_from() };
            patience_ends(activity, limits, (&mut standstill, rests), now)
        })
    })
    .await
}

/// How the connection ends now, or when to look again; it may rest from `rests` on.
fn patience_ends(
    activity: &Activity,
    limits: &Limits,
    (standstill, rests): (&mut Standstill, Option<Instant>),
    now: Instant,
) -> Result<Attended, Instant> {
    let (until, attended) = match (activity.gone_from(), activity.patience(limits)) {
        (Some(gone), _) => (Some(gone), Attended::Idle),
        (None, Patience::Served) => (standstill.until(activity, limits, now), Attended::SlowReader),
        (None, Patience::Idle(until)) => match rests {
            Some(rests) => (Some(rests.min(until)), Attended::Rests),
            None => (Some(until), Attended::Idle),
        },
        (None, Patience::Head(until)) => (Some(until), Attended::SlowHead),
    };
    match until {
        Some(until) if until <= now => Ok(attended),
        Some(until) => Err(until),
        None => Err(now + limits.idle_timeout),
    }
}

/// Ready with what `due` says when it says something; until then `due` tells when to look again. Its
/// timer is only ever brought forward: one that fires too early looks again.
pub(super) fn poll_due<T>(
    mut timer: Pin<&mut Sleep>,
    context: &mut Context<'_>,
    mut due: impl FnMut(Instant) -> Result<T, Instant>,
) -> Poll<T> {
    loop {
        let next = match due(clock::now()) {
            Ok(end) => return Poll::Ready(end),
            Err(next) => tokio::time::Instant::from_std(next),
        };
        if next < timer.deadline() || timer.is_elapsed() {
            timer.as_mut().reset(next);
        }
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
    }
}
