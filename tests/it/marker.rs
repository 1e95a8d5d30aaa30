//! The signed origin marker: who signs it for whom and when decides whose fault an error is, keys are
//! exchanged without an answer that is misjudged, and nobody is shown one.

use std::time::{Duration, SystemTime};

use bascule::model::marker::MarkerKeys;
use bascule::request::marker;

use crate::harness::metrics::Metrics;
use crate::harness::proxy::{RunningProxy, folder};
use crate::harness::recipe::Recipe;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};
use crate::harness::{PORTAL, PROBE};

const FIRST: &str = "the-first-key-of-this-test-s3cret-0123";
const SECOND: &str = "the-second-key-of-this-test-s3cret-456";

struct Signed {
    us: FakeUpstream,
    proxy: RunningProxy,
    /// Stays up for as long as the test.
    _eu: FakeUpstream,
}

async fn signed() -> Signed {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let eu = FakeUpstream::start("eu", Transport::Plain).await;
    let recipe = Recipe::portal()
        .upstream(&us, "US")
        .upstream(&eu, "SI")
        .probe(&format!("{{ path: {PROBE}, interval: 1h, timeout: 1s }}"))
        .top("access_log: { target: access.log }")
        .service("origin_marker: { header: X-Origin-Id, key_file: marker.keys }");
    let folder = folder();
    std::fs::write(folder.path().join("marker.keys"), FIRST).expect("keys");
    let proxy = RunningProxy::start_with(folder, &recipe.yaml()).await;
    Signed { us, proxy, _eu: eu }
}

/// A marker made so many seconds ago.
fn made(key: &str, host: &str, ago: i64) -> &'static str {
    let now = bascule::clock::wall().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let at = Duration::from_secs(now.as_secs().saturating_add_signed(-ago));
    let keys = MarkerKeys::parse(key.as_bytes()).expect("a key");
    marker::sign(&keys, host, at).leak()
}

impl Signed {
    /// Who gives the client its answer when the first says 503 with this.
    async fn answered(&self, fields: Vec<(&'static str, &'static str)>) -> String {
        self.us.behave(Script::green_probes(Act::Answer(503, fields)));
        self.proxy.get("/page").await.served_by().to_owned()
    }
}

#[tokio::test]
async fn only_a_marker_of_now_for_this_host_by_a_known_key_makes_an_error_the_origins() {
    let stage = signed().await;
    let forged = made(FIRST, PORTAL, 0).replace("v1.1", "v1.2").leak();
    #[rustfmt::skip]
    let table = [
        ("the origin's own error is relayed", vec![("x-origin-id", made(FIRST, PORTAL, 0))],              "us"),
        ("a clock may differ a little",       vec![("x-origin-id", made(FIRST, PORTAL, -30))],            "us"),
        ("one without it is the provider's",  vec![],                                                     "eu"),
        ("so is one with an old one",         vec![("x-origin-id", made(FIRST, PORTAL, 3600))],           "eu"),
        ("also when it says it was cached",   vec![("x-origin-id", made(FIRST, PORTAL, 3600)), ("age", "3600")], "eu"),
        ("or with another site's",            vec![("x-origin-id", made(FIRST, "api.portal.example", 0))], "eu"),
        ("or with a stranger's",              vec![("x-origin-id", made(SECOND, PORTAL, 0))],             "eu"),
        ("or with a forged one",              vec![("x-origin-id", forged)],                              "eu"),
    ];
    for (shows, fields, served_by) in table {
        assert_eq!(stage.answered(fields).await, served_by, "{shows}");
    }
    let said = "an error bears an origin marker that is not of now: it counts as the provider's";
    stage.proxy.log.wait(said, 1, |line| line.text.contains(said)).await;
}

#[tokio::test]
async fn keys_are_exchanged_by_adding_the_next_and_then_removing_the_last() {
    let stage = signed().await;
    let with = |key| vec![("x-origin-id", made(key, PORTAL, 0))];
    assert_eq!(stage.answered(with(SECOND)).await, "eu");
    let mut generation = stage.proxy.metrics().await.sum("bascule_config_generation", &[]);
    for (keys, first, second) in
        [(format!("{FIRST}\n{SECOND}\n"), "us", "us"), (format!("{SECOND}\n"), "eu", "us")]
    {
        std::fs::write(stage.proxy.file("marker.keys"), keys).expect("keys");
        let taken = |m: &Metrics| m.sum("bascule_config_generation", &[]) > generation;
        let metrics = stage.proxy.metrics_when("the keys are read again", taken).await;
        generation = metrics.sum("bascule_config_generation", &[]);
        assert_eq!(stage.answered(with(FIRST)).await, first);
        assert_eq!(stage.answered(with(SECOND)).await, second);
    }
    // A file of keys that cannot be used is refused, and the old ones go on.
    std::fs::write(stage.proxy.file("marker.keys"), "s3cret\n").expect("keys");
    let refused = |m: &Metrics| m.sum("bascule_config_reload_failed", &[]) == 1.0;
    stage.proxy.metrics_when("a refused reload", refused).await;
    assert_eq!(stage.answered(with(SECOND)).await, "us");
    let (said, status) = (stage.proxy.log.text(), stage.proxy.status().await.to_string());
    assert!(!said.contains("s3cret") && !status.contains("s3cret"), "a key is shown");
}

/// Whether it went well, and what it said.
fn verb(arguments: &[&str]) -> (bool, String) {
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_bascule")).args(arguments).output();
    let output = run.expect("the binary starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn the_verb_signs_what_is_believed() {
    let stage = signed().await;
    let keys = stage.proxy.file("marker.keys");
    let keys = keys.to_str().expect("text");
    let (good, signed) = verb(&["sign", "--key-file", keys, "--host", PORTAL]);
    assert!(good, "{signed}");
    let fields = vec![("x-origin-id", &*signed.trim().to_owned().leak())];
    assert_eq!(stage.answered(fields).await, "us");
    let at = |time: &'static str| {
        let arguments =
            ["sign", "--key-file", keys, "--host", "WWW.portal.example:8443", "--at", time];
        verb(&arguments)
    };
    let expected = marker::sign(
        &MarkerKeys::parse(FIRST.as_bytes()).expect("a key"),
        PORTAL,
        Duration::from_secs(1_795_701_600),
    );
    for time in ["1795701600", "2026-11-26T14:00:00Z", "2026-11-26T15:00:00+01:00"] {
        let (good, said) = at(time);
        assert_eq!((good, said.trim()), (true, &*expected), "{time}");
    }
    for time in ["yesterday", "1795701600000"] {
        let (good, said) = at(time);
        assert!(!good && !said.contains("s3cret"), "{time}: {said}");
    }
}
