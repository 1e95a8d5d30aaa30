//! The data plane alone: requests flow on a snapshot that nobody updates.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::worker::{self, Command, Listener, Spec, Stage};
use crate::exchange::edge::{Edge, ListenerState};
use crate::exchange::evidence;
use crate::exchange::settings::{Settings, SettingsCell};
use crate::exchange::snapshot::{self, View};
use crate::exchange::state::{Seed, States};
use crate::model::habit::Habits;
use crate::model::id::{Label, PoolId, ProviderId, UpstreamId, UpstreamKey};
use crate::model::limits::Limits;
use crate::model::outcome::{FailureKind, MethodClass, Outcome};
use crate::model::place::{Country, Footing, Jurisdiction, Residency};
use crate::model::plan::{Place, PoolMode, PoolPlan, Rescue, Wish};
use crate::model::realm::{RealmId, Realms};
use crate::model::topology::{
    Endpoint, EndpointHost, HostPattern, HostRule, HttpRule, Pool, Provider, ProviderKind, Route,
    Rules, Scheme, Topology, Upstream,
};
use crate::model::unit::{Generation, Permille};
use crate::routing::matcher::Matcher;
use crate::routing::snapshot::RoutingSnapshot;

/// An upstream that gives every connection the same bytes, once a whole head has come.
fn upstream_saying(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer_all(stream, answer));
        }
    });
    address
}

fn answer_all(mut stream: TcpStream, answer: &[u8]) {
    let mut head = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

fn label(text: &str) -> Label {
    Label::new(text).expect("label")
}

fn topology(addresses: &[SocketAddr]) -> Topology {
    let ids = 0..addresses.len();
    let name = |index: usize| label(&format!("edge{index}"));
    Topology {
        providers: ids
            .clone()
            .map(|index| Provider {
                name: name(index),
                seat: Country::new("SI").expect("country"),
                jurisdiction: Jurisdiction::Eu,
                footing: Footing::default(),
                kind: ProviderKind::Edge,
                substrates: Vec::new(),
                habits: Habits::default(),
            })
            .collect(),
        upstreams: ids
            .clone()
            .map(|index| Upstream {
                key: UpstreamKey {
                    service: label("portal"),
                    provider: name(index),
                    endpoint: addresses[index].to_string().into(),
                },
                provider: ProviderId::new(index),
                pool: PoolId::new(0),
                endpoint: Endpoint {
                    scheme: Scheme::Http,
                    host: EndpointHost::Address(addresses[index].ip()),
                    port: addresses[index].port(),
                    host_rule: HostRule::Public,
                    http: HttpRule::Auto,
                    idle_timeout: Duration::from_secs(60),
                    ca: None,
                    identity: None,
                    path: crate::model::topology::PathRule::default(),
                    headers: crate::model::topology::HeaderRule::default(),
                },
                preference: index as u16,
                weight: 100,
                max_in_flight: None,
            })
            .collect(),
        pools: vec![Pool {
            service: label("portal"),
            residency: Residency::Any,
            realms: Realms::default(),
            upstreams: ids.map(UpstreamId::new).collect(),
            barred: Vec::new(),
            rules: Rules::default(),
        }],
        routes: vec![Route {
            host: HostPattern::Any,
            prefix: "/".into(),
            pool: PoolId::new(0),
            realm: RealmId::WHOLE,
        }],
    }
    .settled()
}

fn in_order(topology: &Topology) -> PoolPlan {
    let share = |place| if place == 0 { Permille::ALL } else { Permille::ZERO };
    let wishes = (0..topology.upstreams.len()).map(|place| Wish {
        upstream: UpstreamId::new(place),
        safe: share(place),
        unsafe_: share(place),
        rescue: Rescue::Takes,
        place: Place::Preferred,
    });
    PoolPlan::new(topology.pools[0].realms.whole(), PoolMode::Normal, wishes.collect())
}

struct Running {
    address: SocketAddr,
    states: Arc<States>,
    stage: watch::Sender<Stage>,
    handle: worker::Handle,
    _publisher: snapshot::SnapshotPublisher,
    _evidence: evidence::EvidenceReceiver,
}

#[expect(clippy::disallowed_methods, reason = "the beginning of the budget's windows")]
fn run(addresses: &[SocketAddr]) -> Running {
    let topology = topology(addresses);
    let mut seed = Seed {
        workers: 1,
        serial: 0,
        instance: crate::model::instance::Instance::default(),
        now: std::time::Instant::now(),
    };
    let states = Arc::new(States::adopt(&topology, &States::default(), &mut seed));
    let view = View {
        tls: topology.upstreams.iter().map(|_| None).collect(),
        states: Arc::clone(&states),
        routing: RoutingSnapshot {
            generation: Generation::ZERO.next(),
            matcher: Arc::new(Matcher::new(&topology)),
            plans: vec![Arc::new(in_order(&topology))],
            topology: Arc::new(topology),
        },
    };
    let (publisher, snapshots) = snapshot::channel(view);
    let (evidence, received) = evidence::channel();
    let (stage, stages) = watch::channel(Stage::Serving);
    let settings = Settings {
        limits: Limits::default(),
        trusted_proxies: Vec::new(),
        access_log: None,
        #[cfg(feature = "otlp")]
        traces: None,
    };
    let metrics = crate::telemetry::metrics::Metrics::new();
    let (access_log, ..) = crate::telemetry::access_log::start(None, &metrics).expect("a thread");
    let handle = worker::spawn(Spec {
        index: 0,
        snapshots,
        settings: SettingsCell::new(settings),
        edge: Arc::new(Edge::default()),
        evidence,
        access_log,
        #[cfg(feature = "otlp")]
        traces: None,
        beat: None,
        stage: stages,
        ended: tokio::sync::mpsc::channel(1).0,
    })
    .expect("a worker");
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    socket.set_nonblocking(true).expect("nonblocking");
    let address = socket.local_addr().expect("address");
    let state = Arc::new(ListenerState::new(address, 1));
    let listener = Listener {
        state,
        sockets: vec![socket],
        tls: None,
        manner: crate::model::listening::Manner::default(),
    };
    handle.commands.blocking_send(Command::Listen(vec![listener])).expect("the worker listens");
    Running { address, states, stage, handle, _publisher: publisher, _evidence: received }
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.write_all(request.as_bytes()).expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    answer
}

const GET: &str = "GET /page HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";
const BAD: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 3\r\n\r\nbad";

#[test]
fn a_get_that_fails_at_one_provider_is_answered_by_the_next() {
    let running = run(&[upstream_saying(BAD), upstream_saying(GOOD)]);
    let answer = ask(running.address, GET);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with("good"), "{answer}");
    let failed = Outcome::Failure(FailureKind::ServerError);
    let row = |upstream: usize| &running.states.upstreams[upstream].rows[0];
    assert_eq!(row(0).outcome(MethodClass::Safe, failed), 1);
    assert_eq!(running.states.pools[0].rows[0].retries.get(), 1);
}

#[test]
fn a_post_that_failed_is_answered_by_the_one_that_acted_on_it() {
    let running = run(&[upstream_saying(BAD), upstream_saying(GOOD)]);
    let post =
        "POST /order HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let answer = ask(running.address, post);
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(answer.ends_with("bad"), "{answer}");
    assert_eq!(running.states.pools[0].rows[0].retries.get(), 0);
}

#[test]
fn what_never_arrived_goes_elsewhere_whatever_its_method() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let dead = closed.local_addr().expect("address");
    drop(closed);
    let running = run(&[dead, upstream_saying(GOOD)]);
    let post = "POST /order HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc";
    let answer = ask(running.address, post);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[test]
fn a_worker_ends_when_it_has_drained() {
    let running = run(&[upstream_saying(GOOD)]);
    assert!(ask(running.address, GET).ends_with("good"));
    running.stage.send_replace(Stage::Draining);
    running.handle.thread.join().expect("no panic");
    assert!(TcpStream::connect(running.address).is_err());
}
