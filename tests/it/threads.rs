//! A process that lacks one of its threads only looks well: it ends, so that somebody starts it anew.

use std::process::{Command, Stdio};

use http::Method;
use serde_json::json;

use crate::harness::client::{Ask, Session, Speak};
use crate::harness::log::{Line, Log};
use crate::harness::proxy::folder;
use crate::harness::recipe::Recipe;
use crate::harness::upstream::{FakeUpstream, Transport};
use crate::harness::{PORTAL, within};

/// Whether the admin thread and the control thread answer, or say why they cannot.
async fn is_whole(log: &Log) -> bool {
    let speaks = |module: &str| {
        let is_theirs = |line: &Line| line.field("target").is_some_and(|t| t.starts_with(module));
        !log.select(is_theirs).is_empty()
    };
    if speaks("bascule::admin::") && speaks("bascule::control::") {
        return true;
    }
    let admin = |line: &Line| {
        line.message() == "listening" && line.field("role").as_deref() == Some("admin")
    };
    let Some(address) = log.select(admin).first().and_then(|line| line.field("address")) else {
        return false;
    };
    let address = address.parse().expect("an address with its port");
    let Ok(mut session) = Session::open(Speak::Http1, address, PORTAL).await else { return false };
    let order = json!({ "target": "us", "order": "force_in", "reason": "to see who answers" });
    let ask = Ask { body: order.to_string().into(), ..Ask::new(Method::POST, "/v1/overrides") };
    let ask = ask.host(&address.to_string()).header("Content-Type", "application/json");
    session.send(&ask).await.is_ok_and(|answer| answer.status.is_success())
}

/// Runs with so many descriptors until it ends, or until it is whole; whether a thread had no runtime.
async fn lacks_a_thread(folder: &tempfile::TempDir, descriptors: u32) -> bool {
    let run = format!("ulimit -n {descriptors}; exec \"$0\" run --log-format json -c bascule.yaml");
    let mut command = Command::new("sh");
    command.args(["-c", &run, env!("CARGO_BIN_EXE_bascule")]).current_dir(folder.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("a shell");
    let log = Log::new();
    let reader = log.follow(child.stderr.take().expect("piped"));
    let lacking = |line: &Line| line.message() == "a thread has no runtime";
    let settled = async {
        loop {
            if let Some(status) = child.try_wait().expect("our own child") {
                return status.code();
            }
            // Where one is lacking, nothing but the end of the process will do.
            let whole = tokio::time::timeout(std::time::Duration::from_secs(1), is_whole(&log));
            if log.select(lacking).is_empty() && whole.await == Ok(true) {
                return None;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let code = tokio::time::timeout(crate::harness::PATIENCE, settled).await;
    child.kill().ok();
    child.wait().ok();
    reader.join().expect("no panic");
    let code = code.unwrap_or_else(|_| panic!("it goes on without a thread:\n{}", log.tail()));
    let lacks = !log.select(lacking).is_empty();
    assert!(!lacks || code == Some(1), "{descriptors} descriptors, {code:?}:\n{}", log.tail());
    lacks
}

#[tokio::test]
async fn a_process_without_its_control_or_admin_thread_ends_with_an_error() {
    let us = within("a stand-in", FakeUpstream::start("us", Transport::Plain)).await;
    let folder = folder();
    let text = Recipe::portal().upstream(&us, "US").yaml();
    std::fs::write(folder.path().join("bascule.yaml"), text).expect("ours");
    let mut lacking = 0;
    for descriptors in 12..40 {
        lacking += u32::from(lacks_a_thread(&folder, descriptors).await);
    }
    assert!(lacking > 0, "none had too few for its threads and enough to start");
}
