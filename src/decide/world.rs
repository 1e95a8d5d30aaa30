//! A small world for tests of the detector: requests, retries and probes in virtual time, through
//! whatever plan the detector makes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::detector::Detector;
use crate::model::cell::{Cell, HostId};
use crate::model::habit::Habits;
use crate::model::health::{Health, ProbePace, Transition};
use crate::model::id::{Label, PoolId, ProviderId, UpstreamId, UpstreamKey};
use crate::model::outcome::{FailureKind, Marker, MethodClass};
use crate::model::place::{Country, Footing, Jurisdiction, Residency};
use crate::model::plan::{PoolPlan, Rescue};
use crate::model::realm::Realms;
use crate::model::signal::{
    Counts, DURATION_BUCKETS, Note, OriginReport, Pair, PairEnd, ProbeReport, ProbeResult, Sample,
    Signal, Subject, Witness,
};
use crate::model::topology::{
    Endpoint, EndpointHost, HostRule, HttpRule, Pool, Provider, ProviderKind, Rules, Scheme,
    Topology, Upstream,
};

/// What an upstream does with a request, or with a probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    Good,
    /// A 5xx with the origin's marker.
    Origin,
    Bad(FailureKind),
}

/// How the world behaves.
pub struct Behaviour<'a> {
    /// Requests a second.
    pub rate: f64,
    /// Of which so many of a hundred are safe.
    pub safe: u32,
    /// Who asks, by dice of 0 to 1.
    pub witness: &'a dyn Fn(f64) -> u32,
    /// Whether the service's answers carry the marker when they are good.
    pub marked: bool,
    /// What the upstream at a place answers to a request, at so many seconds, by dice of 0 to 1.
    pub answer: &'a dyn Fn(usize, f64, &Ask) -> Answer,
    /// What it answers to a probe.
    pub probe: &'a dyn Fn(usize, f64) -> Answer,
    /// What the origin answers to its own probe; `None`: it is not asked.
    pub origin: Option<&'a dyn Fn(f64) -> bool>,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub class: MethodClass,
    pub witness: u32,
    pub dice: f64,
}

pub struct World {
    pub detector: Detector,
    pub topology: Arc<Topology>,
    pub start: Instant,
    pub now: Instant,
    pub log: Vec<Transition>,
    pub lost: u64,
    dice: u64,
    due: f64,
    next_probe: Vec<Instant>,
    next_origin_probe: Instant,
}

/// A pool of providers: name, seat, substrates. A name `direct` is the origin itself.
pub fn topology(
    providers: &[(&str, &str, &[&str])],
    residency: Residency,
    rules: Rules,
) -> Topology {
    let label = |text: &str| Label::new(text).expect("a label");
    let mut all = Topology::default();
    for (index, (name, seat, substrates)) in providers.iter().enumerate() {
        let seat = Country::new(seat).expect("a country");
        all.providers.push(Provider {
            name: label(name),
            seat,
            jurisdiction: Jurisdiction::of_seat(seat),
            footing: Footing::default(),
            kind: if *name == "direct" { ProviderKind::Origin } else { ProviderKind::Edge },
            substrates: substrates.iter().map(|s| label(s)).collect(),
            habits: Habits::default(),
        });
        if !residency.permits(Jurisdiction::of_seat(seat)) {
            continue;
        }
        all.upstreams.push(Upstream {
            key: UpstreamKey {
                service: label("portal"),
                provider: label(name),
                endpoint: format!("https://{name}.example:443").into(),
            },
            provider: ProviderId::new(index),
            pool: PoolId::new(0),
            endpoint: Endpoint {
                scheme: Scheme::Https,
                host: EndpointHost::Name(format!("{name}.example").into()),
                port: 443,
                host_rule: HostRule::Public,
                http: HttpRule::Auto,
                idle_timeout: Duration::from_secs(60),
                ca: None,
                identity: None,
                path: crate::model::topology::PathRule::default(),
                headers: crate::model::topology::HeaderRule::default(),
            },
            preference: index as u16 + 1,
            weight: 100,
            max_in_flight: None,
        });
    }
    let upstreams = (0..all.upstreams.len()).map(UpstreamId::new).collect();
    let (service, realms) = (label("portal"), Realms::default());
    all.pools.push(Pool { service, residency, realms, upstreams, barred: Vec::new(), rules });
    all.settled()
}

/// Three edges, two of them in the EU, nothing shared.
pub fn three() -> Topology {
    topology(
        &[("cloudflare", "US", &[]), ("bunny", "SI", &[]), ("gcore", "LU", &[])],
        Residency::PreferEu,
        Rules::default(),
    )
}

/// The beginning of invented time.
#[expect(clippy::disallowed_methods, reason = "an arbitrary instant to count from")]
pub fn start() -> Instant {
    Instant::now()
}

impl World {
    pub fn new(topology: Topology) -> Self {
        let topology = Arc::new(topology);
        let start = start();
        let count = topology.upstreams.len();
        Self {
            detector: Detector::new(Arc::clone(&topology), 7, start),
            topology,
            start,
            now: start,
            log: Vec::new(),
            lost: 0,
            dice: 0x1234_5678_9abc_def1,
            due: 0.0,
            next_probe: (0..count)
                .map(|i| start + Duration::from_millis(313 * (i as u64 + 1)))
                .collect(),
            next_origin_probe: start,
        }
    }

    pub fn seeded(mut self, seed: u64) -> Self {
        self.dice ^= seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self
    }

    pub fn seconds(&self) -> f64 {
        (self.now - self.start).as_secs_f64()
    }

    pub fn plan(&self) -> Arc<PoolPlan> {
        Arc::clone(&self.detector.plans()[0])
    }

    pub fn first(&self) -> usize {
        self.plan().first().expect("a first candidate").index()
    }

    pub fn health(&self, upstream: usize) -> Health {
        self.detector.upstream(UpstreamId::new(upstream), self.now).health
    }

    pub fn flips(&self) -> usize {
        let flip = |t: &&Transition| {
            matches!(t, Transition::Failover { .. } | Transition::Failback { .. })
        };
        self.log.iter().filter(flip).count()
    }

    pub fn ejections(&self) -> usize {
        let ejection = |t: &&Transition| matches!(t, Transition::Health { hold: Some(_), .. });
        self.log.iter().filter(ejection).count()
    }

    /// The log, a line each, for a failed test to show.
    pub fn told(&self) -> String {
        let seconds = |at: &Instant| (*at - self.start).as_secs_f64();
        let line = |transition: &Transition| match transition {
            Transition::Health { upstream, from, to, at, reason, .. } => {
                format!("{:.2} {upstream:?} {from:?} to {to:?}: {reason:?}", seconds(at))
            }
            Transition::Withheld { upstream, tier, at, evidence } => {
                format!("{:.2} {upstream:?} {tier:?} withheld: {evidence:?}", seconds(at))
            }
            Transition::Failover { from, to, at, reason, .. } => {
                format!("{:.2} failover {from:?} to {to:?}: {}", seconds(at), reason.as_str())
            }
            Transition::Failback { from, to, at, reason, .. } => {
                format!("{:.2} failback {from:?} to {to:?}: {}", seconds(at), reason.as_str())
            }
            Transition::Mode { from, to, at, .. } => {
                format!("{:.2} {from:?} to {to:?}", seconds(at))
            }
            Transition::OriginIncident { edge, at, attribution, .. } => {
                format!("{:.2} origin incident {edge:?}: {attribution:?}", seconds(at))
            }
            Transition::Ordered { upstream, from, to, at } => {
                format!("{:.2} {upstream:?} {from:?} {to:?}", seconds(at))
            }
            Transition::GrayAlert { upstream, edge, at } => {
                format!("{:.2} {upstream:?} gray alert {edge:?}", seconds(at))
            }
            Transition::Slice { slice, edge, upstream, at, .. } => {
                format!("{:.2} {slice:?} {edge:?} from {upstream:?}", seconds(at))
            }
            Transition::Provider { provider, edge, at, .. } => {
                format!("{:.2} {provider:?} demotion {edge:?}", seconds(at))
            }
            Transition::CommonCause { edge, at, ground, .. } => {
                format!("{:.2} common cause {edge:?} by {ground:?}", seconds(at))
            }
            Transition::Limit { upstream, limit, at } => {
                format!("{:.2} {upstream:?} limited to {limit:?}", seconds(at))
            }
        };
        self.log.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn roll(&mut self) -> f64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Lives so long, drained every 100 ms, or every 10 ms in doubt.
    pub fn run(&mut self, behaviour: &Behaviour, until: f64) {
        while self.seconds() < until {
            let step = Duration::from_millis(if self.detector.in_doubt() { 10 } else { 100 });
            self.now += step;
            self.due += behaviour.rate * step.as_secs_f64();
            let count = self.topology.upstreams.len();
            let mut samples = vec![(Counts::default(), [0; DURATION_BUCKETS]); count];
            while self.due >= 1.0 {
                self.due -= 1.0;
                self.request(behaviour, &mut samples);
            }
            for (index, (counts, durations)) in samples.into_iter().enumerate() {
                if counts != Counts::default() {
                    let upstream = UpstreamId::new(index);
                    self.tell(Signal::Sample(Sample { upstream, counts, durations }));
                }
            }
            self.probe(behaviour);
            let said = self.detector.decide(self.now);
            self.log.extend(said);
        }
    }

    fn tell(&mut self, signal: Signal) {
        self.detector.observe(&signal, self.now);
    }

    fn request(
        &mut self,
        behaviour: &Behaviour,
        samples: &mut [(Counts, [u32; DURATION_BUCKETS])],
    ) {
        let class = if self.roll() * 100.0 < f64::from(behaviour.safe) {
            MethodClass::Safe
        } else {
            MethodClass::Unsafe
        };
        let witness = (behaviour.witness)(self.roll());
        let whole = self.plan();
        let plan = whole.of_cell(Cell { class, host: HostId::default() });
        let ticket = (self.roll() * 1000.0) as u16;
        let Some(place) = plan.pick(class, ticket) else { return };
        let first = plan.candidates()[place].upstream();
        if self.attempt(behaviour, first, Ask { class, witness, dice: 0.0 }, samples)
            == Answer::Good
        {
            return;
        }
        let others: Vec<UpstreamId> = plan
            .candidates()
            .iter()
            .filter(|c| c.upstream() != first && c.rescue == Rescue::Takes)
            .map(|c| c.upstream())
            .collect();
        if class == MethodClass::Unsafe || others.is_empty() {
            self.lost += 1;
            return;
        }
        let second = others[0];
        let answer = self.attempt(behaviour, second, Ask { class, witness, dice: 0.0 }, samples);
        let second_went =
            if answer == Answer::Good { PairEnd::Succeeded } else { PairEnd::FailedToo };
        self.lost += u64::from(answer != Answer::Good);
        let (at, cell) = (self.now, Cell { class, host: HostId::default() });
        self.tell(Signal::Pair(Pair { first, second, second_went, at, cell }));
    }

    fn attempt(
        &mut self,
        behaviour: &Behaviour,
        upstream: UpstreamId,
        mut ask: Ask,
        samples: &mut [(Counts, [u32; DURATION_BUCKETS])],
    ) -> Answer {
        ask.dice = self.roll();
        let answer = (behaviour.answer)(upstream.index(), self.seconds(), &ask);
        let (counts, durations) = &mut samples[upstream.index()];
        let class = ask.class.index();
        let configured = if behaviour.marked { Marker::Absent } else { Marker::Unconfigured };
        let (subject, marker) = match answer {
            Answer::Good => {
                counts.successes[class] += 1;
                durations[5] += 1;
                counts.markable += 1;
                counts.marked += u32::from(behaviour.marked);
                return answer;
            }
            Answer::Origin => {
                counts.origin_errors[class] += 1;
                (Subject::OriginError, Marker::Present)
            }
            Answer::Bad(kind) => {
                counts.failures[class] += 1;
                (Subject::Failure(kind), configured)
            }
        };
        let (at, witness) = (self.now, Witness(ask.witness));
        let cell = Cell { class: ask.class, host: HostId::default() };
        self.tell(Signal::Note(Note { upstream, at, subject, witness, cell, marker }));
        // The origin's own error is its answer: never retried.
        if answer == Answer::Origin { Answer::Good } else { answer }
    }

    fn probe(&mut self, behaviour: &Behaviour) {
        for index in 0..self.next_probe.len() {
            if self.now < self.next_probe[index] {
                continue;
            }
            let upstream = UpstreamId::new(index);
            let interval = match self.detector.upstream(upstream, self.now).pace {
                ProbePace::Normal => 5.0,
                ProbePace::Brisk => 1.0,
                ProbePace::Urgent => 0.5,
            };
            let spread = 0.8 + 0.4 * self.roll();
            self.next_probe[index] = self.now + Duration::from_secs_f64(interval * spread);
            let result = match (behaviour.probe)(index, self.seconds()) {
                Answer::Good => ProbeResult::Passed,
                Answer::Origin => ProbeResult::OriginError,
                Answer::Bad(kind) => ProbeResult::Failed(kind),
            };
            let (at, took) = (self.now, Duration::from_millis(40));
            self.tell(Signal::Probe(ProbeReport { upstream, at, result, took }));
        }
        if let Some(origin) = behaviour.origin
            && self.now >= self.next_origin_probe
        {
            self.next_origin_probe = self.now + Duration::from_secs(5);
            let passed = origin(self.seconds());
            let failed = ProbeResult::Failed(FailureKind::Connect);
            let result = if passed { ProbeResult::Passed } else { failed };
            let (pool, at) = (PoolId::new(0), self.now);
            self.tell(Signal::Origin(OriginReport { pool, at, result }));
        }
    }
}
