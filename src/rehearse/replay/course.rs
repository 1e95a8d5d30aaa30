//! One simulated request through all its attempts, by the rules of `proxy::transaction`: the same
//! retry rules and the same budget, over answers that the world invents.

use std::sync::Arc;
use std::time::Duration;

use super::record::Head;
use super::{Event, Replay};
use crate::model::id::UpstreamId;
use crate::model::outcome::{FailureKind, Marker, MethodClass, Outcome, Reach};
use crate::model::plan::{Candidate, PoolMode, PoolPlan, Rescue};
use crate::model::signal::{Pair, PairEnd, Signal};
use crate::model::unit::Permille;
use crate::rehearse::traffic::Request;
use crate::rehearse::world::{Body, Cause, RATE_WINDOW, Seen};
use crate::request::retry::{self, Replay as Resend, Situation};

/// From a head to where its body is cut, in the model.
const TO_CUT: Duration = Duration::from_millis(20);

/// A request that did not simply go well.
#[derive(Debug)]
pub(super) struct Course {
    request: Request,
    began: Duration,
    /// The plan it was picked by, and keeps.
    plan: Arc<PoolPlan>,
    attempts: Vec<Attempt>,
    retries_left: u8,
    first_failure: Option<usize>,
    /// The bad answer that the client gets if nothing better comes: the first upstream's own.
    in_hand: Option<(usize, Cause)>,
}

#[derive(Debug)]
struct Attempt {
    upstream: usize,
    seen: Seen,
    cause: Cause,
    stage: Stage,
}

impl Course {
    /// The plan of its cell.
    fn plan(&self) -> &PoolPlan {
        self.plan.of_cell(self.request.cell())
    }
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// No head yet.
    Waiting,
    /// No head yet, and its upstream was ejected.
    Left,
    /// No head in time: counted.
    Late,
    /// Known, or given up.
    Over,
}

/// A head that came.
#[derive(Clone, Copy, Debug)]
struct Known {
    course: u64,
    upstream: usize,
    /// Whether the attempt was counted as late before.
    counted: bool,
    body: Body,
    cause: Cause,
}

/// Whether a further attempt has to be paid for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Price {
    /// A token of the retry budget.
    Token,
    /// Nothing: its upstream was ejected.
    Free,
}

impl Replay {
    /// A request comes.
    pub(super) fn begin(&mut self) {
        let request = self.demand.draw(&mut self.rng);
        let class = MethodClass::of(request.method());
        self.end_quiet();
        self.budgets[request.service()].count(self.steer.instant(self.now));
        self.tally.begin(self.now);
        self.tally.lost_without += self.lost_alone;
        if let Some(cell) = self.tally.series.at(self.now) {
            cell.lost_without += self.lost_alone as f32;
        }
        let plan = Arc::clone(self.steer.plan(request.service()));
        let ticket = self.rng.u16(0..1000);
        let own = plan.of_cell(request.cell());
        let aside = own.aside(ticket).filter(|_| request.is_nobodys());
        let Some(place) = aside.or_else(|| own.pick(class, ticket)) else {
            return self.end_of(&request, self.now, (None, Cause::Upstream));
        };
        let (steer, rng) = (&self.steer, &mut self.rng);
        let admits = |candidate: &Candidate| {
            let admits = steer.flags(candidate.upstream().index()).admits;
            admits == Permille::ALL || rng.u16(0..1000) < admits.get()
        };
        let Some(place) = own.spill(place, admits) else {
            return self.end_of(&request, self.now, (None, Cause::Upstream));
        };
        let upstream = own.candidates()[place].upstream().index();
        let past = f64::from(u8::from(!self.is_first_choice(upstream)));
        self.tally.hosts.sent(self.now, request.host(), (1.0, past));
        let answer = self.ask(upstream, &request);
        self.note_fault(&request, answer.cause);
        if let Seen::Head { after, body: Body::Whole, .. } = answer.seen
            && answer.cause == Cause::Nobody
            && after < self.steer.flags(upstream).late_after
        {
            self.plan(self.now + after, Event::Good { upstream, request, took: after });
            return self.end_of(&request, self.now, (Some(upstream), answer.cause));
        }
        let course = Course {
            request,
            began: self.now,
            plan,
            attempts: Vec::with_capacity(2),
            retries_left: self.rules().retry.attempts,
            first_failure: None,
            in_hand: None,
        };
        let number = self.entries;
        self.courses.insert(number, course);
        self.attempt(number, upstream, (answer.seen, answer.cause));
    }

    /// The first request that a fault met begins the time to detect it.
    fn note_fault(&mut self, request: &Request, cause: Cause) {
        if cause != Cause::Nobody && !request.origin_fails && self.now >= self.trigger.0 {
            self.tally.first_fault.get_or_insert(self.now);
        }
    }

    /// Begins an attempt whose answer is `(seen, cause)`.
    fn attempt(&mut self, number: u64, upstream: usize, (seen, cause): (Seen, Cause)) {
        let timeouts = self.rules().timeouts;
        let known = match seen {
            Seen::Nothing => timeouts.connect,
            Seen::HandshakeFailed { after } | Seen::BrokenOff { after } => after,
            Seen::Head { after, .. } => after,
        };
        let late = self.steer.flags(upstream).late_after;
        let Some(course) = self.courses.get_mut(&number) else { return };
        let attempt = course.attempts.len();
        let began = self.now;
        course.attempts.push(Attempt { upstream, seen, cause, stage: Stage::Waiting });
        let known = known.min(timeouts.head);
        self.plan(began + known, Event::Known { course: number, attempt });
        if late < known {
            self.plan(began + late, Event::Late { course: number, attempt });
        }
    }

    /// No head in time: counted, and tried elsewhere too.
    pub(super) fn late(&mut self, number: u64, attempt: usize) {
        let Some(course) = self.courses.get_mut(&number) else { return };
        let Attempt { upstream, stage, .. } = &mut course.attempts[attempt];
        if *stage == Stage::Over || *stage == Stage::Late {
            return;
        }
        let was_left = *stage == Stage::Left;
        *stage = Stage::Late;
        let (upstream, request) = (*upstream, course.request);
        course.first_failure.get_or_insert(upstream);
        self.conclude(
            upstream,
            &request,
            Outcome::Failure(FailureKind::Late),
            Marker::Unconfigured,
        );
        if !was_left {
            self.rescue(number, Price::Token);
        }
    }

    /// An upstream was ejected: what waits for it moves on at once.
    pub(super) fn leave(&mut self, left: usize) {
        let waits = |course: &Course| {
            let first = &course.attempts[0];
            first.upstream == left && matches!(first.stage, Stage::Waiting)
        };
        let waiting: Vec<u64> =
            self.courses.iter().filter(|(_, c)| waits(c)).map(|(number, _)| *number).collect();
        for number in waiting {
            if let Some(course) = self.courses.get_mut(&number) {
                course.attempts[0].stage = Stage::Left;
            }
            self.rescue(number, Price::Free);
        }
    }

    /// What an attempt meets is known now.
    pub(super) fn known(&mut self, number: u64, attempt: usize) {
        let Some(course) = self.courses.get_mut(&number) else { return };
        let request = course.request;
        let Attempt { upstream, seen, cause, stage, .. } = &mut course.attempts[attempt];
        let (upstream, seen, cause) = (*upstream, *seen, *cause);
        let counted = std::mem::replace(stage, Stage::Over) == Stage::Late;
        let limit = self.rules().timeouts.head;
        let (outcome, reach) = match seen {
            Seen::Head { after, status, marker, body } if after <= limit => {
                let head = Head { took: after, status, fate: marker };
                let (verdict, marker) = self.head(upstream, &request, head);
                if verdict != Outcome::Success && !counted {
                    self.conclude(upstream, &request, verdict, marker);
                }
                let known = Known { course: number, upstream, counted, body, cause };
                return self.answered(&known, verdict);
            }
            Seen::Head { .. } => (FailureKind::Late, Reach::Perhaps),
            Seen::Nothing => (FailureKind::Connect, Reach::Never),
            Seen::HandshakeFailed { .. } => (FailureKind::Tls, Reach::Never),
            Seen::BrokenOff { .. } => (FailureKind::BrokeOff, Reach::Perhaps),
        };
        let outcome = Outcome::Failure(outcome);
        if !counted {
            self.conclude(upstream, &request, outcome, Marker::Unconfigured);
        }
        self.note_pair(number, upstream, outcome);
        if let Some(course) = self.courses.get_mut(&number) {
            course.first_failure.get_or_insert(upstream);
            course.in_hand.get_or_insert((upstream, cause));
        }
        self.go_on(number, Situation::Failed(reach));
    }

    /// A head came, and this is what it came to.
    fn answered(&mut self, known: &Known, verdict: Outcome) {
        let Known { course: number, upstream, counted, body, cause } = *known;
        self.note_pair(number, upstream, verdict);
        let Some(course) = self.courses.get_mut(&number) else { return };
        if matches!(verdict, Outcome::Failure(_)) {
            course.first_failure.get_or_insert(upstream);
            course.in_hand.get_or_insert((upstream, cause));
            return self.go_on(number, Situation::Answered(verdict));
        }
        let (request, began) = (course.request, course.began);
        self.courses.remove(&number);
        if verdict == Outcome::Success && !counted {
            self.body(upstream, &request, body);
        }
        self.end_of(&request, began, (Some(upstream), cause));
    }

    /// The body of a good head.
    fn body(&mut self, upstream: usize, request: &Request, body: Body) {
        let request = *request;
        let timeouts = &self.rules().timeouts;
        let (after, kind) = match body {
            Body::Cut => (TO_CUT, FailureKind::BodyCut),
            // One byte a second is no silence: only the least rate notices.
            Body::Trickles if timeouts.body_min_rate > 1 => (RATE_WINDOW, FailureKind::BodyStall),
            Body::Whole | Body::Trickles => {
                return self.conclude(upstream, &request, Outcome::Success, Marker::Present);
            }
        };
        self.plan(self.now + after, Event::BodyFailed { upstream, request, kind });
    }

    /// After a failure: wait for what still runs, try elsewhere, or answer with what there is.
    fn go_on(&mut self, number: u64, situation: Situation) {
        let Some(course) = self.courses.get(&number) else { return };
        if course.attempts.iter().any(|attempt| attempt.stage != Stage::Over) {
            return;
        }
        let (request, began, in_hand) = (course.request, course.began, course.in_hand);
        if !self.try_elsewhere(number, situation, Price::Token) {
            self.courses.remove(&number);
            let (upstream, cause) = in_hand.map_or((None, Cause::Upstream), |(u, c)| (Some(u), c));
            self.end_of(&request, began, (upstream, cause));
        }
    }

    /// A waiting request is also sent elsewhere; what it waits for goes on.
    fn rescue(&mut self, number: u64, price: Price) {
        let running = |course: &Course| {
            course.attempts.iter().filter(|attempt| attempt.stage != Stage::Over).count()
        };
        if self.courses.get(&number).is_some_and(|course| running(course) == 1) {
            self.try_elsewhere(number, Situation::Waiting, price);
        }
    }

    fn try_elsewhere(&mut self, number: u64, situation: Situation, price: Price) -> bool {
        let Some(course) = self.courses.get(&number) else { return false };
        let request = course.request;
        let rule = &self.rules().retry;
        if course.retries_left == 0
            || !retry::may_move(rule, request.method(), Resend::Possible, situation)
        {
            return false;
        }
        let Some(next) = self.next_candidate(course) else { return false };
        let now = self.steer.instant(self.now);
        if price == Price::Token && !self.budgets[request.service()].take(rule, now) {
            return false;
        }
        let is_safe = MethodClass::of(request.method()) == MethodClass::Safe;
        if !is_safe && situation != Situation::Failed(Reach::Never) {
            self.tally.unsafe_replayed += 1;
        }
        self.tally.retry(self.now);
        let answer = self.ask(next, &request);
        if let Some(course) = self.courses.get_mut(&number) {
            course.retries_left -= 1;
        }
        self.attempt(number, next, (answer.seen, answer.cause));
        true
    }

    /// The next candidate of another provider that takes what failed elsewhere.
    fn next_candidate(&self, course: &Course) -> Option<usize> {
        let provider = |id: UpstreamId| self.topology.upstream(id).provider;
        let is_new = |candidate: &&Candidate| {
            let tried = course.attempts.iter().map(|attempt| UpstreamId::new(attempt.upstream));
            tried.into_iter().all(|tried| provider(tried) != provider(candidate.upstream()))
        };
        let fail_open = course.plan().mode == PoolMode::FailOpen;
        let is_open = |candidate: &&Candidate| {
            let flags = self.steer.flags(candidate.upstream().index());
            candidate.rescue == Rescue::Takes
                && (fail_open || !flags.avoided)
                && flags.admits == Permille::ALL
        };
        let mut candidates = course.plan().candidates().iter().filter(is_new).filter(is_open);
        candidates.next().map(|candidate| candidate.upstream().index())
    }

    /// The second half of a pair: the same request, known at two providers.
    fn note_pair(&mut self, number: u64, second: usize, outcome: Outcome) {
        let Some(course) = self.courses.get(&number) else { return };
        let Some(first) = course.first_failure.filter(|first| *first != second) else { return };
        let second_went = match outcome {
            Outcome::Success => PairEnd::Succeeded,
            Outcome::OriginError | Outcome::Failure(_) => PairEnd::FailedToo,
            Outcome::Ignored(_) => return,
        };
        let cell = course.request.cell();
        let (first, second) = (UpstreamId::new(first), UpstreamId::new(second));
        let at = self.steer.instant(self.now);
        self.steer.tell(Signal::Pair(Pair { first, second, second_went, at, cell }));
    }
}
