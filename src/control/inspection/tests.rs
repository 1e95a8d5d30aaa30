//! How many are asked at a time, and for how long, on paused time.

use std::net::Ipv4Addr;

use rustls::RootCertStore;
use tokio::net::TcpListener;

use super::*;
use crate::clock;
use crate::model::example::{self, Example};
use crate::net::tls_client;

/// Asks so many services that take connections and never answer; with how long that took.
async fn ask_the_mute(services: usize) -> (Vec<(Whom, Vec<Finding>)>, Duration) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let names: Vec<String> = (0..services).map(|number| format!("s{number}")).collect();
    let example =
        |service| Example { service, provider: "edge", seat: "SI", host: "127.0.0.1", port };
    let examples: Vec<Example<'_>> = names.iter().map(|name| example(name.as_str())).collect();
    let topology = Arc::new(example::topology(&examples));
    let trust = Trust {
        upstreams: topology.upstreams.iter().map(|_| None).collect(),
        origins: topology.pools.iter().map(|_| None).collect(),
    };
    let resolver = Names::new(&[], tls_client::bare(RootCertStore::empty()));
    let began = clock::now();
    let found = inspect(topology, trust, resolver, SystemTime::UNIX_EPOCH).await;
    (found, clock::now() - began)
}

fn whats(found: &[(Whom, Vec<Finding>)]) -> Vec<&str> {
    found.iter().flat_map(|(_, findings)| findings).map(|finding| finding.what.as_str()).collect()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn only_so_many_are_asked_at_a_time_and_each_has_its_time() {
    let (found, took) = ask_the_mute(2 * AT_ONCE + 1).await;
    assert_eq!(found.len(), 2 * AT_ONCE + 1);
    for what in whats(&found) {
        assert!(what.contains("no answer within 10 s"), "{what}");
    }
    let rounds = took.as_secs_f64() / VISIT.as_secs_f64();
    assert!((2.9..3.5).contains(&rounds), "three rounds, not {rounds}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn it_ends_however_many_are_mute_and_says_who_was_not_asked() {
    let most = AT_ONCE * (ALL.as_secs() / VISIT.as_secs()) as usize;
    let (found, took) = ask_the_mute(most + 40).await;
    assert_eq!(found.len(), most + 40, "nobody is forgotten");
    let left = whats(&found).iter().filter(|what| what.contains("it was not asked")).count();
    assert!((40..=40 + AT_ONCE).contains(&left), "{left} were left");
    assert!(took < ALL + VISIT, "{took:?}");
}

#[test]
fn each_upstream_is_asked_for_the_host_that_its_probes_ask_for() {
    let of = |provider| Example { service: "s", provider, seat: "SI", host: "127.0.0.1", port: 1 };
    let mut topology = example::topology(&[of("one"), of("other")]);
    let probe = &mut topology.pools[0].rules.probe;
    (probe.host, probe.hosts) =
        (Some("www.example".into()), vec![(UpstreamId::new(1), "open.example".into())]);
    let matcher = Matcher::new(&topology);
    let trust = Trust { upstreams: [None, None].into(), origins: vec![None] };
    let names = Names::new(&[], tls_client::bare(RootCertStore::empty()));
    let topology = Arc::new(topology);
    let work = Work { topology, matcher, trust, names, now: SystemTime::UNIX_EPOCH };
    let asked = [0, 1].map(|n| work.question_to(UpstreamId::new(n)).public_host);
    assert_eq!(asked, [Some("www.example".into()), Some("open.example".into())]);
}
