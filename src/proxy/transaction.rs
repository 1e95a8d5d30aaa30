//! One client request through all its attempts.
//!
//! ```text
//!  first attempt ──good head──────────────────────────────▶ answer
//!      │ bad head or no head, may move, budget ──▶ next attempt at another provider ──▶ answer
//!      │ late: counted, and tried elsewhere too (rescue); the first good head wins
//!      │ its upstream is ejected: moved at once, without asking the budget
//!      ▼ nobody answered well
//!  the first upstream's own answer, else the last one's, else 502 or 504
//! ```

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{Response, StatusCode};

use super::answer::{AnswerBody, BodyPatience};
use super::attempt::{self, Answered, AttemptError, Call, EndpointHandle, Head};
use super::connections::UpstreamConnections;
use super::reject;
use super::request_body::{BodyFault, RequestBody};
use super::worker::Worker;
use crate::clock;
use crate::exchange::budget;
use crate::exchange::evidence::Evidence;
use crate::exchange::snapshot::View;
use crate::exchange::state::{PoolState, UpstreamState};
use crate::model::id::{PoolId, UpstreamId};
use crate::model::outcome::{FailureKind, Ignored, Marker, MethodClass, Outcome};
use crate::model::plan::{Candidate, PoolMode, PoolPlan, Rescue};
use crate::model::refusal::Refusal;
use crate::model::signal::{PairEnd, Subject, Witness};
use crate::model::topology::{AllDownServe, Pool};
use crate::request::classify::{self, MarkerTrust};
use crate::request::retry::{self, Situation};

/// A request that has a pool, and everything its attempts share.
pub(super) struct Transaction {
    pub(super) worker: Rc<Worker>,
    pub(super) view: Arc<View>,
    pub(super) pool: PoolId,
    pub(super) head: Rc<Head>,
    pub(super) body: RequestBody,
    pub(super) witness: Witness,
    pub(super) started: Instant,
}

/// How a transaction ended, for the caller's counters.
pub(super) enum End {
    /// An upstream's answer.
    Relayed(Response<AnswerBody>),
    /// One of ours.
    Own(Response<AnswerBody>),
    /// The client's fault.
    Refused(Refusal),
}

/// One attempt under way.
struct Running {
    upstream: UpstreamId,
    started: Instant,
    call: Pin<Box<dyn Future<Output = Result<Answered, AttemptError>>>>,
    connections: Rc<UpstreamConnections>,
    judge: Judge,
    late_after: Duration,
    /// Whether it is known to be late, or to have lost its upstream.
    overdue: bool,
}

/// Something that happened to a running attempt.
enum Event {
    Done(usize, Result<Answered, AttemptError>),
    Late(usize),
    Left,
    /// The head timeout of one attempt.
    TimedOut(usize, AttemptError),
    /// The whole request's time is over.
    Deadline,
}

/// What the request has come to so far, should nothing better come.
enum InHand {
    Nothing,
    /// An upstream's own, bad answer.
    Answer(Box<(Answered, Judge, Outcome)>),
    /// No answer, for this reason.
    Error(AttemptError),
}

impl Transaction {
    fn pool(&self) -> &Pool {
        self.view.routing.topology.pool(self.pool)
    }

    fn plan(&self) -> &PoolPlan {
        self.view.routing.plan(self.pool)
    }

    fn state(&self) -> &PoolState {
        self.view.states.pool(self.pool)
    }

    /// Runs it to the head of the client's answer.
    pub(super) async fn run(&self) -> End {
        let ticket = fastrand::u16(0..1000);
        let Some(place) = self.plan().pick(self.head.class, ticket) else {
            return End::Own(reject::page(&self.pool().rules.all_down.page, &self.head.method));
        };
        let first = self.start(self.plan().candidates[place].upstream);
        let connections = Rc::clone(&first.connections);
        let mut left = pin!(connections.left.notified());
        let mut course = Course {
            transaction: self,
            tried: Vec::new(),
            retries_left: self.pool().rules.retry.attempts,
            in_hand: InHand::Nothing,
            first_failure: None,
        };
        course.tried.push(first.upstream);
        let mut running = vec![first];
        let mut timer = pin!(tokio::time::sleep_until(self.wake_at(&running)));
        loop {
            let event = poll_fn(|context| {
                for (place, attempt) in running.iter_mut().enumerate() {
                    if let Poll::Ready(done) = attempt.call.as_mut().poll(context) {
                        return Poll::Ready(Event::Done(place, done));
                    }
                }
                let is_first_waiting =
                    running.iter().any(|a| a.upstream == course.tried[0] && !a.overdue);
                if is_first_waiting && left.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Event::Left);
                }
                while timer.as_mut().poll(context).is_ready() {
                    if let Some(event) = self.overdue(&running) {
                        return Poll::Ready(event);
                    }
                    timer.as_mut().reset(self.wake_at(&running));
                }
                Poll::Pending
            });
            if let Some(end) = course.on(event.await, &mut running) {
                return end;
            }
            timer.as_mut().reset(self.wake_at(&running));
        }
    }

    /// Begins an attempt.
    fn start(&self, upstream: UpstreamId) -> Running {
        let state = self.view.states.upstream(upstream);
        let connections = self.worker.connections.of(state);
        let call = attempt::make(Call {
            head: Rc::clone(&self.head),
            body: self.body.clone(),
            endpoint: EndpointHandle { view: Arc::clone(&self.view), upstream },
            tls: self.view.tls[upstream.index()].clone(),
            connections: Rc::clone(&connections),
            connect_timeout: self.pool().rules.timeouts.connect,
        });
        Running {
            upstream,
            started: clock::now(),
            call: Box::pin(call),
            connections,
            judge: Judge::new(self, state),
            late_after: state.late_after(),
            overdue: false,
        }
    }

    /// When the next deadline of any attempt, or of the request, can be due.
    fn wake_at(&self, running: &[Running]) -> tokio::time::Instant {
        let timeouts = &self.pool().rules.timeouts;
        // While a body is under way its deadlines have not begun: look again in a second.
        let again = || clock::now() + Duration::from_secs(1);
        let request =
            self.body.awaiting_since(self.started).map_or_else(again, |_| self.deadline());
        let attempts = running.iter().map(|attempt| {
            self.body.awaiting_since(attempt.started).map_or_else(again, |since| {
                let late = if attempt.overdue { timeouts.head } else { attempt.late_after };
                since + late.min(timeouts.head)
            })
        });
        let earliest = attempts.chain([request]).min().unwrap_or(request);
        tokio::time::Instant::from_std(earliest)
    }

    fn deadline(&self) -> Instant {
        let since = self.body.awaiting_since(self.started).unwrap_or(self.started);
        since + self.pool().rules.timeouts.request
    }

    /// What is due now, if anything.
    fn overdue(&self, running: &[Running]) -> Option<Event> {
        let now = clock::now();
        let timeouts = &self.pool().rules.timeouts;
        if let Some(since) = self.body.unread_since()
            && now.saturating_duration_since(since) >= timeouts.body_stall
        {
            return Some(Event::TimedOut(
                running.len().checked_sub(1)?,
                AttemptError::UploadStalled,
            ));
        }
        self.body.awaiting_since(self.started)?;
        if now >= self.deadline() {
            return Some(Event::Deadline);
        }
        running.iter().enumerate().find_map(|(place, attempt)| {
            let since = self.body.awaiting_since(attempt.started)?;
            let waited = now.saturating_duration_since(since);
            if waited >= timeouts.head {
                return Some(Event::TimedOut(place, AttemptError::HeadTimeout));
            }
            (!attempt.overdue && waited >= attempt.late_after).then_some(Event::Late(place))
        })
    }

    /// The next candidate for a request that failed elsewhere: of another provider, and willing.
    fn next_candidate(&self, tried: &[UpstreamId]) -> Option<UpstreamId> {
        let topology = &self.view.routing.topology;
        let provider = |id: UpstreamId| topology.upstream(id).provider;
        let is_new = |c: &&Candidate| tried.iter().all(|t| provider(*t) != provider(c.upstream));
        let open =
            self.plan().candidates.iter().filter(|c| c.rescue == Rescue::Takes).filter(is_new);
        // An upstream ejected since this request read its snapshot is no place to flee to, unless
        // the plan is to serve from the least bad anyway.
        let is_left = |c: &&Candidate| !self.view.states.upstream(c.upstream).is_avoided();
        let fail_open = self.plan().mode == PoolMode::FailOpen;
        let mut candidates = open.filter(|c| fail_open || is_left(c));
        candidates.next().map(|candidate| candidate.upstream)
    }
}

/// The way of one transaction: what was tried, what is left, what it has so far.
struct Course<'a> {
    transaction: &'a Transaction,
    tried: Vec<UpstreamId>,
    retries_left: u8,
    in_hand: InHand,
    /// Where the request failed first: the first half of a pair.
    first_failure: Option<UpstreamId>,
}

/// Whether a further attempt has to be paid for.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Price {
    /// A token of the retry budget.
    Token,
    /// Nothing: its upstream was ejected, so each such request burdens the next one just once.
    Free,
}

impl Course<'_> {
    fn on(&mut self, event: Event, running: &mut Vec<Running>) -> Option<End> {
        match event {
            Event::Done(place, Ok(answered)) => {
                self.answered(running.remove(place), answered, running)
            }
            Event::Done(place, Err(error)) => self.failed(running.remove(place), error, running),
            Event::TimedOut(place, error) => self.failed(running.remove(place), error, running),
            Event::Late(place) => {
                let attempt = &mut running[place];
                attempt.overdue = true;
                attempt.judge.conclude(Outcome::Failure(FailureKind::Late));
                self.first_failure.get_or_insert(attempt.upstream);
                self.rescue(running, Price::Token);
                None
            }
            Event::Left => {
                let first = self.tried[0];
                for attempt in running.iter_mut().filter(|attempt| attempt.upstream == first) {
                    attempt.overdue = true;
                }
                self.rescue(running, Price::Free);
                None
            }
            Event::Deadline => {
                for attempt in running.iter_mut() {
                    attempt.judge.conclude(Outcome::Failure(FailureKind::Late));
                }
                running.clear();
                if matches!(self.in_hand, InHand::Nothing) {
                    self.in_hand = InHand::Error(AttemptError::HeadTimeout);
                }
                Some(self.give_up())
            }
        }
    }

    /// A head came.
    fn answered(
        &mut self,
        mut attempt: Running,
        answered: Answered,
        running: &mut Vec<Running>,
    ) -> Option<End> {
        let transaction = self.transaction;
        let (status, headers) = (answered.response.status(), answered.response.headers());
        let marker = classify::marker(transaction.pool().rules.marker.as_ref(), headers);
        let verdict = attempt.judge.head(status, marker, attempt.started);
        let failed = matches!(verdict, Outcome::Failure(_));
        self.note_pair(attempt.upstream, verdict);
        if !failed {
            for other in running.iter_mut() {
                other.judge.conclude(Outcome::Ignored(Ignored::Cancelled));
            }
            return Some(self.relay(answered, attempt.judge, verdict));
        }
        self.first_failure.get_or_insert(attempt.upstream);
        // The first upstream's own answer is what the client gets when no retry succeeds.
        if !matches!(self.in_hand, InHand::Answer(_)) {
            self.in_hand = InHand::Answer(Box::new((answered, attempt.judge, verdict)));
        }
        self.go_on(Situation::Answered(verdict), running)
    }

    /// No head will come.
    fn failed(
        &mut self,
        mut attempt: Running,
        error: AttemptError,
        running: &mut Vec<Running>,
    ) -> Option<End> {
        if let AttemptError::Body(fault) = error {
            attempt.judge.conclude(error.outcome());
            return match fault {
                BodyFault::TooLarge => Some(End::Refused(Refusal::BodyTooLarge)),
                BodyFault::Client => Some(End::Refused(Refusal::Malformed)),
                BodyFault::Superseded => self.go_on(Situation::Failed(error.reach()), running),
            };
        }
        attempt.judge.conclude(error.outcome());
        self.note_pair(attempt.upstream, error.outcome());
        if matches!(error.outcome(), Outcome::Failure(_)) {
            self.first_failure.get_or_insert(attempt.upstream);
        }
        let situation = Situation::Failed(error.reach());
        if matches!(self.in_hand, InHand::Nothing) {
            self.in_hand = InHand::Error(error);
        }
        self.go_on(situation, running)
    }

    /// After a failure: wait for what still runs, try elsewhere, or answer with what there is.
    fn go_on(&mut self, situation: Situation, running: &mut Vec<Running>) -> Option<End> {
        if !running.is_empty() {
            return None;
        }
        match self.next_attempt(situation, Price::Token) {
            Some(next) => {
                running.push(next);
                None
            }
            None => Some(self.give_up()),
        }
    }

    /// A waiting request is also sent elsewhere; what it waits for goes on.
    fn rescue(&mut self, running: &mut Vec<Running>, price: Price) {
        if running.len() == 1 && self.transaction.body.is_complete() {
            running.extend(self.next_attempt(Situation::Waiting, price));
        }
    }

    fn next_attempt(&mut self, situation: Situation, price: Price) -> Option<Running> {
        let transaction = self.transaction;
        let rule = &transaction.pool().rules.retry;
        let replay = transaction.body.replay();
        if self.retries_left == 0
            || !retry::may_move(rule, &transaction.head.method, replay, situation)
        {
            return None;
        }
        let next = transaction.next_candidate(&self.tried)?;
        let (state, worker) = (transaction.state(), transaction.worker.index);
        match price {
            Price::Token if !budget::take(state, worker, rule, clock::now()) => return None,
            Price::Token => {}
            Price::Free => state.rows[worker].retries.add(1),
        }
        self.retries_left -= 1;
        self.tried.push(next);
        Some(transaction.start(next))
    }

    /// The second half of a pair: the same request, known at two providers.
    fn note_pair(&self, second: UpstreamId, outcome: Outcome) {
        let Some(first) = self.first_failure.filter(|first| *first != second) else { return };
        let second_went = match outcome {
            Outcome::Success => PairEnd::Succeeded,
            Outcome::OriginError | Outcome::Failure(_) => PairEnd::FailedToo,
            Outcome::Ignored(_) => return,
        };
        let states = &self.transaction.view.states;
        self.transaction.worker.evidence.send(Evidence::Pair {
            first: states.upstream(first).serial,
            second: states.upstream(second).serial,
            second_went,
            at: clock::now(),
            class: self.transaction.head.class,
        });
    }

    fn relay(&self, answered: Answered, judge: Judge, verdict: Outcome) -> End {
        let Answered { response, lent } = answered;
        let (mut head, incoming) = response.into_parts();
        let timeouts = &self.transaction.pool().rules.timeouts;
        let patience = match reject::is_endless(&head.headers) {
            true => BodyPatience::Unbounded,
            false => BodyPatience::Bounded {
                stall: timeouts.body_stall,
                min_rate: timeouts.body_min_rate,
            },
        };
        crate::request::headers::strip_hop_by_hop(&mut head.headers);
        head.version = http::Version::HTTP_11;
        head.extensions.clear();
        let body = AnswerBody::relayed(incoming, lent, judge, (verdict, patience));
        End::Relayed(Response::from_parts(head, body))
    }

    /// Answers with what there is.
    fn give_up(&mut self) -> End {
        let all_down = &self.transaction.pool().rules.all_down;
        let is_down = self.transaction.plan().mode == PoolMode::FailOpen;
        let wants_page = is_down && all_down.serve == AllDownServe::Page;
        let method = &self.transaction.head.method;
        match std::mem::replace(&mut self.in_hand, InHand::Nothing) {
            InHand::Answer(answer) => {
                let (answered, judge, verdict) = *answer;
                self.relay(answered, judge, verdict)
            }
            InHand::Error(_) if wants_page => End::Own(reject::page(&all_down.page, method)),
            InHand::Error(AttemptError::HeadTimeout | AttemptError::UploadStalled) => End::Own(
                reject::own(StatusCode::GATEWAY_TIMEOUT, "The service did not answer in time.\n"),
            ),
            InHand::Error(_) | InHand::Nothing => End::Own(reject::own(
                StatusCode::BAD_GATEWAY,
                "The service could not be reached.\n",
            )),
        }
    }
}

/// Records what one attempt came to: once, whatever happens to it.
pub(super) struct Judge {
    worker: Rc<Worker>,
    state: Arc<UpstreamState>,
    body: RequestBody,
    class: MethodClass,
    witness: Witness,
    marker: Marker,
    concluded: bool,
}

impl Judge {
    fn new(transaction: &Transaction, state: &Arc<UpstreamState>) -> Self {
        state.rows[transaction.worker.index].in_flight.add(1);
        Self {
            worker: Rc::clone(&transaction.worker),
            state: Arc::clone(state),
            body: transaction.body.clone(),
            class: transaction.head.class,
            witness: transaction.witness,
            marker: Marker::Unconfigured,
            concluded: false,
        }
    }

    /// A head came: counts what is certain by now, and says what it came to.
    fn head(&mut self, status: StatusCode, marker: Marker, started: Instant) -> Outcome {
        let row = &self.state.rows[self.worker.index];
        row.durations.observe(clock::now().saturating_duration_since(started));
        if classify::is_markable(status) && marker != Marker::Unconfigured {
            row.markable.add(1);
            row.marked.add(u64::from(marker == Marker::Present));
        }
        self.marker = marker;
        let trust =
            if self.state.is_marker_armed() { MarkerTrust::Armed } else { MarkerTrust::Unarmed };
        let verdict = classify::head(status, marker, trust);
        // A good head may still have a bad body; a bad one is bad already.
        if verdict != Outcome::Success {
            self.conclude(verdict);
        }
        verdict
    }

    /// What the attempt came to; only the first word counts.
    pub(super) fn conclude(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.concluded, true) {
            return;
        }
        self.state.rows[self.worker.index].count(self.class, outcome);
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
            class: self.class,
            marker: self.marker,
        });
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
    }
}
