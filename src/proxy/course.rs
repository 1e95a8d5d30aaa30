//! What to do when something happens to a transaction: answer, go on waiting, or try elsewhere.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRAILER};
use http::{Method, Response, StatusCode, response};

use super::answer::AnswerBody;
use super::attempt::{Answered, AttemptError};
use super::judge::Judge;
use super::lent::Reply;
use super::reject;
use super::request_body::BodyFault;
use super::stall;
use super::transaction::{End, Event, Running, Transaction};
use super::tunnel::Switched;
use crate::clock;
use crate::exchange::budget;
use crate::exchange::evidence::Evidence;
use crate::model::id::UpstreamId;
use crate::model::outcome::{FailureKind, Ignored, Outcome};
use crate::model::plan::PoolMode;
use crate::model::refusal::Refusal;
use crate::model::signal::PairEnd;
use crate::model::topology::AllDownServe;
use crate::request::proxy_status::ProxyError;
use crate::request::retry::{self, Situation};

/// The way of one transaction: what was tried, what is left, what it has so far.
pub(super) struct Course<'a> {
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

impl<'a> Course<'a> {
    /// With its first attempt just begun.
    pub(super) fn begin(transaction: &'a Transaction, first: UpstreamId) -> Self {
        Self {
            transaction,
            tried: vec![first],
            retries_left: transaction.pool().rules.retry.attempts,
            in_hand: InHand::Nothing,
            first_failure: None,
        }
    }

    /// Where it was tried first.
    pub(super) fn first(&self) -> UpstreamId {
        self.tried[0]
    }

    /// Takes in an event; some of them are the end.
    pub(super) fn on(&mut self, event: Event, running: &mut Vec<Running>) -> Option<End> {
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
            Event::SlowClient => {
                for attempt in running.iter_mut() {
                    attempt.judge.conclude(Outcome::Ignored(Ignored::ClientGone));
                }
                running.clear();
                Some(End::Refused(Refusal::SlowBody))
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
        let verdict = attempt.judge.head(&answered.head, attempt.started, transaction);
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
        let is_first = attempt.upstream == self.first();
        if is_first || !matches!(self.in_hand, InHand::Answer(_)) {
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
                BodyFault::Slow => Some(End::Refused(Refusal::SlowBody)),
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
        self.tried.push(next.upstream());
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
            cell: self.transaction.head.cell,
        });
    }

    fn relay(&self, answered: Answered, mut judge: Judge, verdict: Outcome) -> End {
        let Answered { mut head, reply } = answered;
        if self.transaction.head.switch.is_ours() && head.status.is_success() {
            // A page in place of a WebSocket: to a client of HTTP/2 its status would say that it has one.
            judge.conclude(verdict);
            return End::Own(without_answer(&AttemptError::NoUpgrade));
        }
        let timeouts = &self.transaction.pool().rules.timeouts;
        let patience = stall::patience(&head.headers, timeouts);
        // Who asks for trailers is told which there will be.
        let takes = self.transaction.head.takes_trailers;
        let trailer = head.headers.get(TRAILER).filter(|_| takes).cloned();
        crate::request::headers::strip_hop_by_hop(&mut head.headers);
        if let Some(trailer) = trailer {
            head.headers.insert(TRAILER, trailer);
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return self.switched(head, reply, judge);
        }
        head.version = http::Version::HTTP_11;
        head.extensions.clear();
        if head.status == StatusCode::NO_CONTENT {
            // RFC 9110, section 8.6.
            head.headers.remove(CONTENT_LENGTH);
        }
        let has_content = self.transaction.head.method != Method::HEAD
            && !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !has_content && !reply.is_end_stream() {
            // Over HTTP/2 there may be more, of which none goes on.
            judge.conclude(verdict);
            return End::Relayed(Response::from_parts(head, AnswerBody::own(Bytes::new())));
        }
        let body = AnswerBody::relayed(reply, judge, verdict, patience);
        End::Relayed(Response::from_parts(head, body))
    }

    /// Both sides go on as something else; what comes of that is nobody's failure.
    fn switched(&self, head: response::Parts, reply: Reply, mut judge: Judge) -> End {
        judge.conclude(Outcome::Success);
        let Some((stream, early)) = reply.into_stream() else {
            return End::Own(unreachable(ProxyError::UpgradeFailed));
        };
        let mut response = Response::new(AnswerBody::own(Bytes::new()));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        self.transaction.head.switch.announce(response.headers_mut());
        End::Switched(response, Switched { stream, early, judge })
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
            InHand::Error(error) => End::Own(without_answer(&error)),
            InHand::Nothing => End::Own(unreachable(ProxyError::DestinationUnavailable)),
        }
    }
}

/// Ours, for want of one of theirs.
fn without_answer(error: &AttemptError) -> Response<AnswerBody> {
    let told = error.told();
    match error {
        AttemptError::HeadTimeout | AttemptError::UploadStalled => {
            let text = "The service did not answer in time.\n";
            reject::own(StatusCode::GATEWAY_TIMEOUT, told, text)
        }
        AttemptError::NoUpgrade => {
            let text = "The service takes no WebSockets.\n";
            reject::own(StatusCode::NOT_IMPLEMENTED, told, text)
        }
        AttemptError::Connect(_)
        | AttemptError::Refused(_)
        | AttemptError::BrokeOff(_)
        | AttemptError::Stale(_)
        | AttemptError::UnaskedUpgrade
        | AttemptError::Forbidden
        | AttemptError::Body(_) => unreachable(told),
    }
}

fn unreachable(told: ProxyError) -> Response<AnswerBody> {
    reject::own(StatusCode::BAD_GATEWAY, told, "The service could not be reached.\n")
}

/// What the request has come to so far, should nothing better come.
enum InHand {
    Nothing,
    /// An upstream's own, bad answer.
    Answer(Box<(Answered, Judge, Outcome)>),
    /// No answer, for this reason.
    Error(AttemptError),
}
