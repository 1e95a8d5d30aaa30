//! Seeded random walks over the detector: whatever it is told, in whatever order, these hold.
//! `BASCULE_SEED` replays one walk, `BASCULE_STEPS` makes walks longer; a failure names the seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bascule::decide::detector::Detector;
use bascule::model::cell::{Cell, HostId, Slice};
use bascule::model::habit::Habits;
use bascule::model::health::{Health, HealthTag, Reason, Transition};
use bascule::model::id::{Label, PoolId, ProviderId, UpstreamId, UpstreamKey};
use bascule::model::operator::{self, AdminState, Order, Override, Target};
use bascule::model::outcome::{FailureKind, Marker, MethodClass};
use bascule::model::place::{Area, Country, Footing, Jurisdiction, Residency};
use bascule::model::plan::{Candidate, PoolMode, PoolPlan};
use bascule::model::realm::{Charter, Charters, Realm, RealmId, Realms};
use bascule::model::signal::{
    ControlReport, Counts, DURATION_BUCKETS, HostCounts, HostSample, Note, OriginReport, Pair,
    PairEnd, ProbeReport, ProbeResult, Reply, ResolutionReport, Sample, Signal, Subject, Witness,
};
use bascule::model::topology::{
    Barred, Endpoint, EndpointHost, HostPattern, HostRule, HttpRule, Pool, Provider, ProviderKind,
    Route, Rules, Scheme, Topology, Upstream,
};
use bascule::model::unit::Permille;
use bascule::request::sticky::Stuck;

const WALKS: u64 = 40;
const STEPS: u32 = 1500;

fn steps() -> u32 {
    let given = std::env::var("BASCULE_STEPS");
    given.map_or(STEPS, |steps| steps.parse().expect("BASCULE_STEPS is a number"))
}

#[test]
fn whatever_the_detector_is_told_its_plans_stay_sound() {
    let seeds = match std::env::var("BASCULE_SEED") {
        Ok(seed) => vec![seed.parse().expect("BASCULE_SEED is a number")],
        Err(_) => (1..=WALKS).collect::<Vec<u64>>(),
    };
    let mut seen = Seen::default();
    for seed in seeds {
        println!("BASCULE_SEED={seed}");
        seen.add(&Walk::new(seed).walk());
    }
    // A walk in which nothing happens proves nothing.
    if std::env::var("BASCULE_SEED").is_err() {
        assert!(seen.ejections > 100 && seen.failbacks > 10 && seen.fail_opens > 3, "{seen:?}");
        assert!(seen.orders > 100 && seen.restarts > 50, "{seen:?}");
        assert!(seen.slices > 10 && seen.frozen > 10 && seen.drills > 10, "{seen:?}");
    }
}

#[test]
fn the_same_walk_ends_in_the_same_place() {
    for seed in [3, 14, 15] {
        let (first, second) = (Walk::new(seed).walk(), Walk::new(seed).walk());
        assert!(!first.told.is_empty());
        assert_eq!(first.told, second.told, "BASCULE_SEED={seed}");
    }
}

/// What happened in a walk, at millisecond offsets, so that two walks can be compared.
#[derive(Debug, Default)]
struct Seen {
    told: Vec<String>,
    ejections: usize,
    failbacks: usize,
    fail_opens: usize,
    orders: usize,
    slices: usize,
    frozen: usize,
    restarts: usize,
    drills: usize,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.ejections += other.ejections;
        self.failbacks += other.failbacks;
        self.fail_opens += other.fail_opens;
        self.orders += other.orders;
        self.slices += other.slices;
        self.frozen += other.frozen;
        self.restarts += other.restarts;
        self.drills += other.drills;
    }
}

/// What attempts at one upstream came to: all, and by host.
type Sums = (Counts, [HostCounts; 3]);

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, end: usize) -> usize {
        (self.roll() * end as f64) as usize
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.roll() < probability
    }
}

/// What of an upstream's attempts fails.
#[derive(Clone, Copy, Default)]
struct Fault {
    share: f64,
    probes: f64,
    /// Only this; `None`: all.
    only: Option<Slice>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Network {
    Well,
    Down,
    Nameless,
}

struct Walk {
    seed: u64,
    dice: Dice,
    detector: Detector,
    topology: Arc<Topology>,
    /// By upstream: what fails.
    faults: Vec<Fault>,
    /// Whether our own network is down, or look-ups are.
    network: Network,
    overrides: Vec<Override>,
    start: Instant,
    now: Instant,
    seen: Seen,
}

impl Walk {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary instant to count from")]
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let topology = Arc::new(invent(&mut dice));
        let start = Instant::now();
        let detector = Detector::new(Arc::clone(&topology), seed, start);
        let faults = vec![Fault::default(); topology.upstreams.len()];
        let seen = Seen::default();
        let overrides = Vec::new();
        let (network, now) = (Network::Well, start);
        Self { seed, dice, detector, topology, faults, network, overrides, start, now, seen }
    }

    fn walk(mut self) -> Seen {
        for step in 0..steps() {
            let quiet = self.detector.next_deadline();
            self.now += match step % 50 {
                // Now and then nothing is heard until the detector wants to be asked.
                0 => quiet.map_or(Duration::from_secs(60), |due| due.duration_since(self.now)),
                _ if self.detector.in_doubt() => Duration::from_millis(10),
                _ => Duration::from_millis(100 + 900 * self.dice.below(2) as u64),
            };
            if self.dice.chance(0.01) {
                self.change_fault();
            }
            if self.dice.chance(0.003) {
                self.reload();
            }
            if self.dice.chance(0.002) {
                self.restart();
            }
            if self.dice.chance(0.004) {
                let all = [Network::Well, Network::Well, Network::Down, Network::Nameless];
                self.network = all[self.dice.below(all.len())];
            }
            if self.dice.chance(0.01) {
                self.order();
            }
            if self.dice.chance(0.01) {
                self.rehearse();
            }
            self.tell();
            let before = self.healths();
            let transitions = self.detector.decide(self.now);
            self.check(&transitions, &before);
        }
        self.seen
    }

    fn change_fault(&mut self) {
        let levels = [0.0, 0.0, 0.0, 0.002, 0.04, 0.3, 1.0];
        let mut level = || levels[self.dice.below(levels.len())];
        let (share, probes) = (level(), level());
        let host = HostId::new(self.dice.below(3));
        let class = MethodClass::ALL[self.dice.below(2)];
        let slices = [Slice::Host(host), Slice::Class(class), Slice::Cell(Cell { class, host })];
        let only = self.dice.chance(0.4).then(|| slices[self.dice.below(3)]);
        let fault = Fault { share, probes, only };
        if self.dice.chance(0.2) {
            self.faults.fill(fault);
        } else if !self.faults.is_empty() {
            let whose = self.dice.below(self.faults.len());
            self.faults[whose] = fault;
        }
    }

    /// Another file: upstreams come, go and change places.
    fn reload(&mut self) {
        let next = Arc::new(invent(&mut self.dice));
        let known: BTreeMap<UpstreamKey, HealthTag> = self
            .topology
            .upstreams()
            .map(|(id, up)| (up.key.clone(), self.detector.upstream(id, self.now).health.tag()))
            .collect();
        let transitions = self.detector.adopt(Arc::clone(&next), self.now);
        self.topology = next;
        self.faults = vec![Fault::default(); self.topology.upstreams.len()];
        for (id, upstream) in self.topology.upstreams() {
            let health = self.detector.upstream(id, self.now).health.tag();
            let before = known.get(&upstream.key).copied().unwrap_or(HealthTag::Healthy);
            assert_eq!(health, before, "BASCULE_SEED={}: a reload forgot", self.seed);
        }
        let before = self.healths();
        self.check(&transitions, &before);
    }

    /// The process ends and begins again, with what it had written down.
    fn restart(&mut self) {
        let memory = self.detector.memory();
        let out = |health: Health| match health {
            Health::Ejected { .. } | Health::HalfOpen { .. } => true,
            Health::Healthy | Health::Suspect | Health::Ramping { .. } => false,
        };
        let before: Vec<bool> = self.healths().into_iter().map(out).collect();
        self.detector = Detector::new(Arc::clone(&self.topology), self.seed, self.now);
        self.detector.resume(&memory, self.now);
        self.detector.obey(self.overrides.clone(), self.now);
        let after: Vec<bool> = self.healths().into_iter().map(out).collect();
        assert_eq!(before, after, "BASCULE_SEED={}: a restart forgot", self.seed);
        self.seen.restarts += 1;
        self.check(&[], &self.healths());
    }

    /// Up to two orders, for a provider or for one upstream, some with an end; none now and then.
    fn order(&mut self) {
        let mut overrides = Vec::new();
        for _ in 0..self.dice.below(3) {
            let provider = label(PROVIDERS[self.dice.below(PROVIDERS.len())].name);
            let service = label(["one", "two", "three"][self.dice.below(3)]);
            let target = if self.dice.chance(0.5) {
                Target::Provider(provider)
            } else {
                Target::Upstream { service, provider }
            };
            let order = Order::ALL[self.dice.below(Order::ALL.len())];
            let minutes = Duration::from_secs(60 * (1 + self.dice.below(10) as u64));
            let until = self.dice.chance(0.7).then(|| self.now + minutes);
            overrides.push(Override { target, order, until });
        }
        let before = self.healths();
        self.overrides.clone_from(&overrides);
        let transitions = self.detector.obey(overrides, self.now);
        self.check(&transitions, &before);
        assert_eq!(self.healths(), before, "BASCULE_SEED={}: an order moved a belief", self.seed);
    }

    /// A drill of some service, or the end of one; most are refused, for something is always wrong.
    /// What it makes of the plans is looked at after the next conclusion: one may be overdue here.
    fn rehearse(&mut self) {
        let service = label(["one", "two", "three"][self.dice.below(3)]);
        let share = Permille::new(1 + self.dice.below(500) as u16).expect("a share");
        let lasts = Duration::from_secs(1 + self.dice.below(600) as u64);
        let transitions = if self.dice.chance(0.2) {
            self.detector.stop_drill(&service, self.now).unwrap_or_default()
        } else {
            let begun = self.detector.begin_drill(&service, (share, lasts), self.now);
            self.seen.drills += usize::from(begun.is_ok());
            begun.map(|(_, transitions)| transitions).unwrap_or_default()
        };
        assert!(transitions.is_empty(), "BASCULE_SEED={}: a drill moved a place", self.seed);
    }

    fn admin(&self, upstream: UpstreamId) -> AdminState {
        operator::state_of(&self.overrides, &self.topology.upstream(upstream).key, self.now)
    }

    fn healths(&self) -> Vec<Health> {
        let ids = (0..self.topology.upstreams.len()).map(UpstreamId::new);
        ids.map(|id| self.detector.upstream(id, self.now).health).collect()
    }

    /// Requests by the plan, their retries, probes; all of it sloppily reported.
    fn tell(&mut self) {
        let plans = self.detector.plans();
        let hosts: Vec<usize> = self.topology.hosts_of_all().iter().map(Vec::len).collect();
        // Each route of a pool has a host of its own.
        let realms: Vec<Vec<RealmId>> = (self.topology.pools())
            .map(|(id, _)| {
                let routes = self.topology.routes.iter().filter(|route| route.pool == id);
                routes.map(|route| route.realm).collect()
            })
            .collect();
        let nothing = (Counts::default(), [HostCounts::default(); 3]);
        let mut samples = vec![nothing; self.topology.upstreams.len()];
        for ((plan, hosts), realms) in plans.iter().zip(&hosts).zip(&realms) {
            for _ in 0..self.dice.below(40) {
                self.request(plan, (*hosts, realms), &mut samples);
            }
        }
        self.tell_network();
        for (index, (counts, by_host)) in samples.into_iter().enumerate() {
            let pool = self.topology.upstreams[index].pool.index();
            for (host, counts) in by_host.into_iter().enumerate().filter(|_| hosts[pool] > 1) {
                let (upstream, host) = (UpstreamId::new(index), HostId::new(host));
                self.observe(Signal::Host(HostSample { upstream, host, counts }));
            }
            let (upstream, durations) = (UpstreamId::new(index), [1; DURATION_BUCKETS]);
            self.observe(Signal::Sample(Sample { upstream, counts, durations }));
        }
        for index in 0..self.faults.len() {
            if self.dice.chance(0.1) {
                let failed = ProbeResult::Failed(FailureKind::ServerError);
                let fails = self.dice.chance(self.faults[index].probes);
                let result = if fails { failed } else { ProbeResult::Passed };
                let (upstream, at, took) = (UpstreamId::new(index), self.now, Duration::ZERO);
                self.observe(Signal::Probe(ProbeReport { upstream, at, result, took }));
            }
        }
        if self.dice.chance(0.02) {
            let pool = PoolId::new(self.dice.below(4));
            let (at, result) = (self.now, ProbeResult::Failed(FailureKind::Connect));
            self.observe(Signal::Origin(OriginReport { pool, at, result }));
        }
    }

    /// Look-ups, and connections to control targets.
    fn tell_network(&mut self) {
        if !self.dice.chance(0.2) {
            return;
        }
        let at = self.now;
        let came = |it: bool| if it { Reply::Came } else { Reply::Missing };
        let reply = came(self.network != Network::Down);
        self.observe(Signal::Control(ControlReport { at, reply }));
        let reply = came(self.network != Network::Nameless);
        for upstream in (0..self.faults.len()).map(UpstreamId::new) {
            self.observe(Signal::Resolution(ResolutionReport { upstream, at, reply }));
        }
    }

    fn request(
        &mut self,
        whole: &PoolPlan,
        (hosts, realms): (usize, &[RealmId]),
        samples: &mut [Sums],
    ) {
        let class = MethodClass::ALL[self.dice.below(2)];
        let cell = Cell { class, host: HostId::new(self.dice.below(hosts.max(1))) };
        let realm = realms.get(cell.host.index()).copied().unwrap_or_default();
        let plan = whole.of_cell(cell).of_realm(realm);
        let ticket = self.dice.below(1000) as u16;
        // Some clients stay where they are, some requests are of nobody and keep a standby warm.
        let picked = match ticket % 10 {
            0 => Stuck::to_token(u64::from(ticket)).pick(plan, class, |id| id.index() as u64),
            1 if class == MethodClass::Safe => plan.aside(ticket),
            _ => None,
        };
        let Some(place) = picked.or_else(|| plan.pick(class, ticket)) else { return };
        let first = plan.candidates()[place].upstream();
        if !self.attempt(first, cell, samples) || plan.candidates().len() < 2 {
            return;
        }
        let second = plan.candidates()[(place + 1) % plan.candidates().len()].upstream();
        let failed = self.attempt(second, cell, samples);
        let second_went = if failed { PairEnd::FailedToo } else { PairEnd::Succeeded };
        let at = self.now;
        self.observe(Signal::Pair(Pair { first, second, second_went, at, cell }));
    }

    /// Whether it failed.
    fn attempt(&mut self, at: UpstreamId, cell: Cell, samples: &mut [Sums]) -> bool {
        let (counts, by_host) = &mut samples[at.index()];
        let (by_host, class) = (&mut by_host[cell.host.index()], cell.class.index());
        let fault = self.faults[at.index()];
        let is_down = self.network == Network::Down;
        let strikes = fault.only.is_none_or(|slice| slice.holds(cell));
        let fails = is_down || strikes && self.dice.chance(fault.share);
        if !fails {
            counts.successes[class] += 1;
            by_host.successes[class] += 1;
            return false;
        }
        counts.failures[class] += 1;
        by_host.failures[class] += 1;
        // One note of ten finds the ring full.
        if !self.dice.chance(0.1) {
            let any = FailureKind::ALL[self.dice.below(FailureKind::ALL.len())];
            let kind = if is_down { FailureKind::Connect } else { any };
            let origin = !is_down && self.dice.chance(0.05);
            let subject = if origin { Subject::OriginError } else { Subject::Failure(kind) };
            let witness = Witness(self.dice.below(30) as u32);
            let (marker, upstream) = (Marker::Absent, at);
            let at = self.now;
            self.observe(Signal::Note(Note { upstream, at, subject, witness, cell, marker }));
        }
        true
    }

    fn observe(&mut self, signal: Signal) {
        self.detector.observe(&signal, self.now);
    }

    fn check(&mut self, transitions: &[Transition], before: &[Health]) {
        let seed = self.seed;
        for transition in transitions {
            self.check_transition(transition, before);
        }
        for ((_, pool), plan) in self.topology.pools().zip(self.detector.plans()) {
            let charters: Vec<&Charter> = pool.realms.in_use().iter().map(Realm::charter).collect();
            for plan in plan.all() {
                self.check_serving((pool, &charters), plan);
                assert_eq!(plan.of_realms().len(), charters.len(), "BASCULE_SEED={seed}");
                for (plan, charter) in plan.of_realms().iter().zip(&charters) {
                    self.check_serving((pool, &[*charter]), plan);
                }
            }
            let parts = plan.parts().iter().enumerate();
            for (place, (slice, _)) in parts {
                let twice = plan.parts()[..place].iter().any(|(other, _)| other == slice);
                assert!(!twice, "BASCULE_SEED={seed}: {slice:?} has two plans");
            }
        }
        if let Some(due) = self.detector.next_deadline() {
            assert!(due > self.now, "BASCULE_SEED={seed}: a deadline in the past");
        }
    }

    /// Who serves may, and obeys; nobody serves only where nobody may.
    fn check_serving(&self, (pool, charters): (&Pool, &[&Charter]), plan: &PoolPlan) {
        let seed = self.seed;
        check_plan((pool, charters), plan, &self.topology, seed);
        let name = |id: UpstreamId| self.topology.provider_of(id).name.as_str();
        let may = |id: UpstreamId| charters.iter().any(|charter| may_carry(charter, name(id)));
        let is_out = |id: UpstreamId| self.admin(id).is_out();
        let closed = pool.upstreams.iter().all(|id| is_out(*id) || !may(*id));
        assert_eq!(plan.mode == PoolMode::FailClosed, closed, "BASCULE_SEED={seed}: {plan:?}");
        let obeyed = plan.candidates().iter().all(|candidate| !is_out(candidate.upstream()));
        assert!(obeyed, "BASCULE_SEED={seed}: one that is out by order is in {plan:?}");
    }

    fn check_transition(&mut self, transition: &Transition, before: &[Health]) {
        let seed = self.seed;
        let offset = |at: Instant| (at - self.start).as_millis();
        let line = match *transition {
            Transition::Health { upstream, from, to, at, reason, hold } => {
                assert_eq!(hold.is_some(), to == HealthTag::Ejected, "BASCULE_SEED={seed}");
                assert_ne!(from, to, "BASCULE_SEED={seed}");
                assert_ne!(before[upstream.index()].tag(), to, "BASCULE_SEED={seed}");
                if to == HealthTag::Ejected {
                    self.seen.ejections += 1;
                    assert!(is_ground(reason), "BASCULE_SEED={seed}: ejected by {reason:?}");
                }
                format!("{} {upstream:?} {from:?} {to:?} {}", offset(at), reason.as_str())
            }
            Transition::Failover { from, to, at, detection, .. } => {
                assert_ne!(from, to, "BASCULE_SEED={seed}");
                assert!(detection <= Some(at - self.start), "BASCULE_SEED={seed}");
                format!("{} failover {from:?} {to:?}", offset(at))
            }
            Transition::Failback { from, to, at, .. } => {
                self.seen.failbacks += 1;
                assert_ne!(from, to, "BASCULE_SEED={seed}");
                format!("{} failback {from:?} {to:?}", offset(at))
            }
            Transition::Mode { from, to, at, .. } => {
                self.seen.fail_opens += usize::from(to == PoolMode::FailOpen);
                assert_ne!(from, to, "BASCULE_SEED={seed}");
                format!("{} {from:?} {to:?}", offset(at))
            }
            Transition::Withheld { upstream, at, .. } => {
                format!("{} {upstream:?} withheld", offset(at))
            }
            Transition::OriginIncident { edge, at, .. } => {
                format!("{} origin incident {edge:?}", offset(at))
            }
            Transition::Ordered { upstream, from, to, at } => {
                assert_ne!(from, to, "BASCULE_SEED={seed}");
                self.seen.orders += 1;
                format!("{} {upstream:?} {from:?} {to:?}", offset(at))
            }
            Transition::GrayAlert { upstream, edge, at } => {
                format!("{} {upstream:?} gray {edge:?}", offset(at))
            }
            Transition::Slice { slice, edge, at, .. } => {
                self.seen.slices += 1;
                format!("{} {slice:?} {edge:?}", offset(at))
            }
            Transition::Provider { provider, edge, at, .. } => {
                format!("{} {provider:?} demotion {edge:?}", offset(at))
            }
            Transition::CommonCause { edge, at, .. } => {
                self.seen.frozen += 1;
                format!("{} common cause {edge:?}", offset(at))
            }
            Transition::Limit { upstream, limit, at } => {
                format!("{} {upstream:?} limit {limit:?}", offset(at))
            }
        };
        self.seen.told.push(line);
    }
}

/// Whether an ejection may stand on it: evidence with its blame, or probes.
fn is_ground(reason: Reason) -> bool {
    match reason {
        Reason::Trip(_, evidence) => {
            evidence.attribution.log_odds >= 0.0 && evidence.score >= 0.0 && evidence.failures > 0
        }
        Reason::Probes { failed, .. } => failed >= 3,
        Reason::ProbeVeto(_) | Reason::Demoted => true,
        _ => false,
    }
}

/// Whether a provider may carry what has this charter: said here once more, from the table.
fn may_carry(charter: &Charter, provider: &str) -> bool {
    let known = PROVIDERS.iter().find(|known| known.name == provider).expect("a known provider");
    let inside = ["SI", "LU", "FR", "DE"].contains(&known.seat) && known.also.is_none();
    let residency = charter.residency != Residency::EuOnly || inside;
    residency && charter.require.iter().all(|_| known.sealed)
}

/// A plan by which requests of one of these charters go.
fn check_plan(
    (pool, charters): (&Pool, &[&Charter]),
    plan: &PoolPlan,
    topology: &Topology,
    seed: u64,
) {
    let sum = |share: fn(&Candidate) -> u16| -> u16 { plan.candidates().iter().map(share).sum() };
    match plan.mode {
        PoolMode::FailClosed => {
            assert!(plan.candidates().is_empty(), "BASCULE_SEED={seed}");
        }
        PoolMode::Normal | PoolMode::FailOpen => {
            assert_eq!(sum(|c| c.safe.get()), 1000, "BASCULE_SEED={seed}: {plan:?}");
            assert_eq!(sum(|c| c.unsafe_.get()), 1000, "BASCULE_SEED={seed}: {plan:?}");
        }
    }
    if let Some(standby) = plan.standby() {
        let idle = plan.candidates().get(standby.place);
        let idle = idle.expect("a standby is a candidate");
        assert_eq!(
            (idle.safe, idle.unsafe_),
            (Permille::ZERO, Permille::ZERO),
            "BASCULE_SEED={seed}"
        );
    }
    for (place, candidate) in plan.candidates().iter().enumerate() {
        assert!(pool.upstreams.contains(&candidate.upstream()), "BASCULE_SEED={seed}: a stranger");
        let twice = plan.candidates()[..place].iter().any(|c| c.upstream() == candidate.upstream());
        assert!(!twice, "BASCULE_SEED={seed}: {plan:?}");
        let provider = topology.provider_of(candidate.upstream()).name.as_str();
        let may = charters.iter().any(|charter| may_carry(charter, provider));
        assert!(may, "BASCULE_SEED={seed}: {provider} stands in a plan for {charters:?}");
    }
}

const HOSTS: [&str; 3] = ["www", "api", "static"];

struct Known {
    name: &'static str,
    seat: &'static str,
    /// Where it serves from besides, or whose law reaches it.
    also: Option<(&'static str, Reach)>,
    /// Whether it has the one qualification that routes ask for.
    sealed: bool,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Reach {
    Servers,
    Law,
}

const fn known(
    name: &'static str,
    seat: &'static str,
    also: Option<(&'static str, Reach)>,
    sealed: bool,
) -> Known {
    Known { name, seat, also, sealed }
}

const PROVIDERS: [Known; 8] = [
    known("a", "US", None, false),
    known("b", "SI", None, true),
    known("c", "LU", None, false),
    known("d", "FR", None, true),
    known("e", "US", None, true),
    known("f", "DE", None, false),
    known("g", "FR", Some(("US", Reach::Servers)), true),
    known("h", "DE", Some(("US", Reach::Law)), false),
];

fn label(text: &str) -> Label {
    Label::new(text).expect("a label")
}

/// One to three services over some of eight providers, some of whose routes have charters of their own; an empty service now and then.
fn invent(dice: &mut Dice) -> Topology {
    let provider = |known: &Known| {
        let country = |code| Country::new(code).expect("a country");
        let (name, seat) = (known.name, country(known.seat));
        let kind = if name == "f" { ProviderKind::Origin } else { ProviderKind::Edge };
        let substrates = if "bd".contains(name) { vec![label("shared")] } else { Vec::new() };
        let reached =
            |by| known.also.filter(|(_, reach)| *reach == by).map(|(code, _)| country(code));
        let mut footing = Footing {
            territory: reached(Reach::Servers).into_iter().chain([seat]).collect(),
            subject_to: reached(Reach::Law).into_iter().collect(),
            qualifications: known.sealed.then(|| label("sealed")).into_iter().collect(),
            outside: None,
        };
        footing.outside = Area::default().outside(seat, &footing);
        let jurisdiction = Jurisdiction::by(footing.outside);
        let habits = Habits::default();
        Provider { name: label(name), seat, jurisdiction, footing, kind, substrates, habits }
    };
    let providers = PROVIDERS.iter().map(provider).collect();
    let mut topology = Topology { providers, ..Topology::default() };
    let services =
        [("one", Residency::Any), ("two", Residency::PreferEu), ("three", Residency::EuOnly)];
    for (service, residency) in services.into_iter().take(1 + dice.below(3)) {
        invent_pool(&mut topology, dice, (service, residency));
    }
    topology
}

fn invent_pool(topology: &mut Topology, dice: &mut Dice, (service, residency): (&str, Residency)) {
    let (mut upstreams, mut barred) = (Vec::new(), Vec::new());
    let own = Charter::of(residency);
    let mut charters = Charters::default();
    let hosts = 1 + dice.below(3);
    let places: Vec<usize> =
        (0..hosts).map(|_| charters.add(&invent_charter(dice, &own)).expect("few")).collect();
    for (index, Known { name, .. }) in PROVIDERS.iter().enumerate() {
        let jurisdiction = topology.providers[index].jurisdiction;
        if dice.chance(0.4) {
            continue;
        }
        if !charters.all().iter().any(|charter| may_carry(charter, name)) {
            let because = "no route may go there".into();
            barred.push(Barred { provider: label(name), jurisdiction, because });
            continue;
        }
        upstreams.push(UpstreamId::new(topology.upstreams.len()));
        topology.upstreams.push(Upstream {
            key: UpstreamKey {
                service: label(service),
                provider: label(name),
                endpoint: format!("https://{name}.example:443").into(),
            },
            provider: ProviderId::new(index),
            pool: PoolId::new(topology.pools.len()),
            endpoint: endpoint(name),
            preference: 1 + dice.below(4) as u16,
            weight: 1 + dice.below(1000) as u16,
            max_in_flight: None,
        });
    }
    for (host, place) in HOSTS.into_iter().zip(places) {
        let host = HostPattern::Exact(format!("{host}.{service}.example").into());
        let (pool, realm) = (PoolId::new(topology.pools.len()), charters.realm(place));
        topology.routes.push(Route { host, prefix: "/".into(), pool, realm });
    }
    upstreams.sort_by_key(|id| topology.upstreams[id.index()].preference);
    let (service, rules) = (label(service), Rules::default());
    let realms = Realms::default();
    topology.pools.push(Pool { service, residency, realms, upstreams, barred, rules });
    topology.settle(&own, &charters);
}

/// The service's own, most of the time.
fn invent_charter(dice: &mut Dice, own: &Charter) -> Charter {
    if dice.chance(0.6) {
        return own.clone();
    }
    let residency = [Residency::Any, Residency::PreferEu, Residency::EuOnly][dice.below(3)];
    let require = dice.chance(0.3).then(|| label("sealed")).into_iter().collect();
    Charter { residency, require }
}

fn endpoint(name: &str) -> Endpoint {
    Endpoint {
        scheme: Scheme::Https,
        host: EndpointHost::Name(format!("{name}.example").into()),
        port: 443,
        host_rule: HostRule::Public,
        http: HttpRule::Auto,
        idle_timeout: Duration::from_secs(60),
        ca: None,
        identity: None,
        path: Default::default(),
        headers: Default::default(),
    }
}
