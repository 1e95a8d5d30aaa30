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
use std::num::NonZeroU64;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::Response;

use super::answer::AnswerBody;
use super::attempt::{self, Answered, AttemptError, Call, EndpointHandle, Head};
use super::connections::UpstreamConnections;
use super::course::Course;
use super::judge::Judge;
use super::permit::{self, Belongs};
use super::reject;
use super::request_body::RequestBody;
use super::story::Story;
use super::tunnel::Switched;
use super::worker::Worker;
use crate::clock;
use crate::exchange::snapshot::View;
use crate::exchange::state::PoolState;
use crate::model::id::{PoolId, UpstreamId};
use crate::model::plan::{Candidate, PoolMode, PoolPlan, Rescue};
use crate::model::realm::RealmId;
use crate::model::refusal::Refusal;
use crate::model::signal::Witness;
use crate::model::topology::Pool;
use crate::model::unit::Permille;
use crate::request::sticky::{self, Stuck};

/// A request that has a pool, and everything its attempts share.
pub(super) struct Transaction {
    pub(super) worker: Rc<Worker>,
    pub(super) view: Arc<View>,
    pub(super) pool: PoolId,
    pub(super) realm: RealmId,
    pub(super) head: Rc<Head>,
    pub(super) body: RequestBody,
    pub(super) witness: Witness,
    /// Its prefix, see [`crate::request::witness`].
    pub(super) client: NonZeroU64,
    pub(super) started: Instant,
    pub(super) story: Option<Rc<Story>>,
    /// Where it has to stay at one upstream.
    pub(super) stuck: Option<Stuck>,
}

/// How a transaction ended, for the caller's counters.
pub(super) enum End {
    /// An upstream's answer.
    Relayed(Response<AnswerBody>),
    /// An upstream's 101: what follows is no HTTP.
    Switched(Response<AnswerBody>, Switched),
    /// One of ours.
    Own(Response<AnswerBody>),
    /// The client's fault.
    Refused(Refusal),
}

/// One attempt under way.
pub(super) struct Running {
    pub(super) upstream: UpstreamId,
    pub(super) started: Instant,
    call: Pin<Box<dyn Future<Output = Result<Answered, AttemptError>>>>,
    connections: Rc<UpstreamConnections>,
    pub(super) judge: Judge,
    late_after: Duration,
    /// Whether it is known to be late, or to have lost its upstream.
    pub(super) overdue: bool,
}

/// Something that happened to a running attempt.
pub(super) enum Event {
    Done(usize, Result<Answered, AttemptError>),
    Late(usize),
    Left,
    /// The head timeout of one attempt.
    TimedOut(usize, AttemptError),
    /// The client's body came too slowly.
    SlowClient,
    /// The whole request's time is over.
    Deadline,
}

impl Transaction {
    pub(super) fn pool(&self) -> &Pool {
        self.view.routing.topology.pool(self.pool)
    }

    pub(super) fn plan(&self) -> &PoolPlan {
        self.view.routing.plan(self.pool).of_cell(self.head.cell).of_realm(self.realm)
    }

    pub(super) fn state(&self) -> &PoolState {
        self.view.states.pool(self.pool)
    }

    /// Runs it to the head of the client's answer.
    pub(super) async fn run(&self) -> End {
        let ticket = fastrand::u16(0..1000);
        let aside = self.plan().aside(ticket).filter(|_| self.head.is_nobodys());
        let Some(place) = aside.or_else(|| self.pick(ticket)) else {
            return End::Own(reject::page(&self.pool().rules.all_down.page, &self.head.method));
        };
        let Some(first) = self.plan().spill(place, |candidate| self.admits(candidate)) else {
            self.state().rows[self.worker.index].overload_refusals.add(1);
            return End::Own(reject::overloaded());
        };
        if first != place {
            self.state().rows[self.worker.index].spilled.add(1);
        }
        let first = self.start(&self.plan().candidates()[first]);
        let connections = Rc::clone(&first.connections);
        let mut left = pin!(connections.left.notified());
        let mut course = Course::begin(self, first.upstream);
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
                    running.iter().any(|a| a.upstream == course.first() && !a.overdue);
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

    /// Place of the candidate whose turn it is, or where the client stays.
    fn pick(&self, ticket: u16) -> Option<usize> {
        let class = self.head.cell.class;
        let Some(stuck) = self.stuck else { return self.plan().pick(class, ticket) };
        let topology = &self.view.routing.topology;
        let number = |id| sticky::number_of(topology.provider_of(id).name.as_str());
        stuck.pick(self.plan(), class, number)
    }

    /// Whether an upstream can hold one more request, as far as is known.
    fn admits(&self, candidate: &Candidate) -> bool {
        let admits = self.view.states.upstream(candidate.upstream()).admits();
        (admits == Permille::ALL || fastrand::u16(0..1000) < admits.get())
            && self.has_room(candidate)
    }

    /// Whether it has fewer in flight than its file allows.
    fn has_room(&self, candidate: &Candidate) -> bool {
        let upstream = self.view.routing.topology.upstream(candidate.upstream());
        let state = self.view.states.upstream(candidate.upstream());
        upstream.max_in_flight.is_none_or(|most| state.in_flight() < u64::from(most.get()))
    }

    /// Begins an attempt. Only who is permitted to stand in a plan can be asked for one.
    pub(super) fn start(&self, candidate: &Candidate) -> Running {
        let upstream = candidate.upstream();
        let state = self.view.states.upstream(upstream);
        let connections = self.worker.connections.of(state);
        let judge = Judge::new(self, upstream);
        let call = attempt::make(Call {
            head: Rc::clone(&self.head),
            body: self.body.clone(),
            endpoint: EndpointHandle { view: Arc::clone(&self.view), upstream },
            tls: self.view.tls[upstream.index()].clone(),
            connections: Rc::clone(&connections),
            connect_timeout: self.pool().rules.timeouts.connect,
            #[cfg(feature = "otlp")]
            told: judge.told(),
        });
        Running {
            upstream,
            started: clock::now(),
            call: Box::pin(call),
            connections,
            judge,
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
        if self.body.gives_up_on_client(now) {
            return Some(Event::SlowClient);
        }
        // What has been sent whole is waited for no longer than any other; a body could come for hours.
        if !self.body.is_complete()
            && let Some(place) = running.iter().position(|attempt| attempt.judge.is_forbidden())
        {
            return Some(Event::TimedOut(place, AttemptError::Forbidden));
        }
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
    pub(super) fn next_candidate(&self, tried: &[UpstreamId]) -> Option<&Candidate> {
        let topology = &self.view.routing.topology;
        let provider = |id: UpstreamId| topology.upstream(id).provider;
        let is_new = |c: &&Candidate| tried.iter().all(|t| provider(*t) != provider(c.upstream()));
        let open =
            self.plan().candidates().iter().filter(|c| c.rescue == Rescue::Takes).filter(is_new);
        // An upstream ejected since this request read its snapshot is no place to flee to, unless
        // the plan is to serve from the least bad anyway.
        let is_left = |c: &&Candidate| !self.view.states.upstream(c.upstream()).is_avoided();
        let is_out = |c: &Candidate| self.view.states.upstream(c.upstream()).is_out();
        let fail_open = self.plan().mode == PoolMode::FailOpen;
        // What is asked for more than it can hold is no help to anybody.
        let is_free = |c: &Candidate| {
            self.view.states.upstream(c.upstream()).admits() == Permille::ALL && self.has_room(c)
        };
        let mut candidates = open.filter(|c| {
            (fail_open || is_left(c)) && !is_out(c) && is_free(c) && self.is_still_permitted(c)
        });
        candidates.next()
    }

    /// Whether a configuration that came since this request read its own lets the upstream carry it
    /// too: what a route has forbidden meanwhile is no place to flee to.
    fn is_still_permitted(&self, candidate: &Candidate) -> bool {
        let now = self.worker.snapshots.current();
        if Arc::ptr_eq(&now.routing.topology, &self.view.routing.topology) {
            return true;
        }
        let serial = self.view.states.upstream(candidate.upstream()).serial;
        let place = now.states.upstreams.iter().position(|known| known.serial == serial);
        match permit::belongs(&now.routing, &self.head) {
            Belongs::To(realm) => place.is_some_and(|place| realm.admits(UpstreamId::new(place))),
            Belongs::Nowhere | Belongs::Refused => false,
        }
    }
}
