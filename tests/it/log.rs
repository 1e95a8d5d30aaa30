//! A standard error that nobody reads: the log loses lines, and nothing else changes.

use std::io::{Read, Write};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::harness::client::{Ask, Speak};
use crate::harness::metrics::Metrics;
use crate::harness::proxy::{RunningProxy, StandardError, command, folder};
use crate::harness::recipe::Recipe;
use crate::harness::stage::Stage;
use crate::harness::upstream::{Act, FakeUpstream, Script, Transport};
use crate::harness::within;

const LOST: (&str, &str) = ("what", "log");

async fn stage() -> (Stage, StandardError) {
    let us = FakeUpstream::start("us", Transport::Plain).await;
    let eu = FakeUpstream::start("eu", Transport::Plain).await;
    let recipe = Recipe::portal().upstream(&us, "US").upstream(&eu, "SI");
    let (proxy, standard_error) = RunningProxy::start_unread(&recipe.top("state_dir: state")).await;
    (Stage { us, eu, proxy }, standard_error)
}

/// Lets the first choice fail, and steering tell of it.
async fn fail_over(stage: &Stage) {
    stage.us.behave(Script::green_probes(Act::status(500)));
    for number in 0..40 {
        stage.proxy.get(&format!("/page/{number}")).await;
    }
    let moved = |metrics: &Metrics| metrics.sum("bascule_failovers_total", &[]) >= 1.0;
    stage.proxy.metrics_when("the failover", moved).await;
    for number in 0..10 {
        let post = Ask::post(&format!("/order/{number}"), "x");
        let answer = stage.proxy.send(Speak::Http1, &post).await;
        assert_eq!((answer.status.as_u16(), answer.served_by()), (200, "eu"), "order {number}");
    }
}

/// Nothing more fits into the pipe.
fn fill(pipe: &mut std::io::PipeWriter) {
    let flags = fcntl_getfl(&*pipe).expect("ours");
    fcntl_setfl(&*pipe, flags | OFlags::NONBLOCK).expect("ours");
    for size in [4096, 1] {
        while pipe.write(&vec![b'x'; size]).is_ok() {}
    }
    fcntl_setfl(&*pipe, flags).expect("ours");
}

#[tokio::test]
async fn a_reader_of_the_log_that_has_gone_ends_no_thread() {
    let (mut stage, standard_error) = stage().await;
    drop(standard_error);
    fail_over(&stage).await;
    let lost = |metrics: &Metrics| metrics.sum("bascule_dropped_total", &[LOST]) >= 1.0;
    stage.proxy.metrics_when("the loss", lost).await;
    stage.proxy.signal("TERM");
    assert_eq!(stage.proxy.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_reader_of_the_log_that_does_not_read_keeps_nobody_waiting_and_finds_it_all_later() {
    let (mut stage, mut standard_error) = stage().await;
    fill(&mut standard_error.writer);
    fail_over(&stage).await;
    assert_eq!(stage.proxy.metrics().await.sum("bascule_dropped_total", &[LOST]), 0.0);
    let StandardError { mut reader, writer } = standard_error;
    drop(writer);
    let reading = std::thread::spawn(move || {
        let mut said = String::new();
        reader.read_to_string(&mut said).map(|_| said)
    });
    stage.proxy.signal("TERM");
    assert_eq!(stage.proxy.exit().await.code(), Some(0));
    let said = reading.join().expect("no panic").expect("text");
    assert!(said.contains("\"failover\""), "what waited is written: {said}");
    assert!(said.contains("\"drained\""), "and so are the last words: {said}");
}

#[tokio::test]
async fn a_log_that_is_never_read_does_not_keep_the_process_from_its_end() {
    let (mut stage, mut standard_error) = stage().await;
    fill(&mut standard_error.writer);
    stage.proxy.signal("TERM");
    assert_eq!(stage.proxy.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_start_that_fails_has_its_exit_code_where_nobody_can_be_told_why() {
    let folder = folder();
    std::fs::write(folder.path().join("bascule.yaml"), "no_such_key: 1\n").expect("ours");
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a device");
    let mut command = command(&folder, &["run"]);
    command.stderr(full);
    let run = tokio::task::spawn_blocking(move || command.status());
    let status = within("the end", run).await.expect("no panic").expect("the binary starts");
    assert!(matches!(status.code(), Some(1 | 2)), "{status}");
}
