//! One line for each request, when it ends; and what clients are told of errors.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::client::{Ask, Speak};
use crate::harness::metrics::Metrics;
use crate::harness::proxy::{RunningProxy, folder};
use crate::harness::recipe::Recipe;
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};
use crate::harness::{PORTAL, within};

async fn logging(keys: &str) -> Stage {
    let line = format!("access_log: {{ target: access.log{keys} }}");
    Stage::start(Transport::Plain, |recipe| recipe.top(&line)).await
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
}

/// Waits until the log holds so many lines.
async fn written(file: &Path, count: usize) -> Vec<Value> {
    let there = async {
        while lines(file).len() < count {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        lines(file)
    };
    let found = within(&format!("{count} lines"), there).await;
    assert_eq!(found.len(), count, "{found:?}");
    found
}

#[tokio::test]
async fn a_request_is_one_line_that_says_how_it_went() {
    let stage = logging("").await;
    let file = stage.proxy.file("access.log");
    let ask = Ask::post("/form?token=secret", "12345")
        .header("Authorization", "Bearer secret")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let answer = stage.proxy.send(Speak::TlsHttp2, &ask).await;
    assert_eq!(answer.status, 200);
    let line = written(&file, 1).await.remove(0);
    for (name, value) in [
        ("client", "127.0.0.1"),
        ("method", "POST"),
        ("scheme", "https"),
        ("path", "/form"),
        ("protocol", "HTTP/2.0"),
        ("service", "portal"),
        ("upstream", "us"),
        ("jurisdiction", "non_eu"),
        ("upstream_status", "200"),
        ("outcome", "success"),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
    ] {
        assert_eq!(line[name], value, "{name} in {line}");
    }
    assert!(line["host"].as_str().is_some_and(|host| host.starts_with(PORTAL)), "{line}");
    assert_eq!((&line["status"], &line["attempts"]), (&200.into(), &1.into()));
    assert_eq!(line["bytes_in"], 5);
    assert_eq!(line["bytes_out"], answer.body.len());
    assert!(line["generation"].as_u64() > Some(0) && line["duration"].as_f64() > Some(0.0));
    let seen = stage.us.sightings().traffic().pop().expect("it arrived");
    assert_eq!(line["request_id"], seen.get("x-request-id").expect("one"));
    assert!(!fs::read_to_string(&file).expect("the log").contains("secret"));
}

#[tokio::test]
async fn every_attempt_of_a_request_is_in_its_line() {
    let stage = logging("").await;
    stage.us.behave(Script::green_probes(Act::Reset));
    assert_eq!(stage.proxy.get("/page").await.served_by(), "eu");
    let line = written(&stage.proxy.file("access.log"), 1).await.remove(0);
    assert_eq!(line["upstream"], "us, eu");
    assert_eq!(line["jurisdiction"], "non_eu, eu");
    assert_eq!(line["upstream_status"], "-, 200");
    assert_eq!(line["upstream_outcome"], "broke_off, success");
}

#[tokio::test]
async fn what_was_refused_left_or_cut_is_written_with_its_reason() {
    let stage = logging(", sample: 0").await;
    let file = stage.proxy.file("access.log");
    stage.proxy.get("/well").await;
    let nowhere = Ask::get("/page").host("nowhere.example");
    assert_eq!(stage.proxy.send(Speak::Http1, &nowhere).await.status, 404);
    let line = written(&file, 1).await.remove(0);
    assert_eq!((&line["outcome"], &line["service"]), (&"no_route".into(), &Value::Null), "{line}");
    assert_eq!(line["status"], 404);

    stage.us.behave(Script::green_probes(Act::CutBody));
    let mut session = stage.proxy.session(Speak::Http1).await;
    assert!(session.send(&Ask::get("/cut")).await.is_err());
    let line = written(&file, 2).await.remove(1);
    assert_eq!((&line["outcome"], &line["status"]), (&"body_cut".into(), &200.into()), "{line}");

    stage.us.behave(Script::green_probes(Act::HandOver));
    let mut wire = stage.proxy.wire().await;
    wire.send(format!("GET /left HTTP/1.1\r\nHost: {PORTAL}\r\n\r\n")).await.expect("sent");
    let _talk = stage.us.conversation().await;
    wire.reset();
    let line = written(&file, 3).await.remove(2);
    assert_eq!((&line["outcome"], &line["status"]), (&"client_gone".into(), &499.into()), "{line}");
}

#[tokio::test]
async fn what_was_refused_before_its_head_was_read_is_written_with_its_client() {
    let stage = Stage::start(Transport::Plain, |recipe| {
        recipe
            .top("access_log: { target: access.log, sample: 0 }")
            .top("limits: { header_read_timeout: 1s, max_header_bytes: 8KiB }")
    })
    .await;
    let file = stage.proxy.file("access.log");
    let large = format!("GET / HTTP/1.1\r\nX-Filler: {}\r\n\r\n", "x".repeat(20_000));
    let table = [
        ("NO HTTP AT ALL\r\n\r\n", 400, "malformed"),
        (&large, 431, "head_too_large"),
        ("GET /late HT", 408, "slow_head"),
    ];
    for (place, (sent, status, outcome)) in table.into_iter().enumerate() {
        let mut wire = stage.proxy.wire().await;
        wire.send(sent).await.expect("sent");
        let answer = within("the refusal", wire.reply()).await.expect("whole");
        assert_eq!(answer.head.status(), status, "{outcome}");
        let line = written(&file, place + 1).await.remove(place);
        assert_eq!((&line["outcome"], &line["status"]), (&outcome.into(), &status.into()));
        assert_eq!((&line["client"], &line["scheme"]), (&"127.0.0.1".into(), &"http".into()));
        assert_eq!((&line["host"], &line["path"]), (&"".into(), &"".into()), "none was read");
    }
}

#[tokio::test]
async fn a_refused_request_is_written_with_the_host_that_it_named() {
    let stage = logging("").await;
    let file = stage.proxy.file("access.log");
    let long = "x".repeat(300);
    let table = [
        ("nowhere.example", "nowhere.example", "no_route"),
        ("not a\u{9b}host", "not a\u{9b}host", "bad_host"),
        (&long, &long[..255], "bad_host"),
    ];
    for (place, (host, shown, outcome)) in table.into_iter().enumerate() {
        let mut wire = stage.proxy.wire().await;
        let id = "X-Request-Id: of-a-stranger";
        wire.send(format!("GET /page HTTP/1.1\r\nHost: {host}\r\n{id}\r\n\r\n"))
            .await
            .expect("sent");
        within("the refusal", wire.reply()).await.expect("whole");
        let line = written(&file, place + 1).await.remove(place);
        assert_eq!((&line["host"], &line["outcome"]), (&shown.into(), &outcome.into()), "{line}");
        assert_eq!(line["request_id"], "", "nobody vouches for it");
    }
    let raw = fs::read_to_string(&file).expect("the log");
    assert!(raw.contains("not a\\u009bhost"), "no terminal obeys it: {raw}");
}

#[tokio::test]
async fn a_refused_request_is_written_with_the_name_that_a_trusted_proxy_gave_it() {
    let stage = Stage::start(Transport::Plain, |recipe| {
        recipe.top("access_log: { target: access.log }").top("trusted_proxies: [127.0.0.1]")
    })
    .await;
    let nowhere = Ask::get("/page").host("nowhere.example").header("X-Request-Id", "theirs");
    for speak in Speak::ALL {
        stage.proxy.send(speak, &nowhere).await;
    }
    for line in written(&stage.proxy.file("access.log"), Speak::ALL.len()).await {
        assert_eq!((&line["request_id"], &line["outcome"]), (&"theirs".into(), &"no_route".into()));
        assert!(line["host"].as_str().is_some_and(|host| host.starts_with("nowhere.example")));
    }
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_costs_lines_until_a_reload_names_a_file() {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let recipe = Recipe::portal().upstream(&us, "US");
    let folder = folder();
    let made = std::process::Command::new("mkfifo").arg(folder.path().join("pipe")).status();
    assert!(made.expect("mkfifo").success());
    let to =
        |target: &str| recipe.clone().top(&format!("access_log: {{ target: {target} }}")).yaml();
    let proxy = RunningProxy::start_with(folder, &to("pipe")).await;
    proxy.get("/lost").await;
    let lost =
        |metrics: &Metrics| metrics.sum("bascule_dropped_total", &[("what", "access_log")]) == 1.0;
    proxy.metrics_when("the loss", lost).await;
    proxy.log.wait("so", 1, |line| line.message().starts_with("the access log cannot")).await;
    proxy.rename_over(&to("access.log"));
    let reloaded = |metrics: &Metrics| {
        metrics.sum("bascule_config_reloads_total", &[("result", "success")]) == 1.0
    };
    proxy.metrics_when("the reload", reloaded).await;
    proxy.get("/kept").await;
    let line = written(&proxy.file("access.log"), 1).await.remove(0);
    assert_eq!(line["path"], "/kept");
}

#[tokio::test]
async fn a_renamed_log_is_opened_anew_on_sighup_and_no_line_is_lost() {
    let stage = logging("").await;
    let (file, old) = (stage.proxy.file("access.log"), stage.proxy.file("access.log.1"));
    stage.proxy.get("/before").await;
    written(&file, 1).await;
    fs::rename(&file, &old).expect("the folder is ours");
    stage.proxy.get("/between").await;
    written(&old, 2).await;
    stage.proxy.signal("HUP");
    let after = async {
        while lines(&file).is_empty() {
            stage.proxy.get("/after").await;
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
    };
    within("a new file", after).await;
    let served = stage.us.sightings().traffic().len();
    let all = async {
        while lines(&file).len() + lines(&old).len() < served {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    within("all lines", all).await;
}

#[tokio::test]
async fn a_log_can_be_turned_on_by_a_reload() {
    let mut recipe = None;
    let stage = Stage::start(Transport::Plain, |r| {
        recipe = Some(r.clone());
        r
    })
    .await;
    stage.proxy.get("/before").await;
    let recipe = recipe.expect("taken").top("access_log: { target: access.log, format: text }");
    stage.proxy.rename_over(&recipe.yaml());
    let reloaded = ("result", "success");
    let done = |m: &Metrics| m.sum("bascule_config_reloads_total", &[reloaded]) == 1.0;
    stage.proxy.metrics_when("the reload", done).await;
    stage.proxy.get("/after").await;
    let file = stage.proxy.file("access.log");
    let there = async {
        while !fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n')) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    within("the line", there).await;
    let text = fs::read_to_string(&file).expect("the log");
    assert!(text.contains(r#""GET /after HTTP/1.1" 200 "#), "{text}");
    assert!(!text.contains("/before"), "{text}");
}

#[tokio::test]
async fn a_shutdown_writes_every_line_first() {
    let mut stage = logging("").await;
    for _ in 0..20 {
        stage.proxy.get("/page").await;
    }
    stage.proxy.signal("TERM");
    assert_eq!(stage.proxy.exit().await.code(), Some(0));
    assert_eq!(lines(&stage.proxy.file("access.log")).len(), 20);
}

#[tokio::test]
async fn a_recorded_day_can_be_replayed() {
    let stage = logging("").await;
    let mut session = stage.proxy.session(Speak::Http1).await;
    for n in 0..200 {
        let ask = Ask::get(&format!("/page/{n}"));
        within("an answer", session.send(&ask)).await.expect("whole");
    }
    let file = stage.proxy.file("access.log");
    written(&file, 200).await;
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bascule"));
    command.args(["replay", "--access-log", "access.log", "-c", "bascule.yaml"]);
    command.current_dir(file.parent().expect("a folder"));
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = within("the replay", run).await.expect("no panic").expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("200"), "{said}");
}

#[tokio::test]
async fn an_error_of_our_own_names_its_reason_as_rfc_9209_has_it() {
    let stage = Stage::plain().await;
    let status = |answer: &crate::harness::client::Answer| {
        answer.header("proxy-status").unwrap_or_default().to_owned()
    };
    let nowhere = Ask::get("/").host("nowhere.example");
    let answer = stage.proxy.send(Speak::Http1, &nowhere).await;
    assert_eq!(status(&answer), "bascule; error=destination_not_found");
    assert_eq!(status(&stage.proxy.get("/page").await), "", "a good answer says nothing");
    for upstream in [&stage.us, &stage.eu] {
        upstream.behave(Script::green_probes(Act::Reset));
    }
    let answer = stage.proxy.get("/page").await;
    assert_eq!(answer.status, 502);
    assert_eq!(status(&answer), "bascule; error=connection_terminated");
}

#[tokio::test]
async fn an_edge_that_says_it_cannot_reach_its_origin_is_counted_so() {
    let stage = Stage::plain().await;
    let said = vec![("proxy-status", "ExampleCDN; error=connection_timeout")];
    stage.us.behave(Script::green_probes(Act::Answer(502, said)));
    stage.proxy.get("/page").await;
    let leg = [("provider", "us"), ("outcome", "edge_leg")];
    assert_eq!(stage.proxy.metrics().await.sum("bascule_attempts_total", &leg), 1.0);
}
