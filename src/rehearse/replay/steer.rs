//! The steering loop of the replay: counts and evidence in, plans and flags out, at the same
//! instants at which `control::steering` would draw them from the real proxy.
//!
//! Who decides is the real detector, or a [`Peer`] to compare it with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cast::{Decider, Setup};
use super::peer::Peer;
use crate::decide::detector::Detector;
use crate::model::cell::{Cell, HostId};
use crate::model::health::{ProbePace, Retries, Transition, UpstreamStanding};
use crate::model::id::{PoolId, UpstreamId};
use crate::model::outcome::{Marker, MethodClass, Outcome};
use crate::model::plan::PoolPlan;
use crate::model::signal::{
    Counts, DURATION_BOUNDS, DURATION_BUCKETS, HostCounts, HostSample, Sample, Signal,
};
use crate::model::topology::Topology;
use crate::model::unit::Permille;
use crate::request::classify::MarkerTrust;

/// Between two drains while nothing is in doubt.
const CALM: Duration = Duration::from_millis(100);
/// Between two drains while something is; also the least time between any two.
const DOUBT: Duration = Duration::from_millis(10);

/// Who decides, and what waits for it.
pub(super) struct Steer {
    mind: Mind,
    /// The instant at which the replay begins.
    began: Instant,
    samples: Vec<Sample>,
    /// By upstream, then by host, of pools that have several.
    hosts: Vec<Vec<HostSample>>,
    evidence: Vec<Signal>,
    /// By pool.
    plans: Vec<Arc<PoolPlan>>,
    /// By upstream: its pool.
    pools: Vec<usize>,
    flags: Vec<Flags>,
    drained: Duration,
    marked: Duration,
    /// What the detector said at the last drain; nothing changes its mind in between.
    in_doubt: bool,
    deadline: Option<Duration>,
}

/// Who decides.
enum Mind {
    /// The real one.
    Detector(Box<Detector>),
    /// One to compare it with, and from when its own patience with a head ends.
    Peer(Peer, Duration),
}

/// What is kept beside the plan for each upstream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flags {
    /// From when a head is late.
    pub(super) late_after: Duration,
    /// Whether an unmarked answer means something.
    pub(super) trust: MarkerTrust,
    /// How fast to probe.
    pub(super) pace: ProbePace,
    /// Share of what the plan gives it that it can hold.
    pub(super) admits: Permille,
    /// Whether it is no candidate at all.
    pub(super) avoided: bool,
}

/// What a drain changed.
#[derive(Debug, Default)]
pub(super) struct Drained {
    /// Why.
    pub(super) transitions: Vec<Transition>,
    /// Whether there is a new plan.
    pub(super) moved: bool,
    /// Upstreams that have just stopped being candidates.
    pub(super) left: Vec<usize>,
}

impl Steer {
    pub(super) fn new(
        topology: &Arc<Topology>,
        setup: &Setup,
        (seed, began): (u64, Instant),
    ) -> Self {
        let mind = match setup.decider {
            Decider::Bascule => {
                Mind::Detector(Box::new(Detector::new(Arc::clone(topology), seed, began)))
            }
            Decider::Peer(rule) => Mind::Peer(Peer::new(topology, rule), setup.rules.timeouts.head),
        };
        let pools = topology.upstreams.iter().map(|upstream| upstream.pool.index()).collect();
        let samples = topology.upstreams().map(|(upstream, _)| empty(upstream)).collect();
        let by_pool = topology.hosts_of_all();
        let hosts = topology.upstreams().map(|(upstream, it)| {
            let hosts = by_pool[it.pool.index()].len().min(HostId::MOST);
            let hosts = if hosts > 1 { hosts } else { 0 };
            (0..hosts).map(|host| nothing(upstream, HostId::new(host))).collect()
        });
        let mut steer = Self {
            hosts: hosts.collect(),
            plans: mind.plans(),
            mind,
            pools,
            began,
            samples,
            evidence: Vec::new(),
            flags: Vec::new(),
            drained: Duration::ZERO,
            marked: Duration::ZERO,
            in_doubt: false,
            deadline: None,
        };
        steer.mark(Duration::ZERO);
        steer
    }

    /// Who takes what of a pool's requests now.
    pub(super) fn plan(&self, pool: usize) -> &Arc<PoolPlan> {
        &self.plans[pool]
    }

    /// The same of every pool.
    pub(super) fn plans(&self) -> &[Arc<PoolPlan>] {
        &self.plans
    }

    /// What is kept beside the plan.
    pub(super) fn flags(&self, upstream: usize) -> Flags {
        self.flags[upstream]
    }

    /// How many requests of a service may be tried a second time.
    pub(super) fn retries(&self, service: usize) -> Retries {
        match &self.mind {
            Mind::Detector(detector) => detector.retries(PoolId::new(service)),
            Mind::Peer(..) => Retries::Budget,
        }
    }

    /// A time of the replay as the detector knows it.
    pub(super) fn instant(&self, at: Duration) -> Instant {
        self.began + at
    }

    /// A time of the detector's as the replay knows it.
    pub(super) fn time(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.began)
    }

    /// Whether the detector wants to be asked every 10 ms.
    pub(super) fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Whether evidence waits for the next drain.
    pub(super) fn has_evidence(&self) -> bool {
        !self.evidence.is_empty()
    }

    /// When the detector must be asked again at the latest.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// When the next drain is due.
    pub(super) fn due(&self) -> Duration {
        let soonest = self.drained + DOUBT;
        if self.has_evidence() {
            return soonest;
        }
        let latest = self.drained + if self.in_doubt { DOUBT } else { CALM };
        self.deadline.map_or(latest, |deadline| deadline.clamp(soonest, latest))
    }

    /// An attempt came to this.
    pub(super) fn count(
        &mut self,
        at: Duration,
        upstream: usize,
        (cell, outcome): (Cell, Outcome),
    ) {
        add(&mut self.samples[upstream].counts, cell.class, outcome, 1);
        if let Some(host) = self.hosts[upstream].get_mut(cell.host.index()) {
            let class = cell.class.index();
            match outcome {
                Outcome::Success => host.counts.successes[class] += 1,
                Outcome::OriginError => host.counts.origin_errors[class] += 1,
                Outcome::Failure(_) => host.counts.failures[class] += 1,
                Outcome::Ignored(_) => {}
            }
        }
        let now = self.instant(at);
        self.mind.count(upstream, outcome, now);
    }

    /// A head came.
    pub(super) fn head(&mut self, upstream: usize, took: Duration, marker: Option<Marker>) {
        let sample = &mut self.samples[upstream];
        sample.durations[bucket(took)] += 1;
        if let Some(marker) = marker.filter(|marker| *marker != Marker::Unconfigured) {
            sample.counts.markable += 1;
            sample.counts.marked += u32::from(marker == Marker::Present);
        }
    }

    /// Counts of many attempts at once, all of them good; for one host, or the same for each.
    pub(super) fn add(
        &mut self,
        at: Duration,
        (upstream, host): (usize, Option<HostId>),
        many: &Sample,
    ) {
        let now = self.instant(at);
        self.mind.count(upstream, Outcome::Success, now);
        let sample = &mut self.samples[upstream];
        for class in [0, 1] {
            sample.counts.successes[class] += many.counts.successes[class];
            sample.counts.origin_errors[class] += many.counts.origin_errors[class];
            let hosts = &mut self.hosts[upstream];
            let all = 0..hosts.len();
            let only = |host: HostId| host.index()..(host.index() + 1).min(all.end);
            let hosts = &mut hosts[host.map_or(all.clone(), only)];
            share(hosts, class, many.counts.successes[class]);
        }
        sample.counts.markable += many.counts.markable;
        sample.counts.marked += many.counts.marked;
        for (mine, theirs) in sample.durations.iter_mut().zip(&many.durations) {
            *mine += theirs;
        }
    }

    /// What failed last was one of many that went well: nobody counts it as one in a row.
    pub(super) fn is_alone(&mut self, at: Duration, upstream: usize) {
        let now = self.instant(at);
        self.mind.count(upstream, Outcome::Success, now);
    }

    /// Something worth telling one by one.
    pub(super) fn tell(&mut self, signal: Signal) {
        self.evidence.push(signal);
    }

    /// Hands everything over and asks for conclusions.
    pub(super) fn drain(&mut self, at: Duration) -> Drained {
        let now = self.instant(at);
        for host in self.hosts.iter_mut().flatten() {
            if host.counts != HostCounts::default() {
                self.mind.observe(&Signal::Host(*host), now);
                host.counts = HostCounts::default();
            }
        }
        for sample in &mut self.samples {
            if sample.counts != Counts::default() || sample.durations != [0; DURATION_BUCKETS] {
                self.mind.observe(&Signal::Sample(*sample), now);
                *sample = empty(sample.upstream);
            }
        }
        for signal in self.evidence.drain(..) {
            self.mind.observe(&signal, now);
        }
        self.drained = at;
        let transitions = self.mind.decide(now);
        let plans = self.mind.plans();
        self.in_doubt = self.mind.in_doubt();
        self.deadline = self.mind.next_deadline().map(|deadline| self.time(deadline));
        let moved = plans.iter().zip(&self.plans).any(|(next, plan)| !Arc::ptr_eq(next, plan));
        self.plans = plans;
        let mut left = Vec::new();
        if moved || !transitions.is_empty() || at >= self.marked + CALM {
            left = self.mark(at);
        }
        Drained { transitions, moved, left }
    }

    /// Sets the flags; answers who has just stopped being a candidate.
    fn mark(&mut self, at: Duration) -> Vec<usize> {
        self.marked = at;
        let now = self.instant(at);
        let flags = |place: usize| {
            let plan = &self.plans[self.pools[place]];
            let avoided = plan.candidate(UpstreamId::new(place)).is_none();
            Flags { avoided, ..self.mind.flags(UpstreamId::new(place), now) }
        };
        let flags: Vec<Flags> = (0..self.samples.len()).map(flags).collect();
        let was = |place: usize| self.flags.get(place).is_some_and(|flags| flags.avoided);
        let left = (0..flags.len()).filter(|place| flags[*place].avoided && !was(*place)).collect();
        self.flags = flags;
        match self.mind {
            Mind::Detector(_) => left,
            // What waits for an upstream that the peer leaves goes on waiting.
            Mind::Peer(..) => Vec::new(),
        }
    }
}

impl Mind {
    fn count(&mut self, upstream: usize, outcome: Outcome, now: Instant) {
        match self {
            Self::Detector(_) => {}
            Self::Peer(peer, _) => peer.count(upstream, outcome, now),
        }
    }

    fn observe(&mut self, signal: &Signal, now: Instant) {
        match self {
            Self::Detector(detector) => detector.observe(signal, now),
            Self::Peer(..) => {}
        }
    }

    fn decide(&mut self, now: Instant) -> Vec<Transition> {
        match self {
            Self::Detector(detector) => detector.decide(now),
            Self::Peer(peer, _) => peer.decide(now),
        }
    }

    fn plans(&self) -> Vec<Arc<PoolPlan>> {
        match self {
            Self::Detector(detector) => detector.plans(),
            Self::Peer(peer, _) => peer.plans(),
        }
    }

    fn in_doubt(&self) -> bool {
        match self {
            Self::Detector(detector) => detector.in_doubt(),
            Self::Peer(..) => false,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::Detector(detector) => detector.next_deadline(),
            Self::Peer(peer, _) => peer.deadline(),
        }
    }

    /// Without [`Flags::avoided`], which the plan says.
    fn flags(&self, upstream: UpstreamId, now: Instant) -> Flags {
        match self {
            Self::Detector(detector) => {
                let UpstreamStanding { late_after, marker_armed, pace, admits, .. } =
                    detector.upstream(upstream, now);
                let trust = if marker_armed { MarkerTrust::Armed } else { MarkerTrust::Unarmed };
                Flags { late_after, trust, pace, admits, avoided: false }
            }
            Self::Peer(_, late_after) => Flags {
                late_after: *late_after,
                trust: MarkerTrust::Unarmed,
                pace: ProbePace::Normal,
                admits: Permille::ALL,
                avoided: false,
            },
        }
    }
}

fn empty(upstream: UpstreamId) -> Sample {
    Sample { upstream, counts: Counts::default(), durations: [0; DURATION_BUCKETS] }
}

fn nothing(upstream: UpstreamId, host: HostId) -> HostSample {
    HostSample { upstream, host, counts: HostCounts::default() }
}

/// Shares `many` successes evenly among the hosts; what does not divide goes to the first ones.
fn share(hosts: &mut [HostSample], class: usize, many: u32) {
    let parts = hosts.len() as u32;
    for (place, host) in hosts.iter_mut().enumerate() {
        host.counts.successes[class] += many / parts + u32::from((place as u32) < many % parts);
    }
}

/// Adds `n` equal outcomes to counts.
pub(super) fn add(counts: &mut Counts, class: MethodClass, outcome: Outcome, n: u32) {
    let class = class.index();
    match outcome {
        Outcome::Success => counts.successes[class] += n,
        Outcome::OriginError => counts.origin_errors[class] += n,
        Outcome::Failure(_) => counts.failures[class] += n,
        Outcome::Ignored(_) => {}
    }
}

/// The duration bucket of a head.
pub(super) fn bucket(took: Duration) -> usize {
    let seconds = took.as_secs_f64();
    DURATION_BOUNDS.partition_point(|bound| *bound < seconds)
}
