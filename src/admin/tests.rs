//! The admin API over a real socket, around a board drawn by hand.

#[cfg(test)]
mod streamed;
#[cfg(test)]
mod told;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::spawn_local;

use super::router::Desk;
use super::scrape::Sources;
use super::view::Status;
use super::{server, token::Token};
use crate::clock;
use crate::exchange::board::{Board, BoardView, Entry};
use crate::exchange::commands::{self, CommandSender};
use crate::exchange::edge::{Edge, ListenerState};
use crate::exchange::evidence;
use crate::exchange::reload::{self as reloads, ReloadSender};
use crate::exchange::snapshot::View;
use crate::exchange::state::{Seed, States};
use crate::model::example::{self, Example};
use crate::model::health::{
    Attribution, Blame, Evidence, Health, PoolStanding, ProbePace, ProviderHealth, Reason, Tier,
    TripRule, UpstreamStanding, Verdict,
};
use crate::model::id::UpstreamId;
use crate::model::operator::AdminState;
use crate::model::outcome::{FailureKind, MethodClass, Outcome};
use crate::model::place::Jurisdiction;
use crate::model::plan::{Place, PoolMode, PoolPlan, Rescue, Wish};
use crate::model::refusal::Refusal;
use crate::model::signal::ProbeResult;
use crate::model::topology::Barred;
use crate::model::unit::{Generation, Permille};
use crate::routing::matcher::Matcher;
use crate::routing::snapshot::RoutingSnapshot;
use crate::telemetry::families;
use crate::telemetry::labels::{Kept, Written};
use crate::telemetry::metrics::{Metrics, Move};

/// The preferred upstream was ejected five seconds ago; the European fallback serves.
fn board(now: Instant) -> BoardView {
    let of = |provider, seat, host| Example { service: "portal", provider, seat, host, port: 80 };
    let mut topology =
        example::topology(&[of("cloudflare", "US", "us.example"), of("bunny", "SI", "192.0.2.7")]);
    let barred = Barred {
        provider: example::label("fastly"),
        jurisdiction: Jurisdiction::NonEu,
        because: "its seat is in US".into(),
    };
    topology.pools[0].barred.push(barred);
    let mut seed =
        Seed { workers: 2, serial: 0, instance: crate::model::instance::Instance::default(), now };
    let states = States::adopt(&topology, &States::default(), &mut seed);
    let serves = Wish {
        upstream: UpstreamId::new(1),
        safe: Permille::ALL,
        unsafe_: Permille::ALL,
        rescue: Rescue::Takes,
        place: Place::EuFirst,
    };
    let plan = PoolPlan::new(topology.pools[0].realms.whole(), PoolMode::Normal, vec![serves]);
    let routing = RoutingSnapshot {
        generation: Generation::ZERO.next().next(),
        matcher: Arc::new(Matcher::new(&topology)),
        topology: Arc::new(topology),
        plans: vec![Arc::new(plan)],
    };
    let view = Arc::new(View { routing, states: Arc::new(states), tls: Arc::new([None, None]) });
    let ago = now.checked_sub(Duration::from_secs(5)).expect("five seconds");
    BoardView {
        drills: Arc::new([]),
        at: UNIX_EPOCH + Duration::from_secs(1_763_467_200),
        view,
        upstreams: vec![ejected(ago, now), healthy(now)],
        pools: vec![PoolStanding {
            incident: Some(ago),
            failing_since: Some(ago),
            attribution: Some(ATTRIBUTION),
            origin_incident: false,
            common_cause: false,
            intended: Some(UpstreamId::new(1)),
        }],
        providers: vec![ProviderHealth::Steady; 2],
        orders: Arc::new([]),
        recent: Arc::new(VecDeque::from([Arc::new(failover())])),
    }
}

const ATTRIBUTION: Attribution =
    Attribution { blame: Blame::Provider, log_odds: 7.5, pairs_for: 2, pairs_against: 0 };

fn trip(since: Instant) -> Reason {
    Reason::Trip(
        Tier::Cascade,
        Evidence {
            rule: TripRule::Score,
            score: 18.4,
            threshold: 17.2,
            failures: 6,
            attempts: 7,
            witnesses: 4,
            commonest: FailureKind::ServerError,
            since,
            attribution: ATTRIBUTION,
        },
    )
}

fn ejected(ago: Instant, now: Instant) -> UpstreamStanding {
    let until = now + Duration::from_secs(25);
    UpstreamStanding {
        health: Health::Ejected { since: ago, until, ejections: 1 },
        admin: AdminState::Auto,
        verdict: Verdict::Avoid,
        levels: [Permille::ALL, Permille::from_fraction(0.75), Permille::ZERO],
        rate: 12.5,
        failing: Permille::from_fraction(0.5),
        probe: Some((ago, false)),
        pace: ProbePace::Normal,
        late_after: Duration::from_secs(1),
        marker_armed: true,
        admits: Permille::ALL,
        gray_alert: false,
        stays_until: None,
        last: Some((ago, trip(ago))),
    }
}

fn healthy(now: Instant) -> UpstreamStanding {
    UpstreamStanding {
        health: Health::Healthy,
        admin: AdminState::Auto,
        verdict: Verdict::Serve,
        levels: [Permille::ZERO; 3],
        rate: 100.0,
        failing: Permille::ZERO,
        probe: Some((now, true)),
        pace: ProbePace::Normal,
        late_after: Duration::from_millis(1250),
        marker_armed: false,
        admits: Permille::ALL,
        gray_alert: false,
        stays_until: None,
        last: None,
    }
}

const FAILOVER: &str =
    r#"{"at":"2025-11-18T11:59:55.000Z","event":"failover","text":"failover","generation":2}"#;

fn failover() -> Entry {
    Entry {
        at: UNIX_EPOCH + Duration::from_secs(1_763_467_195),
        service: "portal".to_owned(),
        text: "failover from=cloudflare to=bunny reason=cascade".to_owned(),
        generation: Generation::ZERO.next().next(),
        json: FAILOVER.into(),
    }
}

/// A served desk.
struct Served {
    board: Board,
    address: SocketAddr,
    phase: watch::Sender<super::live::Phase>,
}

/// Nobody obeys and nobody loads: what comes of that is a matter of the whole process.
async fn serve(token: Option<Token>, board: BoardView) -> Served {
    let ((commands, _), (reloads, _)) = (commands::channel(), reloads::channel());
    serve_with(token, board, commands, reloads).await
}

async fn serve_with(
    token: Option<Token>,
    board: BoardView,
    commands: CommandSender,
    reloads: ReloadSender,
) -> Served {
    let board = Board::new(board);
    let edge = Arc::new(Edge::default());
    let listener = ListenerState::new(SocketAddr::from(([0, 0, 0, 0], 443)), 2);
    listener.rows[1].refuse(Refusal::NoRoute);
    edge.replace(vec![Arc::new(listener)]);
    let (evidence, _) = evidence::channel();
    let sources = Sources { board: board.clone(), edge, evidence, metrics: counted() };
    let token = watch::channel(token).1;
    let desk = Desk { sources, commands, reloads, token, started: clock::now() };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let (phase, phases) = watch::channel(super::live::Phase::Serving);
    spawn_local(server::run(desk, listener, phases));
    Served { board, address, phase }
}

/// Everything that is counted as it happens, once.
fn counted() -> Metrics {
    let metrics = Metrics::new();
    let (service, from, to) =
        (&example::label("portal"), &example::label("cloudflare"), &example::label("bunny"));
    let moved = Move { service, from, to, reason: "cascade" };
    metrics.failover(moved, Some(Duration::from_millis(250)));
    metrics.switched(service, Duration::from_micros(50));
    metrics.failback(Move { service, from: to, to: from, reason: "recovered" });
    let key = &example::topology(&[Example {
        service: "portal",
        provider: "bunny",
        seat: "SI",
        host: "192.0.2.7",
        port: 80,
    }])
    .upstreams[0]
        .key;
    metrics.probe(key, ProbeResult::Passed, Duration::from_millis(3));
    metrics.origin_probe(service, ProbeResult::Passed);
    metrics.parity(key, true);
    metrics.dns_failure("us.example");
    metrics.drilled(&example::label("portal"), crate::model::drill::DrillEnd::Passed);
    metrics.certificates([("portal.example", Duration::from_secs(1_800_000_000))].into_iter());
    metrics.kept(Kept::Memory, Written::Success);
    metrics.config_taken(Duration::from_secs(1_763_467_200));
    metrics
}

/// One request on a connection of its own; the whole answer as text.
async fn ask(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let request = format!("{head}Host: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    answer
}

async fn get(address: SocketAddr, url_path: &str) -> String {
    ask(address, &format!("GET {url_path} HTTP/1.1\r\n")).await
}

#[tokio::test(flavor = "local")]
async fn each_path_has_its_answer() {
    let served = serve(None, board(clock::now())).await;
    #[rustfmt::skip]
    let table = [
        // what it shows                   head                              begins with                 holds
        ("it lives",                       "GET /livez HTTP/1.1\r\n",        "HTTP/1.1 200 OK\r\n",      "alive\n"),
        ("it is ready",                    "GET /readyz HTTP/1.1\r\n",       "HTTP/1.1 200 OK\r\n",      "ready\n"),
        ("a query changes nothing",        "GET /livez?x=1 HTTP/1.1\r\n",    "HTTP/1.1 200 OK\r\n",      "alive\n"),
        ("metrics are text",               "GET /metrics HTTP/1.1\r\n",      "HTTP/1.1 200 OK\r\n",      "content-type: text/plain; version=0.0.4\r\n"),
        ("the status is JSON",             "GET /v1/status HTTP/1.1\r\n",    "HTTP/1.1 200 OK\r\n",      "content-type: application/json\r\n"),
        ("nothing is cached",              "GET /v1/status HTTP/1.1\r\n",    "HTTP/1.1 200 OK\r\n",      "cache-control: no-store\r\n"),
        ("what is not there is a problem", "GET /v1/stat HTTP/1.1\r\n",      "HTTP/1.1 404 Not Found\r\n", "content-type: application/problem+json\r\n"),
        ("a problem has its status",       "GET /v1/stat HTTP/1.1\r\n",      "HTTP/1.1 404 Not Found\r\n", "\"status\":404"),
        ("orders are shown",               "GET /v1/overrides HTTP/1.1\r\n", "HTTP/1.1 200 OK\r\n",      "\r\n\r\n[]"),
        ("reading only",                   "POST /v1/status HTTP/1.1\r\nContent-Length: 0\r\n", "HTTP/1.1 405 Method Not Allowed\r\n", "allow: GET, HEAD\r\n"),
    ];
    for (shows, head, begins, holds) in table {
        let answer = ask(served.address, head).await;
        assert!(answer.starts_with(begins) && answer.contains(holds), "{shows}: {answer}");
        assert!(!answer.to_lowercase().contains("access-control"), "{shows}: {answer}");
    }
}

#[tokio::test(flavor = "local")]
async fn head_brings_the_length_without_the_body() {
    let served = serve(None, board(clock::now())).await;
    let answer = ask(served.address, "HEAD /livez HTTP/1.1\r\n").await;
    assert!(answer.contains("content-length: 6\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test(flavor = "local")]
async fn without_the_token_only_life_and_readiness_are_told() {
    let served = serve(Token::new("s3cret"), board(clock::now())).await;
    for (url_path, code) in
        [("/livez", 200), ("/readyz", 200), ("/metrics", 401), ("/v1/status", 401), ("/x", 401)]
    {
        let answer = get(served.address, url_path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{url_path}: {answer}");
        let asks = answer.contains("www-authenticate: Bearer\r\n");
        assert_eq!(asks, code == 401, "{url_path}: {answer}");
    }
    let shown = "GET /metrics HTTP/1.1\r\nAuthorization: Bearer s3cret\r\n";
    assert!(ask(served.address, shown).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "local")]
async fn it_is_not_ready_before_the_first_probes_nor_while_draining() {
    let mut unprobed = board(clock::now());
    unprobed.upstreams[1].probe = None;
    let served = serve(None, unprobed).await;
    let waiting = get(served.address, "/readyz").await;
    assert!(waiting.starts_with("HTTP/1.1 503 "), "{waiting}");
    assert!(waiting.contains("waiting for the first probes"), "{waiting}");

    served.board.publish(board(clock::now()));
    assert!(get(served.address, "/readyz").await.starts_with("HTTP/1.1 200 "));

    served.phase.send_replace(super::live::Phase::Draining);
    let draining = get(served.address, "/readyz").await;
    assert!(draining.starts_with("HTTP/1.1 503 "), "{draining}");
    assert!(draining.contains("[\"shutting down\"]"), "{draining}");
    assert!(get(served.address, "/livez").await.starts_with("HTTP/1.1 200 "));
}

#[test]
fn the_first_probes_are_not_waited_for_longer_than_two_seconds() {
    let mut unprobed = board(clock::now());
    unprobed.upstreams[1].probe = None;
    let now = clock::now();
    let unready = |waited| {
        super::live::unready(super::live::Phase::Serving, &unprobed, now, now + waited).len()
    };
    assert_eq!(unready(Duration::from_millis(1999)), 1);
    assert_eq!(unready(Duration::from_secs(2)), 0);
}

#[tokio::test(flavor = "local")]
async fn a_scrape_holds_every_family_with_its_numbers() {
    let board = board(clock::now());
    let row = &board.view.states.upstreams[0].rows;
    row[0].count(MethodClass::Safe, Outcome::Failure(FailureKind::ServerError));
    row[1].count(MethodClass::Unsafe, Outcome::Failure(FailureKind::ServerError));
    row[1].durations.observe(Duration::from_millis(30));
    row[1].received.add(1024);
    let pool = &board.view.states.pools[0].rows;
    pool[0].answers[1].add(7);
    pool[1].in_flight.add(2);
    board.view.states.upstreams[0].addresses.publish(crate::exchange::addresses::Answer {
        addresses: vec![SocketAddr::from(([192, 0, 2, 1], 80))],
        at: Some(clock::now()),
    });
    let served = serve(None, board).await;
    let page = get(served.address, "/metrics").await;
    for family in families::ALL {
        let head = format!("# TYPE {} {}\n", family.name, family.kind.as_str());
        assert_eq!(page.matches(&head).count(), 1, "{}", family.name);
    }
    for line in [
        r#"bascule_requests_total{service="portal",code="2xx"} 7"#,
        r#"bascule_requests_total{service="none",code="4xx"} 1"#,
        r#"bascule_requests_in_flight{service="portal"} 2"#,
        r#"bascule_attempts_total{service="portal",provider="cloudflare",outcome="5xx"} 2"#,
        r#"bascule_attempt_duration_seconds_bucket{service="portal",provider="cloudflare",le="0.025"} 0"#,
        r#"bascule_attempt_duration_seconds_bucket{service="portal",provider="cloudflare",le="0.05"} 1"#,
        r#"bascule_bytes_total{service="portal",provider="cloudflare",jurisdiction="non_eu",direction="received"} 1024"#,
        r#"bascule_upstream_health{service="portal",provider="cloudflare",health="ejected"} 1"#,
        r#"bascule_upstream_health{service="portal",provider="cloudflare",health="healthy"} 0"#,
        r#"bascule_upstream_share{service="portal",provider="bunny"} 1"#,
        r#"bascule_active_upstream{service="portal",provider="bunny",jurisdiction="eu"} 1"#,
        r#"bascule_fallback_outside_eu{service="portal"} 0"#,
        r#"bascule_first_choice_left{service="portal",provider="cloudflare"} 1"#,
        r#"bascule_first_choice_left{service="portal",provider="bunny"} 0"#,
        r#"bascule_parity_mismatch{provider="bunny",service="portal"} 1"#,
        r#"bascule_requests_rejected_total{listener="0.0.0.0:443",reason="no_route"} 1"#,
        r#"bascule_routing_generation 2"#,
        r#"bascule_config_reload_failed 0"#,
        r#"bascule_certificate_expiry_timestamp_seconds{side="clients",subject="portal.example"} 1800000000"#,
    ] {
        assert!(page.lines().any(|have| have == line), "{line} is missing:\n{page}");
    }
}

#[tokio::test(flavor = "local")]
async fn a_fallback_outside_the_eu_is_told() {
    let mut board = board(clock::now());
    let mut view = View {
        routing: board.view.routing.clone(),
        states: Arc::clone(&board.view.states),
        tls: Arc::clone(&board.view.tls),
    };
    let mut topology = (*view.routing.topology).clone();
    topology.providers[1].jurisdiction = Jurisdiction::NonEu;
    view.routing.topology = Arc::new(topology);
    board.view = Arc::new(view);
    let served = serve(None, board).await;
    let page = get(served.address, "/metrics").await;
    assert!(page.contains("bascule_fallback_outside_eu{service=\"portal\"} 1\n"), "{page}");
}

/// Scripts hang on this shape; the table of `bascule status` is tested on the same file.
#[tokio::test(flavor = "local")]
async fn the_status_is_the_golden_one() {
    let now = clock::now();
    let status = Status { version: "0.0.0".to_owned(), ..Status::of(&board(now), now) };
    let text = serde_json::to_string_pretty(&status).expect("JSON") + "\n";
    assert_eq!(text, include_str!("../../tests/golden/status.json"));
}

#[tokio::test(flavor = "local")]
async fn over_the_limit_connections_are_closed_at_once_and_a_free_place_is_taken_again() {
    let served = serve(None, board(clock::now())).await;
    let mut held = Vec::new();
    for _ in 0..server::MOST_CONNECTIONS {
        let mut stream = TcpStream::connect(served.address).await.expect("connect");
        // Answered, so that it holds its place for certain, and kept alive.
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: admin\r\n\r\n").await.expect("write");
        assert!(stream.read(&mut [0; 1024]).await.expect("an answer") > 0);
        held.push(stream);
    }
    let mut refused = TcpStream::connect(served.address).await.expect("connect");
    assert_eq!(refused.read(&mut [0; 16]).await.expect("its end"), 0);

    held.pop();
    let again = async {
        let mut answer = String::new();
        while !answer.starts_with("HTTP/1.1 200 ") {
            let mut stream = TcpStream::connect(served.address).await.expect("connect");
            answer.clear();
            let request = b"GET /livez HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n";
            // Until the server has noticed the free place it may refuse this one, in any way.
            if stream.write_all(request).await.is_ok() {
                drop(stream.read_to_string(&mut answer).await);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("a free place");
}

#[tokio::test(flavor = "local")]
async fn a_head_without_end_is_refused() {
    let served = serve(None, board(clock::now())).await;
    let head = format!("GET /livez HTTP/1.1\r\nX: {}\r\n", "x".repeat(64 * 1024));
    let mut stream = TcpStream::connect(served.address).await.expect("connect");
    // The answer may come, and the connection end, before all of it is written.
    drop(stream.write_all(head.as_bytes()).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    assert!(!answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
}

/// A request with a JSON body, at an address or under another name.
async fn send(address: SocketAddr, host: &str, head: &str, body: &str) -> String {
    let length = body.len();
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let request = format!(
        "{head}Host: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    answer
}

const POST: &str = "POST /v1/overrides HTTP/1.1\r\nContent-Type: application/json\r\n";

#[tokio::test(flavor = "local")]
async fn what_is_no_order_is_refused_before_anybody_is_asked() {
    let served = serve(None, board(clock::now())).await;
    let simple = "POST /v1/overrides HTTP/1.1\r\nContent-Type: text/plain\r\n";
    let good = r#"{"target":"bunny","order":"force_out"}"#;
    let long = format!(r#"{{"target":"bunny","order":"drain","reason":"{}"}}"#, "x".repeat(501));
    #[rustfmt::skip]
    let table = [
        // what it shows                     host         head    body   code  detail
        ("no JSON",                          "127.0.0.1", POST,   "drain bunny", 400, "The body is no order"),
        ("no such order",                    "127.0.0.1", POST,   r#"{"target":"bunny","order":"kill"}"#, 400, "The body is no order"),
        ("no such field",                    "127.0.0.1", POST,   r#"{"target":"bunny","order":"drain","until":"1h"}"#, 400, "The body is no order"),
        ("no target",                        "127.0.0.1", POST,   r#"{"target":"a/b/c","order":"drain"}"#, 400, "neither PROVIDER nor SERVICE/PROVIDER"),
        ("no duration",                      "127.0.0.1", POST,   r#"{"target":"bunny","order":"drain","for":"soon"}"#, 400, "no duration"),
        ("more than a sentence",             "127.0.0.1", POST,   &long, 400, "one line"),
        ("what a page of any site can send", "127.0.0.1", simple, good, 415, "application/json"),
        ("a name that leads here",           "evil.example", POST, good, 421, "address or localhost"),
        ("no method of it",                  "127.0.0.1", "PUT /v1/overrides HTTP/1.1\r\n", good, 405, "GET, HEAD, POST only"),
        ("no path of it",                    "127.0.0.1", "DELETE /v1/overrides/a/b/c HTTP/1.1\r\n", "", 404, "nothing at this path"),
        ("nobody steers any more",           "127.0.0.1", POST,   good, 503, "ended"),
        ("nor takes anything back",          "localhost:9180", "DELETE /v1/overrides/bunny HTTP/1.1\r\n", "", 503, "ended"),
    ];
    for (shows, host, head, body, code, detail) in table {
        let answer = send(served.address, host, head, body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{shows}: {answer}");
        assert!(answer.contains(detail), "{shows}: {answer}");
        assert!(answer.contains("application/problem+json"), "{shows}: {answer}");
    }
}

#[tokio::test(flavor = "local")]
async fn orders_need_the_token_where_one_is_set() {
    let served = serve(Token::new("s3cret"), board(clock::now())).await;
    let body = r#"{"target":"bunny","order":"force_out"}"#;
    let shown = format!("{POST}Authorization: Bearer s3cret\r\n");
    for (head, code) in
        [(POST, 401), ("DELETE /v1/overrides/bunny HTTP/1.1\r\n", 401), (&shown, 503)]
    {
        let answer = send(served.address, "proxy.example", head, body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{head}: {answer}");
    }
}

#[test]
fn one_that_waits_for_min_stay_is_explained_with_its_end() {
    let now = clock::now();
    let mut board = board(now);
    board.upstreams[0].health = Health::HalfOpen { since: now, passes: 259, ejections: 1 };
    board.upstreams[0].stays_until = Some(now + Duration::from_secs(600));
    let explained = super::explain::Explanation::of(&board, "http://portal.example/", "GET", now);
    let out = explained.expect("a route").left_out[0].because.join("; ");
    let waits = "259 clean answers in a row; may ramp from 2025-11-18T12:10:00.000Z (`min_stay`)";
    assert!(out.ends_with(waits), "{out}");
    let status = Status::of(&board, now);
    let until = status.services[0].upstreams[0].stays_until.as_deref();
    assert_eq!(until, Some("2025-11-18T12:10:00.000Z"));
}

#[tokio::test(flavor = "local")]
async fn an_url_is_explained_or_it_is_said_why_not() {
    let served = serve(None, board(clock::now())).await;
    let url = "/v1/explain?url=https%3A%2F%2Fportal.example%2Fpage&method=POST";
    let answer = get(served.address, url).await;
    let body = answer.split("\r\n\r\n").nth(1).expect("a body");
    let explanation: super::explain::Explanation = serde_json::from_str(body).expect("JSON");
    assert_eq!(
        (explanation.service.as_str(), explanation.method_class.as_str()),
        ("portal", "unsafe")
    );
    let bunny = &explanation.candidates[0];
    assert_eq!(
        (bunny.provider.as_str(), bunny.share, bunny.place.as_str()),
        ("bunny", 1.0, "eu_first")
    );
    let out = explanation.left_out[0].because.join("; ");
    assert!(out.starts_with("ejected 5 s ago: cascade (6 of 7 attempts failed"), "{out}");
    assert!(
        out.ends_with("its hold lasts 24 s more") || out.ends_with("its hold lasts 25 s more"),
        "{out}"
    );
    assert_eq!(explanation.barred[0].provider, "fastly");

    for (query, code, detail) in [
        ("", 400, "has to be a whole URL"),
        ("?url=/page", 400, "has to be a whole URL"),
        ("?url=http%3A%2F%2Fportal.example&method=%20", 400, "`method` is none"),
        (
            "?url=http%3A%2F%2Fother.example%2Fx",
            404,
            "No route takes host other.example and path /x",
        ),
    ] {
        let answer = get(served.address, &format!("/v1/explain{query}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{query}: {answer}");
        assert!(answer.contains(detail), "{query}: {answer}");
    }
}

#[tokio::test(flavor = "local")]
async fn the_journal_holds_what_happened_since() {
    let served = serve(None, board(clock::now())).await;
    let all = format!(r#""entries":[{FAILOVER}]"#);
    for (query, entries, code) in [
        ("", &*all, 200),
        ("?since=1m", &all, 200),
        ("?since=4s", r#""entries":[]"#, 200),
        ("?since=2025-11-18T11:59:00Z", &all, 200),
        ("?since=2025-11-18T11:59:56Z", r#""entries":[]"#, 200),
        ("?since=yesterday", "`since` has to be", 400),
    ] {
        let answer = get(served.address, &format!("/v1/journal{query}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{query}: {answer}");
        assert!(answer.contains(entries), "{query}: {answer}");
    }
}
