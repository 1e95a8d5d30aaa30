//! What one client's connection is doing: whether it is idle, sending a head or being served, and whether its client
//! takes what it is given.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::attend::{GOODBYE, HALF_CLOSED, REST};
use crate::clock;
use crate::model::limits::Limits;

/// The payload of a DATA frame (RFC 9113, section 6.5.2).
const FRAME: usize = 16 * 1024;

/// Bytes of an answer that hyper is given before it has to write: it would gather small pieces to twice as much.
const MOST_OWED: usize = 32 * 1024;

/// What a connection is doing; decides how long it may go on doing it.
#[derive(Debug)]
pub(super) struct Activity {
    /// Requests being served.
    active: Cell<u32>,
    /// Those of them that wait for an upstream.
    waiting: Cell<u32>,
    /// Those of them whose answer has no head yet.
    unanswered: Cell<u32>,
    /// How often the client's side has asked for more of an answer, or taken some of it.
    asked: Cell<u32>,
    /// Counts the rounds in which each answer has to be asked for.
    round: Cell<u32>,
    /// Answers that wait for the client and were asked for in this round.
    fresh: Cell<u32>,
    phase: Cell<Phase>,
    since: Cell<Instant>,
    /// Whether all bytes that came were whole requests.
    pub(super) read_out: Cell<bool>,
    /// Whether all bytes of answers have been written.
    written_out: Cell<bool>,
    /// Whether some of them have to wait for the client.
    stuck: Cell<bool>,
    /// Whether answers leave one after the other, and it is seen here when they have (HTTP/1.1).
    in_order: Cell<bool>,
    /// Bytes of answers that were handed over since all was written last.
    owes: Cell<usize>,
    /// Whom to wake when all is written.
    held_up: RefCell<Option<Waker>>,
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
            round: Cell::new(0),
            fresh: Cell::new(0),
            phase: Cell::new(Phase::Head),
            since: Cell::new(clock::now()),
            read_out: Cell::new(false),
            written_out: Cell::new(true),
            stuck: Cell::new(false),
            in_order: Cell::new(false),
            owes: Cell::new(0),
            held_up: RefCell::new(None),
            bodies: Cell::new(0),
            half_closed: Cell::new(None),
        })
    }

    /// It speaks HTTP/1.1.
    pub(super) fn leaves_in_order(&self) {
        self.in_order.set(true);
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
        let seen = Cell::new(self.round.get());
        Active { activity: Rc::clone(self), waits, is_unanswered, seen }
    }

    /// Whether every request being served waits for nobody but the client, and how often it has asked
    /// so far: where neither changes, it takes nothing any more.
    pub(super) fn demand(&self) -> (bool, u32) {
        (self.waiting.get() == 0, self.asked.get())
    }

    /// Begins a round. Whether an answer that waits for its client was not asked for in the last one: others may
    /// have been, on the same connection.
    pub(super) fn leaves_one_standing(&self) -> bool {
        let standing = self.active.get() - self.waiting.get();
        let is_left = standing > self.fresh.replace(0);
        self.round.set(self.round.get().wrapping_add(1));
        is_left
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
    pub(super) fn closes_its_half(&self) -> bool {
        // hyper would not write what is left of the last answer.
        let is_served = self.phase.get() == Phase::Served || !self.written_out.get();
        let waits = is_served && self.read_out.get();
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
    pub(super) fn wrote<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.written_out.set(false);
        match written {
            Poll::Pending => self.stuck.set(true),
            Poll::Ready(Ok(_)) => {
                self.asked.set(self.asked.get().wrapping_add(1));
                if self.half_closed.get().is_some() {
                    self.half_closed.set(Some(clock::now()));
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        written
    }

    /// What flushing came to. After a wait for the client hyper has yet to look at what it read
    /// meanwhile: rest begins anew.
    pub(super) fn flushed(&self, flushed: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        self.written_out.set(matches!(flushed, Poll::Ready(Ok(()))));
        match flushed {
            Poll::Pending => self.stuck.set(true),
            Poll::Ready(_) => {
                if self.stuck.replace(false) && self.phase.get() == Phase::Idle {
                    self.since.set(clock::now());
                }
                // hyper asks for the next piece before it writes the last one, and not again.
                if self.owes.replace(0) > 0
                    && let Some(waker) = self.held_up.borrow_mut().take()
                {
                    waker.wake();
                }
            }
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
    /// The round in which it was asked for last.
    seen: Cell<u32>,
}

impl Active {
    /// The head of its answer is on its way.
    pub(super) fn answered(&self) {
        if self.is_unanswered.replace(false) {
            self.activity.unanswered.set(self.activity.unanswered.get() - 1);
        }
    }

    /// The client's side has asked for more of the answer and got so many bytes; `waits`: there is none yet.
    pub(super) fn asked(&self, waits: bool, bytes: usize) {
        let activity = &self.activity;
        if activity.in_order.get() {
            activity.owes.set(activity.owes.get() + bytes);
        }
        activity.asked.set(activity.asked.get().wrapping_add(1));
        self.is_now(waits, activity.round.get());
    }

    fn is_now(&self, waits: bool, seen: u32) {
        let activity = &self.activity;
        let is_fresh = || !self.waits.get() && self.seen.get() == activity.round.get();
        let (waited, was_fresh) = (self.waits.get(), is_fresh());
        self.waits.set(waits);
        self.seen.set(seen);
        let change = |count: &Cell<u32>, was: bool, is: bool| {
            count.set(count.get() + u32::from(is) - u32::from(was));
        };
        change(&activity.waiting, waited, waits);
        change(&activity.fresh, was_fresh, is_fresh());
    }

    /// Bytes of an answer that may be handed over at once. Over HTTP/2 a client is seen to take something when it asks
    /// for the next piece: where each is one frame, that is soon even where it takes them slowly.
    pub(super) fn largest_piece(&self) -> usize {
        if self.activity.in_order.get() { usize::MAX } else { FRAME }
    }

    /// Whether the client has yet to take what it was given: then nothing more is read for it, and this is woken once
    /// it has. It waits for nobody but itself. Where memory `is_short`, one piece is given at a time.
    pub(super) fn is_held_up(&self, is_short: bool, context: &Context<'_>) -> bool {
        let activity = &self.activity;
        let is_held_up = match activity.owes.get() {
            0 => false,
            owed => owed >= MOST_OWED || activity.stuck.get() || is_short,
        };
        if is_held_up {
            *activity.held_up.borrow_mut() = Some(context.waker().clone());
            self.is_now(false, self.seen.get());
        }
        is_held_up
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.answered();
        // As if it waited for an upstream for ever: it counts as nothing else.
        self.is_now(true, self.seen.get());
        self.activity.waiting.set(self.activity.waiting.get() - 1);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A client over HTTP/1.1 with a request, and who is woken for it.
    fn asking() -> (Rc<Activity>, Active, Arc<Woken>) {
        let activity = Activity::new();
        activity.in_order.set(true);
        let request = activity.begin();
        (activity, request, Arc::default())
    }

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    impl Woken {
        fn is_held_up(self: &Arc<Self>, request: &Active, is_short: bool) -> bool {
            let waker = Waker::from(Arc::clone(self));
            request.is_held_up(is_short, &Context::from_waker(&waker))
        }

        fn was_woken(&self) -> bool {
            self.0.load(std::sync::atomic::Ordering::Relaxed)
        }
    }

    #[test]
    fn a_client_that_takes_nothing_is_given_nothing_more_until_it_has() {
        let (activity, request, woken) = asking();
        request.asked(false, 1);
        assert!(!woken.is_held_up(&request, false), "nothing was in its way yet");
        assert!(activity.wrote::<()>(Poll::Pending).is_pending());
        assert!(woken.is_held_up(&request, false));
        assert_eq!(activity.demand(), (true, 1), "it waits for nobody but itself");
        assert!(activity.flushed(Poll::Pending).is_pending());
        assert!(!woken.was_woken());
        assert!(activity.flushed(Poll::Ready(Ok(()))).is_ready());
        assert!(woken.was_woken() && !woken.is_held_up(&request, false));
    }

    #[test]
    fn where_memory_is_short_a_client_gets_a_piece_at_a_time() {
        let (activity, request, woken) = asking();
        assert!(!woken.is_held_up(&request, true), "it has had none yet");
        request.asked(false, 1);
        assert!(woken.is_held_up(&request, true));
        assert!(activity.flushed(Poll::Ready(Ok(()))).is_ready());
        assert!(woken.was_woken() && !woken.is_held_up(&request, true));
    }

    #[test]
    fn an_answer_that_nobody_asks_for_in_a_whole_round_is_left_standing() {
        let activity = Activity::new();
        let (stalled, served) = (activity.begin(), activity.begin());
        stalled.asked(false, 1);
        served.asked(false, 1);
        assert!(!activity.leaves_one_standing(), "both were asked for");
        served.asked(false, 1);
        assert!(activity.leaves_one_standing(), "the other one goes on, and hides nothing");
        stalled.asked(true, 0);
        served.asked(false, 1);
        assert!(!activity.leaves_one_standing(), "it waits for its upstream");
        drop(stalled);
        served.asked(false, 1);
        assert!(!activity.leaves_one_standing(), "it is over");
        drop(served);
        assert!(!activity.leaves_one_standing());
        assert_eq!((activity.waiting.get(), activity.fresh.get()), (0, 0));
    }

    #[test]
    fn streams_of_http2_are_held_up_by_their_windows_alone() {
        let activity = Activity::new();
        let request = activity.begin();
        request.asked(false, 1);
        assert!(!Arc::<Woken>::default().is_held_up(&request, true), "nobody would wake it");
    }

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
        assert!(activity.closes_its_half(), "hyper would close without it");
        let gone = activity.gone_from().expect("its half is closed");
        assert!(gone > clock::now(), "the last frame would be lost");
        assert!(activity.flushed(Poll::Ready(Ok(()))).is_ready());
        assert!(
            activity.gone_from().expect("its half is closed") <= clock::now(),
            "nothing is left"
        );
    }
}
