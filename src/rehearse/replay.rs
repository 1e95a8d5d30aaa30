//! One outage under a virtual clock, through the real detector, request rules and plans.
//!
//! In: a [`Scenario`] and the rules of a service. Out: a [`Played`]. The same seed gives the same
//! result. While anything is wrong every request is played by itself; while nothing is, time passes
//! in strides and requests are counted by the hundred, so that fourteen days are short.
//!
//! Not here: what providers answer ([`super::world`]), what the detector concludes
//! ([`crate::decide`]), what must hold ([`super::expect`]).
//!
//! What is simpler than in the real proxy: a good answer under way when its upstream is ejected
//! arrives instead of being asked for again; connections are neither pooled nor counted.

mod budget;
mod cast;
mod course;
mod ending;
mod peer;
mod record;
pub mod recorded;
mod steer;
mod stride;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use self::budget::Budget;
pub use self::cast::{Decider, Setup};
use self::course::Course;
pub use self::peer::Rule;
use self::record::Head;
use self::steer::{Drained, Steer};
use super::scenario::{MarkerFate, Scenario, Service};
use super::tally::Tally;
use super::tally::series::Series;
use super::traffic::{Demand, Request};
use super::world::{Answer, Ask, LEAD, Seen, World};
use crate::exchange::lately::Lately;
use crate::model::health::{HealthTag, IncidentEdge, ProbePace, Transition};
use crate::model::id::UpstreamId;
use crate::model::outcome::{FailureKind, Marker, Outcome};
use crate::model::signal::{ProbeReport, ProbeResult, Signal};
use crate::model::topology::{Rules, Topology};
use crate::request::classify::{self, Acquaintance};

/// Between two probes of an upstream that is half-open, and of one that is suspect.
const BRISK: Duration = Duration::from_secs(1);
const URGENT: Duration = Duration::from_millis(500);

/// What came of one outage.
pub struct Played {
    /// What existed; upstream ids of the tally's transitions are its.
    pub topology: Arc<Topology>,
    /// Everything that happened.
    pub tally: Tally,
    /// The beginning of the replay, for the instants inside transitions.
    pub began: Instant,
    /// How much virtual time passed.
    pub length: Duration,
}

/// Plays one outage. `seed` varies luck and jitter.
pub fn play(scenario: &Scenario, setup: &Setup, seed: u64) -> Played {
    Replay::new(scenario, setup, seed).run()
}

struct Replay {
    topology: Arc<Topology>,
    /// By upstream of the topology: its place in the scenario.
    places: Vec<usize>,
    world: World,
    demand: Demand,
    steer: Steer,
    /// By pool.
    budgets: Vec<Budget>,
    clients: Lately,
    rng: Rng,
    tally: Tally,
    courses: BTreeMap<u64, Course>,
    agenda: BinaryHeap<Reverse<Entry>>,
    entries: u64,
    quiet: stride::Quiet,
    /// Whether the last thing that happened was a drain.
    drained: bool,
    /// What a request loses now if it goes to the first upstream, whoever that suits.
    lost_alone: f64,
    now: Duration,
    next_request: Duration,
    /// First and last change of the outage.
    trigger: (Duration, Duration),
    end: Duration,
}

/// Something that will happen.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Duration,
    /// Keeps the order of what happens at one time.
    number: u64,
    event: Event,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A good answer arrives, after this time.
    Good { upstream: usize, request: Request, took: Duration },
    /// What an attempt of a course meets is known.
    Known { course: u64, attempt: usize },
    /// An attempt of a course is late, if it still waits.
    Late { course: u64, attempt: usize },
    /// A body that began well ends badly.
    BodyFailed { upstream: usize, request: Request, kind: FailureKind },
    /// An upstream is to be probed.
    Probe { upstream: usize },
    /// A probe is over.
    Probed { upstream: usize, result: ProbeResult, took: Duration },
    /// An upstream's name is looked up, after so many look-ups in a row that failed.
    LookUp { upstream: usize, failed: u32 },
    /// The origin fails a request while all else is quiet.
    OriginFails,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl Replay {
    fn new(scenario: &Scenario, setup: &Setup, seed: u64) -> Self {
        let (topology, places) = cast::topology(scenario, setup);
        let rates = scenario.services.iter().map(|service| service.rate);
        let demand =
            Demand::new(scenario.named_paths(), &setup.rules.probe.path, scenario.audience);
        let demand = demand.for_services(rates);
        let began = crate::clock::now();
        let budget = |service: &Service| Budget::new(service.name.clone(), service.rate, began);
        let last = LEAD + scenario.last_change();
        let mut replay = Self {
            world: World::new(scenario, &demand),
            steer: Steer::new(&topology, setup, (seed, began)),
            budgets: scenario.services.iter().map(budget).collect(),
            clients: Lately::new(began),
            rng: Rng::with_seed(seed),
            tally: Tally::new(places.len(), Series::new(last + LEAD, scenario.upstreams.len())),
            courses: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            entries: 0,
            quiet: stride::Quiet::new(&demand, places.len()),
            drained: true,
            lost_alone: 0.0,
            now: Duration::ZERO,
            next_request: Duration::ZERO,
            trigger: (LEAD, last),
            end: last + LEAD,
            topology,
            places,
            demand,
        };
        match setup.decider {
            Decider::Bascule => (0..replay.places.len()).for_each(|upstream| {
                replay.plan(Duration::ZERO, Event::Probe { upstream });
                if replay.world.has_name_faults() {
                    replay.plan(Duration::ZERO, Event::LookUp { upstream, failed: 0 });
                }
            }),
            Decider::Peer(_) => {}
        }
        replay
    }

    fn run(mut self) -> Played {
        while self.now < self.end {
            // Between two drains nothing becomes quiet that was not.
            let drained = std::mem::take(&mut self.drained);
            match drained.then(|| self.stride_end()).flatten() {
                Some(end) => self.stride(end),
                None => self.step(),
            }
        }
        let began = self.steer.instant(Duration::ZERO);
        Played { topology: self.topology, tally: self.tally, began, length: self.end }
    }

    fn rules(&self) -> &Rules {
        &self.topology.pools[0].rules
    }

    fn plan(&mut self, at: Duration, event: Event) {
        self.entries += 1;
        self.agenda.push(Reverse(Entry { at, number: self.entries, event }));
    }

    /// The next thing that happens, by itself.
    fn step(&mut self) {
        let happens = self.agenda.peek().map_or(Duration::MAX, |Reverse(entry)| entry.at);
        let drains = self.steer.due();
        let next = happens.min(drains).min(self.next_request);
        self.now = next.max(self.now);
        if self.now >= self.end {
            return;
        }
        if next == happens {
            if let Some(Reverse(entry)) = self.agenda.pop() {
                self.happen(entry.event);
            }
        } else if next == drains {
            self.drain();
        } else {
            self.next_request = self.now + self.demand.gap(&mut self.rng);
            self.begin();
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Good { upstream, request, took } => {
                let answer = Head { took, status: 200, fate: MarkerFate::Kept };
                self.head(upstream, &request, answer);
                self.steer.count(self.now, upstream, (request.cell(), Outcome::Success));
            }
            Event::Known { course, attempt } => self.known(course, attempt),
            Event::Late { course, attempt } => self.late(course, attempt),
            Event::BodyFailed { upstream, request, kind } => {
                self.conclude(upstream, &request, Outcome::Failure(kind), Marker::Present);
            }
            Event::Probe { upstream } => self.probe(upstream),
            Event::Probed { upstream, result, took } => {
                let (upstream, at) = (UpstreamId::new(upstream), self.steer.instant(self.now));
                self.steer.tell(Signal::Probe(ProbeReport { upstream, at, result, took }));
            }
            Event::LookUp { upstream, failed } => self.look_up(upstream, failed),
            Event::OriginFails => self.origin_fails(),
        }
    }

    /// What a request meets at an upstream of the topology.
    fn ask(&mut self, upstream: usize, request: &Request) -> Answer {
        let ask = Ask { upstream: self.places[upstream], request, at: self.now };
        self.world.answer(ask, &self.demand, &mut self.rng)
    }

    /// Probes an upstream, and plans the next probe of it.
    fn probe(&mut self, upstream: usize) {
        let request = self.demand.probe();
        let seen = self.ask(upstream, &request).seen;
        let rule = &self.rules().probe;
        let limit = rule.timeout;
        let expected = |status: u16| rule.expect.status.iter().any(|range| range.contains(&status));
        let failed = ProbeResult::Failed;
        let (result, took) = match seen {
            Seen::Nothing => {
                (failed(FailureKind::Connect), limit.min(self.rules().timeouts.connect))
            }
            Seen::HandshakeFailed { after } => (failed(FailureKind::Tls), after),
            Seen::BrokenOff { after } => (failed(FailureKind::BrokeOff), after),
            Seen::Head { after, .. } if after >= limit => (failed(FailureKind::Late), limit),
            Seen::Head { after, status, marker, .. } => {
                let marker = self.marker(marker);
                let trust = self.steer.flags(upstream).trust;
                let result = match http::StatusCode::from_u16(status) {
                    Ok(code) => {
                        match classify::head(code, marker, trust, || Acquaintance::Stranger) {
                            Outcome::OriginError => ProbeResult::OriginError,
                            Outcome::Failure(kind) => failed(kind),
                            Outcome::Success | Outcome::Ignored(_) if expected(status) => {
                                ProbeResult::Passed
                            }
                            Outcome::Success | Outcome::Ignored(_) => {
                                failed(FailureKind::ServerError)
                            }
                        }
                    }
                    Err(_) => failed(FailureKind::BrokeOff),
                };
                (result, after)
            }
        };
        self.plan(self.now + took, Event::Probed { upstream, result, took });
        let next = self.now + took.max(self.probe_interval(upstream));
        self.plan(next, Event::Probe { upstream });
    }

    fn probe_interval(&mut self, upstream: usize) -> Duration {
        let configured = self.rules().probe.interval;
        let interval = match self.steer.flags(upstream).pace {
            ProbePace::Normal => configured,
            ProbePace::Brisk => configured.min(BRISK),
            ProbePace::Urgent => configured.min(URGENT),
        };
        interval.mul_f64(0.8 + 0.4 * self.rng.f64())
    }

    /// Hands the detector what there is, and obeys.
    fn drain(&mut self) {
        let paces: Vec<ProbePace> = self.paces();
        self.drained = true;
        self.lost_alone = self.lost_without();
        let drained = self.steer.drain(self.now);
        self.record(&drained);
        for (service, budget) in self.budgets.iter().enumerate() {
            budget.set_retries(self.steer.retries(service));
        }
        for upstream in &drained.left {
            self.leave(*upstream);
        }
        if self.paces() != paces {
            self.hasten_probes(&paces);
        }
    }

    fn paces(&self) -> Vec<ProbePace> {
        (0..self.places.len()).map(|upstream| self.steer.flags(upstream).pace).collect()
    }

    /// Whoever is to be probed faster now does not wait for the slower probe that was planned.
    fn hasten_probes(&mut self, before: &[ProbePace]) {
        let agenda = std::mem::take(&mut self.agenda);
        for Reverse(mut entry) in agenda.into_vec() {
            if let Event::Probe { upstream } = entry.event
                && self.steer.flags(upstream).pace != before[upstream]
            {
                entry.at = entry.at.min(self.now + self.probe_interval(upstream));
            }
            self.agenda.push(Reverse(entry));
        }
    }

    fn record(&mut self, drained: &Drained) {
        if drained.moved || !drained.transitions.is_empty() {
            self.quiet.disturbed(self.now);
        }
        for transition in &drained.transitions {
            self.tally.transitions.push((self.now, *transition));
            match transition {
                Transition::Health { upstream, to: HealthTag::Ejected, .. } => {
                    self.tally.ejected.insert(upstream.index());
                }
                Transition::Failover { from, to, .. } | Transition::Failback { from, to, .. } => {
                    self.tally.flips.push((self.now, from.index(), to.index()));
                }
                Transition::Health { .. }
                | Transition::Withheld { .. }
                | Transition::Mode { .. }
                | Transition::Ordered { .. }
                | Transition::OriginIncident { .. }
                | Transition::GrayAlert { .. }
                | Transition::Provider { .. }
                | Transition::CommonCause { .. }
                | Transition::Limit { .. } => {}
                Transition::Slice { upstream, edge, .. } => {
                    if *edge == IncidentEdge::Raised {
                        self.tally.ejected.insert(upstream.index());
                    }
                }
            }
        }
    }
}
