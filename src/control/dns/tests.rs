//! Look-ups at a name server of our own on loopback, which answers as it is told.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::spawn_local;

use super::*;
use crate::control::names::LIFE;
use crate::exchange::state::{Seed, States};
use crate::exchange::{evidence, snapshot};
use crate::model::example::{self, Example};
use crate::model::name_server::{self, ServerHost, Speech};
use crate::model::plan::PoolPlan;
use crate::model::unit::Generation;
use crate::net::tls_client;
use crate::routing::matcher::Matcher;
use crate::routing::snapshot::RoutingSnapshot;

/// Far beyond what loopback takes, and beyond the least pause between two look-ups.
const DEADLINE: Duration = Duration::from_secs(20);

/// What the server says to every question.
#[derive(Clone, Debug)]
enum Says {
    Addresses { v4: Vec<Ipv4Addr>, v6: Vec<Ipv6Addr>, ttl: u32 },
    Nothing,
    NoSuchName,
}

struct NameServer {
    address: SocketAddr,
    says: RefCell<Says>,
    asked: Cell<u32>,
}

async fn server_that(says: Says) -> Rc<NameServer> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
    let address = socket.local_addr().expect("address");
    let server = Rc::new(NameServer { address, says: RefCell::new(says), asked: Cell::new(0) });
    let serving = Rc::clone(&server);
    spawn_local(async move {
        let mut bytes = [0; 1500];
        loop {
            let (length, peer) = socket.recv_from(&mut bytes).await.expect("receive");
            let question = Message::from_vec(&bytes[..length]).expect("a question");
            let answer = serving.answer(question).to_vec().expect("an answer");
            serving.asked.set(serving.asked.get() + 1);
            socket.send_to(&answer, peer).await.expect("send");
        }
    });
    server
}

/// No server of these tests is spoken to over TLS.
fn no_tls() -> Arc<rustls::ClientConfig> {
    tls_client::bare(rustls::RootCertStore::empty())
}

fn system() -> Names {
    Names::new(&[], no_tls())
}

impl NameServer {
    fn names(&self) -> Names {
        let host = ServerHost::Address(self.address.ip());
        let port = self.address.port();
        Names::new(&[name_server::NameServer { host, port, speech: Speech::Plain }], no_tls())
    }

    fn answer(&self, question: Message) -> Message {
        let query = question.queries[0].clone();
        let name = query.name().clone();
        let mut answer = question.into_response();
        match &*self.says.borrow() {
            Says::Addresses { v4, v6, ttl } => {
                let data: Vec<RData> = match query.query_type() {
                    RecordType::A => v4.iter().map(|ip| RData::A((*ip).into())).collect(),
                    RecordType::AAAA => v6.iter().map(|ip| RData::AAAA((*ip).into())).collect(),
                    _ => Vec::new(),
                };
                let record = |data| Record::from_rdata(name.clone(), *ttl, data);
                answer.insert_answers(data.into_iter().map(record).collect());
            }
            Says::Nothing => {}
            Says::NoSuchName => answer.metadata.response_code = ResponseCode::NXDomain,
        }
        answer
    }
}

fn v4_only(ttl: u32) -> Says {
    Says::Addresses { v4: vec![Ipv4Addr::new(192, 0, 2, 1)], v6: Vec::new(), ttl }
}

#[tokio::test(flavor = "local")]
async fn a_look_up_brings_both_families_without_repetition() {
    let (v4, v6) = (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::LOCALHOST);
    let says = Says::Addresses { v4: vec![v4, v4], v6: vec![v6], ttl: 60 };
    let server = server_that(says).await;
    let found = server.names().look_up("portal.cdn.example").await;
    let found = found.expect("an answer");
    assert_eq!(found.addresses, [IpAddr::from(v6), IpAddr::from(v4)]);
    assert_eq!(found.life, Duration::from_secs(60));
}

#[tokio::test(flavor = "local")]
async fn the_life_of_an_answer_is_bounded_on_both_sides() {
    for (ttl, seconds) in [(0, 5), (1, 5), (299, 299), (u32::MAX / 4, 300)] {
        let server = server_that(v4_only(ttl)).await;
        let found = server.names().look_up("portal.cdn.example").await;
        assert_eq!(found.expect("an answer").life, Duration::from_secs(seconds), "{ttl}");
    }
}

#[tokio::test(flavor = "local")]
async fn an_answer_without_an_address_is_a_failure() {
    for says in [Says::Nothing, Says::NoSuchName] {
        let server = server_that(says.clone()).await;
        let found = server.names().look_up("portal.cdn.example").await;
        assert!(found.is_err(), "{says:?}: {found:?}");
    }
}

#[test]
fn of_too_many_addresses_those_are_kept_that_have_not_failed() {
    let mut keeper = keeper(system());
    let now = clock::now();
    let all: Vec<IpAddr> = (0..100).map(|n| Ipv4Addr::new(192, 0, 2, n).into()).collect();
    let mut tried = Vec::new();
    while tried.len() < all.len() {
        let found = Found { addresses: all.clone(), life: Duration::from_secs(5) };
        keeper.take(Ok(found), now);
        let kept = keeper.upstream.addresses.to_try(now);
        assert_eq!(kept.len(), MOST_KEPT);
        let new: Vec<_> = kept.into_iter().filter(|address| !tried.contains(address)).collect();
        assert!(!new.is_empty(), "after {}", tried.len());
        new.iter().for_each(|address| keeper.upstream.addresses.failed(*address, now));
        tried.extend(new);
    }
}

#[tokio::test(flavor = "local")]
async fn this_machines_own_name_needs_no_server() {
    let found = system().look_up("localhost").await.expect("a loopback address");
    assert!(found.addresses.iter().all(IpAddr::is_loopback), "{found:?}");
}

fn keeper(names: Names) -> Keeper {
    let topology = example::topology(&[EXAMPLE]);
    let mut seed = Seed {
        workers: 1,
        serial: 0,
        instance: crate::model::instance::Instance::default(),
        now: clock::now(),
    };
    let states = States::adopt(&topology, &States::default(), &mut seed);
    Keeper {
        upstream: Arc::clone(&states.upstreams[0]),
        name: "portal.cdn.example".into(),
        port: 8443,
        names,
        stale: Duration::from_secs(24 * 3600),
        evidence: evidence::channel().0,
        metrics: Metrics::new(),
        failures: 0,
        recent: Vec::new(),
    }
}

const EXAMPLE: Example<'static> = Example {
    service: "portal",
    provider: "bunny",
    seat: "SI",
    host: "portal.cdn.example",
    port: 8443,
};

#[test]
fn the_last_good_answer_is_kept_while_look_ups_fail_and_not_for_ever() {
    let mut keeper = keeper(system());
    let start = clock::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let good = || Ok(Found { addresses: vec![[192, 0, 2, 1].into()], life: LIFE.0 });
    let known = |keeper: &Keeper| keeper.upstream.addresses.current().addresses.len();
    assert_eq!(keeper.take(good(), at(0)), LIFE.0);
    let address = SocketAddr::from(([192, 0, 2, 1], 8443));
    assert_eq!(keeper.upstream.addresses.current().addresses, [address]);

    let pauses: Vec<u64> =
        (1..=7).map(|n| keeper.take(Err(NameError::Empty), at(n)).as_secs()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    keeper.take(Err(NameError::TooLate), at(24 * 3600 - 1));
    assert_eq!(known(&keeper), 1);
    keeper.take(Err(NameError::TooLate), at(24 * 3600));
    assert_eq!(known(&keeper), 0);

    keeper.take(good(), at(24 * 3600 + 1));
    assert_eq!(known(&keeper), 1);
    assert_eq!(keeper.take(Err(NameError::Empty), at(24 * 3600 + 2)), LEAST_PAUSE);
}

#[test]
fn addresses_that_a_provider_shows_in_turns_are_all_kept_for_a_while() {
    let mut keeper = keeper(system());
    let start = clock::now();
    let known = |keeper: &Keeper| keeper.upstream.addresses.current().addresses.clone();
    let mut see = |last: u8, seconds| {
        let addresses = vec![[192, 0, 2, last].into()];
        let now = start + Duration::from_secs(seconds);
        keeper.take(Ok(Found { addresses, life: LIFE.0 }), now);
        known(&keeper).iter().map(|address| address.ip().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(see(1, 0), ["192.0.2.1"]);
    assert_eq!(see(2, 5), ["192.0.2.2", "192.0.2.1"]);
    assert_eq!(see(1, 10), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(see(3, 66), ["192.0.2.3", "192.0.2.1"], "2 was named a minute ago");
    assert_eq!(see(3, 300), ["192.0.2.3"]);
}

#[tokio::test(flavor = "local")]
async fn a_book_is_filled_and_renewed_when_somebody_asks() {
    let server = server_that(v4_only(300)).await;
    let topology = example::topology(&[EXAMPLE]);
    let mut seed = Seed {
        workers: 1,
        serial: 0,
        instance: crate::model::instance::Instance::default(),
        now: clock::now(),
    };
    let states = Arc::new(States::adopt(&topology, &States::default(), &mut seed));
    let routing = RoutingSnapshot {
        generation: Generation::ZERO.next(),
        matcher: Arc::new(Matcher::new(&topology)),
        topology: Arc::new(topology),
        plans: vec![Arc::new(PoolPlan::default())],
    };
    let view = View { routing, states: Arc::clone(&states), tls: Arc::new([None]) };
    let (_publisher, snapshots) = snapshot::channel(view);
    let names = server.names();
    let stale = Duration::from_secs(60);
    let (evidence, _receiver) = evidence::channel();
    let dns = Dns { snapshots, names, stale, evidence, metrics: Metrics::new() };
    let (_shutdown, shut) = watch::channel(false);
    spawn_local(dns.run(shut));
    let book = &states.upstreams[0].addresses;
    until(|| book.current().addresses.len() == 1).await;

    let v4 = vec![Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(192, 0, 2, 8)];
    server.says.replace(Says::Addresses { v4, v6: Vec::new(), ttl: 300 });
    book.ask_again();
    // Long before the first answer's life is over.
    until(|| book.current().addresses.len() == 3).await;
    let first = book.current().addresses[0];
    assert_eq!(first.ip(), Ipv4Addr::new(192, 0, 2, 7), "what is new goes first");

    let asked = server.asked.get();
    server.says.replace(Says::Nothing);
    book.ask_again();
    until(|| server.asked.get() > asked).await;
    assert_eq!(book.current().addresses.len(), 3);
}

async fn until(reached: impl Fn() -> bool) {
    let waiting = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.expect("in time");
}
