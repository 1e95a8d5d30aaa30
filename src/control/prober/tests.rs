//! The prober against servers on loopback, with the real snapshot channel and evidence ring.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, spawn_local};

use super::*;
use crate::exchange::evidence::{self, EvidenceReceiver};
use crate::exchange::snapshot::{self, SnapshotPublisher};
use crate::exchange::state::{Seed, States};
use crate::model::example::{self, Example};
use crate::model::plan::PoolPlan;
use crate::model::unit::Generation;
use crate::routing::matcher::Matcher;
use crate::routing::snapshot::RoutingSnapshot;

/// Far beyond what a probe of loopback takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// Answers everything with 204, and counts.
async fn server() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accept");
            count.fetch_add(1, Ordering::Relaxed);
            let mut head = [0; 1024];
            let read = stream.read(&mut head).await.expect("a request");
            assert!(read > 0, "a request");
            let answer = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
            stream.write_all(answer).await.expect("write");
        }
    });
    (port, asked)
}

fn topology(upstreams: &[(&str, u16)]) -> Topology {
    let examples: Vec<_> = upstreams
        .iter()
        .map(|(provider, port)| Example {
            service: "portal",
            provider,
            seat: "FR",
            host: "127.0.0.1",
            port: *port,
        })
        .collect();
    let mut topology = example::topology(&examples);
    for pool in &mut topology.pools {
        pool.rules.probe.interval = Duration::from_millis(100);
    }
    topology
}

fn view(generation: Generation, topology: Topology, before: &States, seed: &mut Seed) -> View {
    let states = Arc::new(States::adopt(&topology, before, seed));
    let plans = topology.pools.iter().map(|_| Arc::new(PoolPlan::default())).collect();
    let tls = topology.upstreams.iter().map(|_| None).collect();
    let matcher = Arc::new(Matcher::new(&topology));
    let routing = RoutingSnapshot { generation, topology: Arc::new(topology), matcher, plans };
    View { routing, states, tls }
}

struct Probed {
    publisher: SnapshotPublisher,
    evidence: EvidenceReceiver,
    seed: Seed,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn probe(topology: Topology) -> Probed {
    let mut seed = Seed {
        workers: 1,
        serial: 0,
        instance: crate::model::instance::Instance::default(),
        now: clock::now(),
    };
    let first = view(Generation::ZERO.next(), topology, &States::default(), &mut seed);
    let (publisher, snapshots) = snapshot::channel(first);
    let (sender, evidence) = evidence::channel();
    let prober = Prober {
        snapshots,
        names: Names::new(&[], crate::net::tls_client::bare(rustls::RootCertStore::empty())),
        roots: Arc::new(rustls::RootCertStore::empty()),
        evidence: sender,
        metrics: Metrics::new(),
    };
    let (shutdown, shut) = watch::channel(false);
    let task = spawn_local(prober.run(shut));
    Probed { publisher, evidence, seed, shutdown, task }
}

impl Probed {
    async fn next(&mut self) -> Evidence {
        let next = tokio::time::timeout(DEADLINE, self.evidence.next()).await;
        next.expect("a report in time").expect("it runs")
    }

    /// The serial number and the result of the next probe of an upstream.
    async fn report(&mut self) -> (u64, ProbeResult) {
        match self.next().await {
            Evidence::Probe { serial, result, .. } => (serial, result),
            other => panic!("not a probe of an upstream: {other:?}"),
        }
    }

    fn adopt(&mut self, topology: Topology) {
        let current = self.publisher.current();
        let generation = current.routing.generation.next();
        let next = view(generation, topology, &current.states, &mut self.seed);
        self.publisher.publish(next);
    }
}

#[tokio::test(flavor = "local")]
async fn standby_upstreams_are_probed_as_often_as_the_first() {
    let ((first, _), (standby, _)) = (server().await, server().await);
    let mut probed = probe(topology(&[("bunny", first), ("gcore", standby)]));
    let mut counts = [0_u32; 2];
    while counts.iter().any(|count| *count < 4) {
        let (serial, result) = probed.report().await;
        assert_eq!(result, ProbeResult::Passed);
        counts[serial as usize - 1] += 1;
    }
    assert!(counts.iter().all(|count| *count <= 8), "{counts:?}");
}

#[tokio::test(flavor = "local")]
async fn a_dead_upstream_is_reported_and_its_name_looked_up_again() {
    let (port, _) = server().await;
    let dead = {
        let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
        closed.local_addr().expect("address").port()
    };
    let mut probed = probe(topology(&[("bunny", port), ("gcore", dead)]));
    let mut results = [probed.report().await, probed.report().await];
    results.sort_by_key(|(serial, _)| *serial);
    let refused = ProbeResult::Failed(FailureKind::Connect);
    assert_eq!(results, [(1, ProbeResult::Passed), (2, refused)]);
    let book = Arc::clone(&probed.publisher.current().states.upstreams[1]);
    let asked = tokio::time::timeout(DEADLINE, book.addresses.asked()).await;
    assert!(asked.is_ok(), "nobody asked for a new look-up");
}

#[tokio::test(flavor = "local")]
async fn after_a_reload_the_gone_are_left_alone_and_the_new_are_probed_at_once() {
    let ((gone, gone_asked), (stays, _), (new, _)) =
        (server().await, server().await, server().await);
    let mut probed = probe(topology(&[("bunny", gone), ("gcore", stays)]));
    for _ in 0..4 {
        probed.report().await;
    }
    probed.adopt(topology(&[("gcore", stays), ("ovh", new)]));
    // Serial 3 is the new one; from its first report on the reload is in force.
    while probed.report().await.0 != 3 {}
    let asked = gone_asked.load(Ordering::Relaxed);
    for _ in 0..6 {
        let (serial, result) = probed.report().await;
        assert!(matches!(serial, 2 | 3), "{serial} is gone");
        assert_eq!(result, ProbeResult::Passed);
    }
    assert_eq!(gone_asked.load(Ordering::Relaxed), asked);
}

#[tokio::test(flavor = "local")]
async fn doubt_makes_probes_more_frequent_than_the_file_says() {
    let (port, _) = server().await;
    let mut slow = topology(&[("bunny", port)]);
    slow.pools[0].rules.probe.interval = Duration::from_secs(3600);
    let mut probed = probe(slow);
    probed.report().await;
    probed.publisher.current().states.upstreams[0].set_pace(ProbePace::Urgent);
    // Would not come within the deadline at the file's pace.
    probed.report().await;
}

#[tokio::test(flavor = "local")]
async fn an_origin_is_probed_by_its_own_name() {
    let ((port, _), (origin, asked)) = (server().await, server().await);
    let mut topology = topology(&[("bunny", port)]);
    topology.pools[0].rules.probe.origin =
        Some(OriginProbe { endpoint: example::endpoint("localhost", origin), path: "/".into() });
    let mut probed = probe(topology);
    let result = loop {
        if let Evidence::Origin { service, result, .. } = probed.next().await {
            assert_eq!(service.as_str(), "portal");
            break result;
        }
    };
    assert_eq!(result, ProbeResult::Passed);
    assert!(asked.load(Ordering::Relaxed) >= 1);
}

#[tokio::test(flavor = "local")]
async fn shutdown_ends_it() {
    let (port, _) = server().await;
    let mut probed = probe(topology(&[("bunny", port)]));
    probed.report().await;
    probed.shutdown.send_replace(true);
    let ended = tokio::time::timeout(DEADLINE, probed.task).await;
    ended.expect("in time").expect("without a panic");
}
