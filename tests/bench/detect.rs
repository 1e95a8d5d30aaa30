//! How long the detector takes, how often it is wrong, and what it costs: the tables of
//! `docs/DETECTION.md`, from the real detector in virtual time.
//!
//! `cargo bench --bench detect` runs everything (minutes); `-- --quick` a little of it; `-- steps N`
//! only N steering steps at full size, for a tool that counts allocations.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bascule::clock;
use bascule::decide::detector::Detector;
use bascule::exchange::evidence::{self, Evidence};
use bascule::exchange::ledger::UpstreamRow;
use bascule::model::cell::{Cell, HostId};
use bascule::model::habit::Habits;
use bascule::model::health::{HealthTag, IncidentEdge, Transition};
use bascule::model::id::{Label, PoolId, ProviderId, UpstreamId, UpstreamKey};
use bascule::model::outcome::{FailureKind, Marker, MethodClass, Outcome};
use bascule::model::place::{Country, Footing, Jurisdiction, Residency};
use bascule::model::realm::{RealmId, Realms};
use bascule::model::signal::{
    Counts, DURATION_BUCKETS, HostCounts, HostSample, Note, Pair, PairEnd, Sample, Signal, Subject,
    Witness,
};
use bascule::model::topology::{
    Endpoint, EndpointHost, HostPattern, HostRule, HttpRule, Pool, Provider, ProviderKind, Route,
    Rules, Scheme, Topology, Upstream,
};

const CELL: Cell = Cell { class: MethodClass::Safe, host: HostId::new(0) };
/// Who asks: enough that nobody is met twice within a trip.
const WITNESSES: u64 = 1_000_000;
/// Before the fault begins.
const WARM: Duration = Duration::from_secs(120);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(place) = arguments.iter().position(|word| word == "steps") {
        let steps = arguments.get(place + 1).and_then(|word| word.parse().ok()).unwrap_or(100);
        let mut load = Load::new(100, 5, 1);
        for _ in 0..steps {
            load.step(Traffic::Good);
        }
        return;
    }
    let quick = arguments.iter().any(|word| word == "--quick");
    print!("{}", detection_times(quick));
    print!("{}", false_alarms(quick));
    print!("{}", costs(quick));
}

/// A deterministic stream of numbers.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// In `0..1`.
    fn roll(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From one event to the next, of so many a second.
    fn gap(&mut self, rate: f64) -> Duration {
        Duration::from_secs_f64(-(1.0 - self.roll()).ln() / rate)
    }
}

fn label(text: &str) -> Label {
    Label::new(text).expect("a label")
}

/// So many services over the same providers, each with so many hosts.
fn topology(services: usize, providers: usize, hosts: usize) -> Arc<Topology> {
    let mut all = Topology::default();
    for number in 0..providers {
        let seat = Country::new("SI").expect("a country");
        all.providers.push(Provider {
            name: label(&format!("p{number}")),
            seat,
            jurisdiction: Jurisdiction::of_seat(seat),
            footing: Footing::default(),
            kind: ProviderKind::Edge,
            substrates: Vec::new(),
            habits: Habits::default(),
        });
    }
    for service in 0..services {
        let (name, pool) = (label(&format!("s{service}")), PoolId::new(service));
        let first = all.upstreams.len();
        for provider in 0..providers {
            let endpoint = format!("https://p{provider}.example:443");
            let key = UpstreamKey {
                service: name.clone(),
                provider: label(&format!("p{provider}")),
                endpoint: endpoint.into(),
            };
            all.upstreams.push(upstream(key, ProviderId::new(provider), pool));
        }
        for host in 0..hosts {
            let host = HostPattern::Exact(format!("h{host}.s{service}.example").into());
            all.routes.push(Route { host, prefix: "/".into(), pool, realm: RealmId::WHOLE });
        }
        all.pools.push(Pool {
            service: name,
            residency: Residency::Any,
            realms: Realms::default(),
            upstreams: (first..all.upstreams.len()).map(UpstreamId::new).collect(),
            barred: Vec::new(),
            rules: Rules::default(),
        });
    }
    Arc::new(all.settled())
}

fn upstream(key: UpstreamKey, provider: ProviderId, pool: PoolId) -> Upstream {
    let endpoint = Endpoint {
        scheme: Scheme::Https,
        host: EndpointHost::Name("p.example".into()),
        port: 443,
        host_rule: HostRule::Public,
        http: HttpRule::Auto,
        idle_timeout: Duration::from_secs(60),
        ca: None,
        identity: None,
        path: Default::default(),
        headers: Default::default(),
    };
    Upstream { key, provider, pool, endpoint, preference: 1, weight: 100, max_in_flight: None }
}

/// A service with two providers, of which only the first is asked, and whose retries succeed.
struct Stage {
    detector: Detector,
    dice: Dice,
    began: Instant,
    now: Instant,
}

impl Stage {
    /// Of a service that is known: it had a good day at this rate.
    fn known(seed: u64, rate: f64) -> Self {
        let mut stage = Self::new(seed);
        let mut memory = stage.detector.memory();
        for upstream in &mut memory.upstreams {
            upstream.baseline.attempts = rate * 86_400.0;
        }
        stage.detector.resume(&memory, stage.now);
        stage
    }

    fn new(seed: u64) -> Self {
        let began = clock::now();
        let topology = topology(1, 2, 1);
        let detector = Detector::new(topology, seed, began);
        let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Self { detector, dice, began, now: began }
    }

    /// So many went well and so many failed up to now; each failure went well at the other one.
    fn tell(&mut self, successes: u32, failures: u32) -> Vec<Transition> {
        let (first, second) = (UpstreamId::new(0), UpstreamId::new(1));
        let (now, durations) = (self.now, [0; DURATION_BUCKETS]);
        let own =
            Counts { successes: [successes, 0], failures: [failures, 0], ..Counts::default() };
        let theirs = Counts { successes: [failures, 0], ..Counts::default() };
        for (upstream, counts) in [(first, own), (second, theirs)] {
            if counts != Counts::default() {
                let sample = Sample { upstream, counts, durations };
                self.detector.observe(&Signal::Sample(sample), now);
            }
        }
        for _ in 0..failures {
            let witness = Witness((self.dice.next() % WITNESSES) as u32);
            let (upstream, marker) = (first, Marker::Unconfigured);
            let subject = Subject::Failure(FailureKind::ServerError);
            let note = Note { upstream, at: now, subject, witness, cell: CELL, marker };
            self.detector.observe(&Signal::Note(note), now);
            let second_went = PairEnd::Succeeded;
            let pair = Pair { first, second, second_went, at: now, cell: CELL };
            self.detector.observe(&Signal::Pair(pair), now);
        }
        self.detector.decide(now)
    }

    /// Seconds from the beginning of a fault of this share to each first word of it, in the order of
    /// [`Found`]; up to the ejection, or for so long.
    fn detect(&mut self, rate: f64, share: f64, most: Duration) -> [Option<f64>; 3] {
        let warm = rate * WARM.as_secs_f64() / 60.0;
        for _ in 0..60 {
            self.now += WARM / 60;
            self.tell(warm as u32, 0);
        }
        let begin = self.now;
        let mut next = begin + self.dice.gap(rate);
        let mut heard = [None; 3];
        while self.now < begin + most && heard[Found::Ejected as usize].is_none() {
            // The first failure wakes the loop, then it drains every 10 ms.
            let due = self.detector.next_deadline().filter(|due| *due > self.now);
            let step = next.max(self.now + Duration::from_millis(10));
            self.now =
                due.map_or(step, |due| due.min(step).max(self.now + Duration::from_millis(10)));
            let (mut successes, mut failures) = (0, 0);
            while next <= self.now {
                if self.dice.roll() < share {
                    failures += 1
                } else {
                    successes += 1
                }
                next += self.dice.gap(rate);
            }
            let after = (self.now - begin).as_secs_f64();
            for found in self.tell(successes, failures).iter().filter_map(found) {
                heard[found as usize].get_or_insert(after);
            }
        }
        heard
    }
}

/// What a trip led to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Found {
    Ejected,
    Alerted,
    Withheld,
}

fn found(transition: &Transition) -> Option<Found> {
    match transition {
        Transition::Health { to: HealthTag::Ejected, .. } => Some(Found::Ejected),
        Transition::GrayAlert { edge: IncidentEdge::Raised, .. } => Some(Found::Alerted),
        Transition::Withheld { .. } => Some(Found::Withheld),
        _ => None,
    }
}

/// True failures, and requests a second, of the table of detection times.
const SHARES: [f64; 5] = [1.0, 0.3, 0.1, 0.05, 0.02];
const RATES: [f64; 4] = [1.0, 10.0, 100.0, 10_000.0];

fn detection_times(quick: bool) -> String {
    let runs = if quick { 3 } else { 200 };
    let mut out = String::from(
        "## Detection times\n\nSeconds from the beginning of the fault, mean (p95): to the first word \
         (an ejection, or an alert that something is wrong), then to the ejection.\n\n\
         | true failures | | 1 req/s | 10 | 100 | 10,000 |\n|---|---|--:|--:|--:|--:|\n",
    );
    for share in SHARES {
        let (mut words, mut ejections) = (String::new(), String::new());
        for rate in RATES {
            // Long enough for the ejection to come, short enough to run.
            let most = Duration::from_secs_f64((20_000.0 / rate).clamp(60.0, 4.0 * 3600.0));
            let heard: Vec<[Option<f64>; 3]> =
                (1..=runs).map(|seed| Stage::known(seed, rate).detect(rate, share, most)).collect();
            let first = heard.iter().filter_map(|h| h.iter().flatten().copied().reduce(f64::min));
            let ejected = heard.iter().filter_map(|h| h[Found::Ejected as usize]);
            words += &format!(" {} |", summary(first.collect(), heard.len()));
            ejections += &format!(" {} |", summary(ejected.collect(), heard.len()));
        }
        out += &format!("| {:.0} % | word |{words}\n", share * 100.0);
        out += &format!("| | ejected |{ejections}\n");
    }
    out + "\n"
}

/// Mean (p95), and in how many of all runs it came, if not in all.
fn summary(mut took: Vec<f64>, all: usize) -> String {
    if took.is_empty() {
        return "never".to_owned();
    }
    took.sort_by(f64::total_cmp);
    let mean = took.iter().sum::<f64>() / took.len() as f64;
    let p95 = took[took.len() * 95 / 100];
    let often = if took.len() < all { format!(", {} of {all}", took.len()) } else { String::new() };
    format!("{} ({}){often}", seconds(mean), seconds(p95))
}

fn seconds(value: f64) -> String {
    if value >= 120.0 {
        format!("{:.1} min", value / 60.0)
    } else if value >= 10.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// Alarms of requests that fail evenly at random, as on any good day.
fn false_alarms(quick: bool) -> String {
    let mut out = String::from(
        "## False alarms\n\nRequests that fail at random, evenly, as on any good day.\n\n\
         | background | req/s | requests | days | ejections | trips withheld | gray alerts | \
         of these in the first day |\n|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let all = if quick { 1e6 } else { 1e9 };
    for background in [0.001_f64, 0.01] {
        for (rate, part) in [(10.0, 0.1), (100.0, 0.4), (10_000.0, 0.5)] {
            let mut stage = Stage::new(7);
            let (mut told, mut left, mut early) = ([0_u32; 3], all * part, 0);
            while left > 0.0 {
                // So many go well until one fails; no longer than a minute at a time.
                let gap = ((1.0 - stage.dice.roll()).ln() / (1.0 - background).ln()).floor();
                let most = (rate * 60.0_f64).max(1.0);
                let (went_well, failed) = if gap > most { (most, 0) } else { (gap, 1) };
                left -= went_well + f64::from(failed);
                stage.now += Duration::from_secs_f64((went_well + f64::from(failed)) / rate);
                for found in stage.tell(went_well as u32, failed).iter().filter_map(found) {
                    told[found as usize] += 1;
                    let day = Duration::from_secs(86_400);
                    early += u32::from(stage.now < stage.began + day);
                }
            }
            let days = (stage.now - stage.began).as_secs_f64() / 86_400.0;
            let [ejected, alerted, withheld] = told;
            let (percent, requests) = (background * 100.0, all * part);
            out += &format!(
                "| {percent} % | {rate} | {requests:.0e} | {days:.1} | {ejected} | {withheld} | \
                 {alerted} | {early} |\n"
            );
        }
    }
    out + "\n"
}

/// What a step is told of.
#[derive(Clone, Copy, Debug)]
enum Traffic {
    /// Everything goes well.
    Good,
    /// Every upstream fails a little, for every host.
    Failing,
}

/// Many services at once.
struct Load {
    detector: Detector,
    upstreams: usize,
    hosts: usize,
    now: Instant,
    dice: Dice,
}

impl Load {
    fn new(services: usize, providers: usize, hosts: usize) -> Self {
        let now = clock::now();
        let detector = Detector::new(topology(services, providers, hosts), 1, now);
        Self { detector, upstreams: services * providers, hosts, now, dice: Dice(99) }
    }

    /// One drain of 100 ms, of a hundred requests at each upstream; how long it took.
    fn step(&mut self, traffic: Traffic) -> Duration {
        self.now += Duration::from_millis(100);
        let signals = self.signals(traffic);
        let began = clock::now();
        for signal in &signals {
            self.detector.observe(signal, self.now);
        }
        self.detector.decide(self.now);
        clock::now() - began
    }

    fn signals(&mut self, traffic: Traffic) -> Vec<Signal> {
        let mut signals = Vec::new();
        for upstream in (0..self.upstreams).map(UpstreamId::new) {
            let failures = match traffic {
                Traffic::Good => 0,
                Traffic::Failing => u32::from(self.dice.roll() < 0.5),
            };
            for host in (0..self.hosts).map(HostId::new).filter(|_| self.hosts > 1) {
                let each = 50 / self.hosts as u32 + 1;
                let failures = [if host.index() == 0 { failures } else { 0 }, 0];
                let counts = HostCounts { successes: [each; 2], failures, ..HostCounts::default() };
                signals.push(Signal::Host(HostSample { upstream, host, counts }));
            }
            let counts =
                Counts { successes: [50, 50], failures: [failures, 0], ..Counts::default() };
            let mut durations = [0; DURATION_BUCKETS];
            durations[5] = 100;
            signals.push(Signal::Sample(Sample { upstream, counts, durations }));
            for _ in 0..failures {
                let witness = Witness((self.dice.next() % WITNESSES) as u32);
                let subject = Subject::Failure(FailureKind::ServerError);
                let (at, marker) = (self.now, Marker::Unconfigured);
                let note = Note { upstream, at, subject, witness, cell: CELL, marker };
                signals.push(Signal::Note(note));
            }
        }
        signals
    }
}

fn costs(quick: bool) -> String {
    let steps = if quick { 20 } else { 2000 };
    let mut out = String::from("## Cost\n\n| what | median |\n|---|--:|\n");
    for (hosts, traffic, what) in [
        (1, Traffic::Good, "one steering step, 500 upstreams, all well"),
        (16, Traffic::Good, "the same with 32 cells each"),
        (16, Traffic::Failing, "the same, half of the upstreams failing 1 %, cells full"),
    ] {
        let mut load = Load::new(100, 5, hosts);
        let mut took: Vec<Duration> = (0..steps).map(|_| load.step(traffic)).collect();
        took.sort();
        let micros = took[took.len() / 2].as_secs_f64() * 1e6;
        out += &format!("| {what} | {micros:.0} µs |\n");
    }
    let many = if quick { 10_000 } else { 20_000_000 };
    let row = UpstreamRow::default();
    let each = per_call(many, || {
        let row = black_box(&row);
        row.count(MethodClass::Safe, Outcome::Success);
        row.durations.observe(Duration::from_micros(37));
    });
    out +=
        &format!("| recording an outcome and its duration, on the request path | {each:.1} ns |\n");
    let (sender, mut receiver) = evidence::channel();
    let at = clock::now();
    let each = per_call(many / 100, || {
        sender.send(Evidence::Note {
            serial: 1,
            at,
            subject: Subject::Failure(FailureKind::Late),
            witness: Witness(7),
            cell: CELL,
            marker: Marker::Unconfigured,
        });
        receiver.ready();
    });
    out += &format!("| noting a failure, taken out again | {each:.0} ns |\n");
    out
}

fn per_call(times: u32, mut call: impl FnMut()) -> f64 {
    let began = clock::now();
    for _ in 0..times {
        call();
    }
    (clock::now() - began).as_secs_f64() * 1e9 / f64::from(times)
}
