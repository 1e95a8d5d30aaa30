//! `bascule drill`: rehearses a failover on live traffic, waits for its end, says what came of it.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Method;

use super::api::{Where, plain};
use crate::admin::drill::{DrillBody, DrillView, LASTS, SHARE, SideView};

/// Between two looks at a drill that is on.
const LOOK: Duration = Duration::from_millis(500);
/// Looks that may fail in a row before it is given up: a reload or a busy moment is no end.
const MOST_MISSED: u32 = 10;

/// Arguments of `drill`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Of which service.
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Of its requests, up to 50%.
    #[arg(long, value_name = "SHARE", default_value = SHARE)]
    share: String,
    /// How long, at most 24h.
    #[arg(long = "for", value_name = "DURATION", default_value = LASTS)]
    lasts: String,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Does not wait for its end.
    #[arg(long)]
    no_wait: bool,
    /// Ends the one that is on.
    #[arg(long, conflicts_with_all = ["share", "lasts", "reason", "no_wait"])]
    stop: bool,
    #[command(flatten)]
    at: Where,
}

/// Exit code 0 when it passed, 2 when it was aborted or stopped, 3 when it ended without a result. An
/// error (1) is one that never began, or whose end cannot be seen.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { service, share, lasts, reason, no_wait, stop, at } = arguments;
    if stop {
        let body = at.call(Method::DELETE, &format!("/v1/drills/{service}"), Bytes::new())?;
        print(&ended(&at.read(&body)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let asked = DrillBody { service, share: Some(share), lasts: Some(lasts), reason };
    let body = serde_json::to_vec(&asked)?;
    let begun: DrillView = at.read(&at.call(Method::POST, "/v1/drills", body.into())?)?;
    print(&format!(
        "{}: {:.1}% of the requests go to {} instead of {} until {}\n",
        begun.service,
        begun.share * 100.0,
        begun.to,
        begun.from,
        begun.until
    ))?;
    if no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    let drill = wait(&at, &begun)?;
    print(&ended(&drill))?;
    Ok(match drill.result.as_deref() {
        Some("passed") => ExitCode::SUCCESS,
        Some("too_little") => ExitCode::from(3),
        Some(_) | None => ExitCode::from(2),
    })
}

/// Looks until it has ended.
fn wait(at: &Where, begun: &DrillView) -> anyhow::Result<DrillView> {
    let mut missed = 0;
    loop {
        #[expect(clippy::disallowed_methods, reason = "a verb of one thread that only waits")]
        std::thread::sleep(LOOK);
        let all: Vec<DrillView> = match at.get("/v1/drills").and_then(|body| at.read(&body)) {
            Ok(all) => all,
            Err(error) if missed == MOST_MISSED => return Err(error.context("waiting for its end")),
            Err(_) => {
                missed += 1;
                continue;
            }
        };
        missed = 0;
        let is_it = |it: &DrillView| (&it.service, &it.began) == (&begun.service, &begun.began);
        match all.into_iter().find(is_it) {
            Some(drill) if drill.ended.is_some() => return Ok(drill),
            Some(_) => {}
            None => bail!("the drill is not known any more: the proxy was started anew"),
        }
    }
}

fn ended(drill: &DrillView) -> String {
    let side = |name: &str, side: SideView| {
        format!(
            "  {name}: {} of {} attempts failed, {} answers slow\n",
            side.failures, side.attempts, side.slow
        )
    };
    let detail = drill.detail.as_deref().unwrap_or("is on");
    format!(
        "{}: {detail}\n{}{}",
        drill.service,
        side(&drill.from, drill.first),
        side(&drill.to, drill.fallback)
    )
}

fn print(text: &str) -> anyhow::Result<()> {
    let text: String = text.lines().map(|line| plain(line) + "\n").collect();
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("printing")
}
