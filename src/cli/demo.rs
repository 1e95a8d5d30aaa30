//! `bascule demo`: the whole story on loopback, no file and no network.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::rehearse::demo;
use crate::rehearse::library;
use crate::rehearse::scenario::Scenario;

/// Shortest and longest demo. Shorter than this nothing can be seen; a longer one is a rehearsal.
const LENGTHS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(20)..=Duration::from_secs(3600);

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Which embedded outage is acted out; `bascule replay --list` names them.
    #[arg(long, value_name = "NAME", default_value = "cf-2025-11-18-fl2-flap")]
    scenario: String,
    /// How long it takes: `40s`, `2m`.
    #[arg(long, value_parser = duration, default_value = "40s")]
    duration: Duration,
}

/// Plays. Exit code 1 when more than 0.1 % of the requests through bascule failed.
pub(super) fn run(arguments: Arguments, _log_format: super::LogFormat) -> anyhow::Result<ExitCode> {
    let Arguments { scenario: name, duration } = arguments;
    let Some(outage) = library::find(&name) else {
        bail!("no outage is called {name}; did you mean {}?", library::nearest(&name));
    };
    let scenario = Scenario::read(outage.text).with_context(|| name)?;
    let summary = demo::play(&scenario, duration)?;
    print!("{summary}");
    Ok(if summary.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn duration(text: &str) -> Result<Duration, String> {
    let length = text
        .parse::<jiff::SignedDuration>()
        .map_err(|error| error.to_string())
        .and_then(|span| Duration::try_from(span).map_err(|error| error.to_string()))?;
    if LENGTHS.contains(&length) {
        Ok(length)
    } else {
        Err(format!("a demo takes {:?} to {:?}", LENGTHS.start(), LENGTHS.end()))
    }
}
