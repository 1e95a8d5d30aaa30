//! What clients make up adds nothing to `/metrics`: labels come from the file and from closed lists.

use http::Method;
use tokio::task::JoinSet;

use crate::harness::client::{Ask, Session, Speak};
use crate::harness::proxy::RunningProxy;
use crate::harness::recipe::Recipe;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};
use crate::harness::{PORTAL, within};

/// Requests made up after the first few.
const MANY: u64 = 4_000;

/// One request nobody has sent before.
fn made_up(number: u64) -> Ask {
    let mut dice = fastrand::Rng::with_seed(number);
    let word: String = (0..12).map(|_| dice.lowercase()).collect();
    let method = match number % 4 {
        0 => Method::from_bytes(word.to_uppercase().as_bytes()).expect("a token"),
        1 => Method::POST,
        _ => Method::GET,
    };
    let host = match number % 3 {
        0 => format!("{word}.example"),
        1 => format!("{word}.wild.example"),
        _ => PORTAL.to_owned(),
    };
    let ask = Ask::new(method, &format!("/{word}/{number}?{word}={number}")).host(&host);
    ask.header("X-Request-Id", &word).header("User-Agent", &word).header("Referer", &word)
}

/// Sends these over a few connections.
async fn send(proxy: &RunningProxy, numbers: std::ops::Range<u64>) {
    let mut clients = JoinSet::new();
    for speak in Speak::ALL {
        let mut session = proxy.session(speak).await;
        let (address, numbers) = (proxy.plain, numbers.clone());
        let place =
            Speak::ALL.iter().position(|other| *other == speak).expect("one of them") as u64;
        clients.spawn(async move {
            for number in numbers.filter(|number| number % 4 == place) {
                if !session.is_usable() {
                    session = Session::open(Speak::Http1, address, PORTAL).await.expect("opened");
                }
                // Whatever the answer is, none included: what counts is what is counted.
                within("an answer", session.send(&made_up(number))).await.ok();
            }
        });
    }
    clients.join_all().await;
}

#[tokio::test]
async fn thousands_of_hosts_paths_methods_and_statuses_add_no_series() {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let eu = FakeUpstream::start("eu", Transport::Plain).await;
    let recipe = Recipe::portal()
        .upstream(&us, "US")
        .upstream(&eu, "SI")
        .route("{ host: \"*.wild.example\" }")
        .service("failover: { mode: observe }");
    let proxy = RunningProxy::start(&recipe).await;
    let statuses = [200, 204, 299, 301, 399, 404, 418, 451, 499, 500, 503, 520, 599];
    // Every way in which an answer can end has been seen once; what comes then is only more of it.
    for status in statuses {
        us.behave(Script::green_probes(Act::status(status)));
        eu.behave(Script::green_probes(Act::status(status)));
        send(&proxy, u64::from(status) * 100_000..u64::from(status) * 100_000 + 24).await;
    }
    let before = proxy.metrics().await.names();
    for (round, status) in (0..).zip([222, 288, 333, 388, 432, 477, 488, 555, 577, 588]) {
        us.behave(Script::green_probes(Act::status(status)));
        eu.behave(Script::green_probes(Act::status(status)));
        let share = MANY / 10;
        send(&proxy, round * share..(round + 1) * share).await;
    }
    let metrics = proxy.metrics().await;
    let more: Vec<_> = metrics.names().difference(&before).cloned().collect();
    assert!(more.is_empty(), "{more:#?}");
    assert!(metrics.sum("bascule_requests_total", &[]) >= MANY as f64, "they were counted");
}
