//! Runs one pure part of the request path so many times, for a tool that counts instructions:
//! `instructions.py` beside this file takes the difference of two counts.
//!
//! `cargo bench --bench parts -- PART TIMES` says the time of each, too; without a part, each once, to show that they run.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use bascule::clock;
use bascule::decide::cusum::{self, Failure, Guard, Rule, Score};
use bascule::model::habit::Habits;
use bascule::model::health::Tier;
use bascule::model::id::{Label, PoolId, ProviderId, UpstreamId, UpstreamKey};
use bascule::model::marker::MarkerKeys;
use bascule::model::outcome::{FailureKind, Marker, MethodClass};
use bascule::model::place::{Country, Footing, Jurisdiction, Residency};
use bascule::model::plan::{Place, PoolMode, PoolPlan, Rescue, Wish};
use bascule::model::realm::{Realm, RealmId, Realms};
use bascule::model::topology::{
    Endpoint, EndpointHost, HostPattern, HostRule, HttpRule, MarkerProof, MarkerRule, Pool,
    Provider, ProviderKind, Route, Rules, Scheme, Sensitivity, SignedMarker, Topology, Upstream,
};
use bascule::model::unit::Permille;
use bascule::request::classify::{self, Acquaintance, MarkerTrust};
use bascule::request::framing::Framing;
use bascule::request::gate;
use bascule::request::headers::{self, Facts, Proto, Trust};
use bascule::request::marker::{self, Answer};
use bascule::request::trailers::Trailers;
use bascule::request::witness::witness;
use bascule::routing::matcher::Matcher;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, request, response};

/// What a browser sends.
const HEAD: &str = "GET /news/2026/11/18?page=2 HTTP/1.1\r\n\
    Host: www.portal.example\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: fr,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Connection: keep-alive\r\n\r\n";
const HOSTS: usize = 1000;

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match arguments.as_slice() {
        [] => PARTS.iter().for_each(|(name, part)| {
            part(1);
            println!("{name}");
        }),
        [name, times] => {
            let (_, part) = PARTS.iter().find(|(known, _)| known == name).expect("a part's name");
            let times: usize = times.parse().expect("a number");
            let began = clock::now();
            part(times);
            let each = began.elapsed().as_nanos() / times.max(1) as u128;
            println!("{name}: {each} ns each");
        }
        _ => eprintln!("usage: parts [PART TIMES]"),
    }
}

/// A part by its name, run so many times.
type Part = (&'static str, fn(usize));

const PARTS: [Part; 11] = [
    ("framing", framing),
    ("frames", frames),
    ("gate", admit),
    ("matcher", matcher),
    ("headers", rewrite),
    ("witness", witnesses),
    ("plan", plan),
    ("classify", classified),
    ("marker", signed),
    ("forged", forged),
    ("cusum", step),
];

fn framing(times: usize) {
    let mut bytes = HEAD.as_bytes().to_vec();
    let mut http1 = Framing::of_requests();
    for _ in 0..times {
        http1.follow(black_box(&mut bytes));
    }
    assert!(http1.is_between());
}

/// Eight requests without bodies in one read, and a window update after each.
fn frames(times: usize) {
    const REQUESTS: u32 = 8;
    const BLOCK: usize = 60;
    let mut http2 = Trailers::of_client();
    assert_eq!(http2.pass(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 24);
    let headers = [&[0, 0, BLOCK as u8, 1, 5, 0, 0, 0, 0], [0x82; BLOCK].as_slice()].concat();
    let update = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    let mut bytes = [headers.as_slice(), &update].concat().repeat(REQUESTS as usize);
    let length = bytes.len() / REQUESTS as usize;
    let mut stream = 1u32;
    for _ in 0..times {
        for request in bytes.chunks_mut(length) {
            request[5..9].copy_from_slice(&(stream & 0x7fff_ffff).to_be_bytes());
            stream += 2;
        }
        assert_eq!(http2.pass(black_box(&bytes)), bytes.len());
    }
}

/// As hyper hands it over.
fn head() -> request::Parts {
    let mut lines = HEAD.split("\r\n");
    let target = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a target");
    let mut request = Request::get(target);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        request = request.header(name, value);
    }
    request.body(()).expect("a request").into_parts().0
}

fn admit(times: usize) {
    let head = head();
    for _ in 0..times {
        assert!(black_box(gate::admit(black_box(&head))).is_ok());
    }
}

fn matcher(times: usize) {
    let route = |number: usize| Route {
        host: HostPattern::Exact(format!("www.s{number}.example").into()),
        prefix: "/".into(),
        pool: PoolId::new(number),
        realm: RealmId::WHOLE,
    };
    let routes = (0..HOSTS).map(route).collect();
    let matcher = Matcher::new(&Topology { routes, ..Topology::default() });
    for number in 0..times {
        let host = ["www.s1.example", "www.s500.example", "www.s999.example"][number % 3];
        assert!(matcher.find(black_box(host), black_box("/news/2026/11/18")).is_some());
    }
}

fn rewrite(times: usize) {
    let head = head();
    let peer = HeaderValue::from_static("192.0.2.1");
    let authority = HeaderValue::from_static("www.portal.example");
    let element = HeaderValue::from_static("for=192.0.2.1;host=www.portal.example;proto=https");
    for _ in 0..times {
        let mut headers = head.headers.clone();
        let facts = Facts {
            peer: &peer,
            trust: Trust::Stranger,
            proto: Proto::Https,
            authority: &authority,
            forwarded: element.clone(),
            request_id: HeaderValue::from_static("00112233445566778899aabbccddeeff"),
        };
        headers::towards_upstream(&mut headers, facts);
        black_box(headers);
    }
}

fn witnesses(times: usize) {
    let peer = IpAddr::from([192, 0, 2, 1]);
    for _ in 0..times {
        black_box(witness(black_box(peer), &Method::GET, black_box("/news/2026/11/18")));
    }
}

/// A realm that admits five upstreams.
fn five() -> Realm {
    let label = |text: &str| Label::new(text).expect("a label");
    let provider = |number: usize| {
        let seat = Country::new("SI").expect("a country");
        Provider {
            name: label(&format!("p{number}")),
            seat,
            jurisdiction: Jurisdiction::of_seat(seat),
            footing: Footing::default(),
            habits: Habits::default(),
            kind: ProviderKind::Edge,
            substrates: Vec::new(),
        }
    };
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
    let upstream = |number: usize| Upstream {
        key: UpstreamKey {
            service: label("s"),
            provider: label(&format!("p{number}")),
            endpoint: "https://p.example:443".into(),
        },
        provider: ProviderId::new(number),
        pool: PoolId::new(0),
        endpoint: endpoint.clone(),
        preference: 1,
        weight: 100,
        max_in_flight: None,
    };
    let pool = Pool {
        service: label("s"),
        residency: Residency::Any,
        realms: Realms::default(),
        upstreams: (0..5).map(UpstreamId::new).collect(),
        barred: Vec::new(),
        rules: Rules::default(),
    };
    let topology = Topology {
        providers: (0..5).map(provider).collect(),
        upstreams: (0..5).map(upstream).collect(),
        pools: vec![pool],
        routes: Vec::new(),
    };
    topology.settled().pools[0].realms.whole().clone()
}

fn plan(times: usize) {
    let all = Permille::ALL;
    let none = Permille::new(0).expect("a share");
    let wish = |number: usize, share| Wish {
        upstream: UpstreamId::new(number),
        safe: share,
        unsafe_: share,
        rescue: Rescue::Takes,
        place: Place::Standby,
    };
    let wishes = (0..5).map(|n| wish(n, if n == 0 { all } else { none })).collect();
    let plan = PoolPlan::new(&five(), PoolMode::Normal, wishes);
    for number in 0..times {
        let ticket = (number % 1000) as u16;
        let place = black_box(&plan).pick(MethodClass::Safe, ticket).expect("somebody");
        black_box(plan.aside(ticket));
        black_box(plan.spill(place, |_| true));
    }
}

fn classified(times: usize) {
    let rule = MarkerRule {
        header: HeaderName::from_static("x-origin-id"),
        proof: MarkerProof::Value(HeaderValue::from_static("portal")),
    };
    let answer: response::Parts = http::Response::builder()
        .header("content-type", "text/html")
        .header("x-origin-id", "portal")
        .body(())
        .expect("an answer")
        .into_parts()
        .0;
    for _ in 0..times {
        let status = black_box(StatusCode::OK);
        let headers = black_box(&answer.headers);
        let seen = Answer { status, headers, authority: "www.portal.example" };
        let marker = marker::read(Some(&rule), seen, clock::wall);
        let verdict = classify::head(status, marker, MarkerTrust::Armed, || Acquaintance::Stranger);
        black_box(classify::with_reason(verdict, &answer.headers));
        assert!(marker == Marker::Present);
    }
}

/// What an answer costs whose marker is signed by the first key.
fn signed(times: usize) {
    assert!(seen_of(&format!("{}\n", key(0)), times) == Marker::Present);
}

/// The most that one line costs: signed by none of as many keys as there may be.
fn forged(times: usize) {
    let keys: Vec<String> = (1..=MarkerKeys::MOST).map(key).collect();
    assert!(seen_of(&keys.join("\n"), times) == Marker::Absent);
}

fn key(number: usize) -> String {
    format!("a-key-of-this-bench-0123456789-{number:033}")
}

/// Reads a marker of now by key 0 with these keys.
fn seen_of(file: &str, times: usize) -> Marker {
    let authority = "www.portal.example";
    let now = clock::wall().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let origin = MarkerKeys::parse(key(0).as_bytes()).expect("a key");
    let value = marker::sign(&origin, authority, now);
    let max_age = Duration::from_secs(24 * 60 * 60);
    let keys = MarkerKeys::parse(file.as_bytes()).expect("keys");
    let rule = MarkerRule {
        header: HeaderName::from_static("x-origin-id"),
        proof: MarkerProof::Signed(SignedMarker { keys, host: None, max_age }),
    };
    let value = HeaderValue::try_from(value).expect("a value");
    let headers = HeaderMap::from_iter([(rule.header.clone(), value)]);
    let status = StatusCode::OK;
    let mut seen = Marker::Unconfigured;
    for _ in 0..times.max(1) {
        let answer = Answer { status, headers: black_box(&headers), authority };
        seen = black_box(marker::read(Some(&rule), answer, clock::wall));
    }
    seen
}

fn step(times: usize) {
    let began: Instant = clock::now();
    let rule = Rule::of(Tier::Cascade, Sensitivity::Balanced, 0.0);
    let threshold = cusum::threshold(100.0, Sensitivity::Balanced);
    let mut score = Score::default();
    let peer = IpAddr::from([192, 0, 2, 1]);
    let witness = witness(peer, &Method::GET, "/news");
    for number in 0..times {
        let at = began + Duration::from_millis(number as u64);
        let failure = Failure { at, kind: FailureKind::ServerError, witness };
        score.fail(black_box(&failure), &rule, threshold, Guard::Distinct);
        score.succeed(black_box(3), &rule, threshold);
    }
    black_box(score.sum());
}
