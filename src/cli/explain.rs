//! `bascule explain URL`: who would be asked for it, in which order, and why; by a running proxy, or
//! by a file alone, as if all were well.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;

use super::api::{Where, plain};
use crate::admin::explain::{CandidateView, Explanation};
use crate::admin::query::encoded;
use crate::control::steering::{Beginning, Steering};
use crate::exchange::evidence;
use crate::telemetry::metrics::Metrics;
use crate::{app, clock, config};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// As a client would ask for it: <https://www.portal.example/page>.
    url: String,
    /// Of the request.
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    method: String,
    /// Explains by this file, as if all were well, and asks no running proxy.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["admin", "token_file"])]
    config: Option<PathBuf>,
    /// Prints the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

/// Runs the verb.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { url, method, config, json, at } = arguments;
    let explanation = match config {
        Some(file) => match by_file(&file, &url, &method)? {
            Ok(explanation) => explanation,
            Err(code) => return Ok(code),
        },
        None => {
            let target = format!("/v1/explain?url={}&method={}", encoded(&url), encoded(&method));
            at.read(&at.get(&target)?)?
        }
    };
    let text =
        if json { serde_json::to_string_pretty(&explanation)? + "\n" } else { words(&explanation) };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("printing")?;
    Ok(ExitCode::SUCCESS)
}

/// By the same code that `run` starts with, before anything happened.
fn by_file(
    file: &std::path::Path,
    url: &str,
    method: &str,
) -> anyhow::Result<Result<Explanation, ExitCode>> {
    let config = match config::load(file, app::cores()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return Ok(Err(error.exit_code()));
        }
    };
    let (_, received) = evidence::channel();
    let (_, handles) = Steering::new(Beginning {
        tls: config.topology.upstreams.iter().map(|_| None).collect(),
        topology: Arc::clone(&config.topology),
        workers: 1,
        seed: 0,
        evidence: received,
        metrics: Metrics::new(),
        keeping: None,
    });
    Ok(Ok(Explanation::of(&handles.board.current(), url, method, clock::now())?))
}

fn words(explanation: &Explanation) -> String {
    let e = explanation;
    let mut out = String::new();
    let mut add = |line: String| {
        out.write_fmt(format_args!("{}\n", plain(&line))).expect("a String takes everything");
    };
    add(format!("{} {}", e.method, e.url));
    add(format!("  route     host {}, prefix {}", e.route.host, e.route.prefix));
    add(format!("  service   {}, residency {}", e.service, e.residency));
    if let Some(slice) = &e.slice {
        add(format!("  part      {slice}: served by others than the rest"));
    }
    let mode = e.mode.replace('_', "-");
    add(format!("  plan      {mode}, snapshot {}, {}", e.generation, e.at));
    if e.failover == "observe" {
        let first = e.would_be_first.as_deref();
        let would = first.map(|first| format!("; by what was decided, {first} would be first"));
        add(format!("  observe   decisions move nothing{}", would.unwrap_or_default()));
    }
    if let Some(incident) = &e.incident {
        let blame = incident.blame.as_deref().unwrap_or("not known");
        let odds = incident.log_odds.map(|odds| format!(" ({odds:+.1})")).unwrap_or_default();
        add(format!("  incident  for {:.0} s, blame {blame}{odds}", incident.seconds));
    }
    if e.candidates.is_empty() {
        add("  nobody is left: clients get the service's page".to_owned());
    }
    for (number, candidate) in e.candidates.iter().enumerate() {
        add(candidate_words(number + 1, candidate, &e.method_class));
    }
    for left in &e.left_out {
        let why = left.because.join("; ");
        add(format!("  -  {} ({}): takes nothing: {why}", left.provider, law(&left.jurisdiction)));
    }
    for barred in &e.barred {
        let (provider, law) = (&barred.provider, law(&barred.jurisdiction));
        add(format!("  x  {provider} ({law}): kept out, for {}", barred.because));
    }
    out
}

fn candidate_words(number: usize, candidate: &CandidateView, class: &str) -> String {
    let CandidateView { provider, endpoint, jurisdiction, share, takes_retries, .. } = candidate;
    let share = format!("{:.1}%", share * 100.0).replace(".0%", "%");
    let retries = if *takes_retries { "" } else { ", no retries of others" };
    let (law, why) = (law(jurisdiction), candidate.because.join("; "));
    format!(
        "  {number}. {provider} ({law}) {endpoint}: {share} of {class} requests{retries}: {why}"
    )
}

fn law(jurisdiction: &str) -> &str {
    match jurisdiction {
        "eu" => "EU",
        "non_eu" => "non-EU",
        other => other,
    }
}
