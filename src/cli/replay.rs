//! `bascule replay`: what this configuration would have done in a recorded outage.

mod access_log;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::app;
use crate::clock;
use crate::config;
use crate::model::id::Label;
use crate::model::topology::{Pool, Sensitivity, Topology};
use crate::rehearse::compare::{self, Comparison};
use crate::rehearse::crew;
use crate::rehearse::library::{self, OUTAGES, Outage};
use crate::rehearse::page;
use crate::rehearse::replay::{self, Decider, Setup};
use crate::rehearse::report::Report;
use crate::rehearse::scenario::Scenario;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Embedded outages by name, or files [default: every embedded one].
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// Takes the rules of a service (timeouts, retry, failover, residency) from this file.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which service of the file [default: its first].
    #[arg(long, requires = "config", value_name = "NAME")]
    service: Option<String>,
    /// How much evidence a trip takes, instead of what the file or the default says.
    #[arg(long, value_enum)]
    sensitivity: Option<Eagerness>,
    /// Puts bascule beside no failover and beside a fixed ejection after five 5xx in a row, in the
    /// same outages [default: every embedded one].
    #[arg(long)]
    compare: bool,
    /// Reads a recorded access log (combined format or JSON lines; `-`: standard input) through the
    /// configuration and says when it would have switched.
    #[arg(long, value_name = "LOG", requires = "config", conflicts_with_all = ["scenarios", "compare", "list", "sensitivity"])]
    access_log: Option<PathBuf>,
    /// How the findings look.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Varies luck and jitter; the same seed gives the same result.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Lists the embedded outages.
    #[arg(long, conflicts_with_all = ["scenarios", "config"])]
    list: bool,
}

/// How the findings look.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// For eyes.
    Text,
    /// One list of objects.
    Json,
    /// One page with drawings, complete in itself.
    Html,
    /// Tables for a document; of a comparison only.
    Md,
}

/// How much evidence a trip takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Eagerness {
    /// More, for who would rather be late than wrong.
    Cautious,
    /// At most one false alarm in 30 days.
    Balanced,
    /// Less, for who would rather be wrong than late.
    Fast,
}

impl From<Eagerness> for Sensitivity {
    fn from(eagerness: Eagerness) -> Self {
        match eagerness {
            Eagerness::Cautious => Self::Cautious,
            Eagerness::Balanced => Self::Balanced,
            Eagerness::Fast => Self::Fast,
        }
    }
}

/// Replays. Exit code 1 when an expectation does not hold.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if arguments.list {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    let topology = match arguments.config.as_ref().map(|file| config::load(file, app::cores())) {
        None => None,
        Some(Ok(config)) => Some(config.topology),
        Some(Err(error)) => {
            eprintln!("{error}");
            return Ok(error.exit_code());
        }
    };
    if let (Some(log), Some(topology)) = (&arguments.access_log, &topology) {
        return access_log::replay(log, topology, &arguments);
    }
    let mut setup = match topology {
        None => Setup::default(),
        Some(topology) => setup(&topology, arguments.service.as_deref())?,
    };
    if let Some(eagerness) = arguments.sensitivity {
        setup = setup.with_sensitivity(eagerness.into());
    }
    if arguments.compare { compare(&arguments, &setup) } else { replay(&arguments, &setup) }
}

/// Plays each outage once. Exit code 1 when an expectation does not hold.
fn replay(arguments: &Arguments, setup: &Setup) -> anyhow::Result<ExitCode> {
    let wanted = wanted(&arguments.scenarios)?;
    let began = clock::now();
    let reports = crew::each(&wanted, |scenario| {
        Report::new(scenario, &replay::play(scenario, setup, arguments.seed))
    });
    match arguments.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&reports)?),
        Format::Html => print!("{}", page::html(&reports)),
        Format::Md => bail!("--format md is for --compare"),
        Format::Text => {
            for report in &reports {
                println!("{}", report.text());
            }
            summarise(&reports, clock::now() - began);
        }
    }
    let holds = reports.iter().all(|report| report.holds);
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Plays each outage through everybody's rules.
fn compare(arguments: &Arguments, setup: &Setup) -> anyhow::Result<ExitCode> {
    let wanted = wanted(&arguments.scenarios)?;
    let all = crew::each(&wanted, |scenario| Comparison::of(scenario, setup, arguments.seed));
    match arguments.format {
        Format::Text => print!("{}", compare::text(&all)),
        Format::Json => println!("{}", serde_json::to_string_pretty(&all)?),
        Format::Md => print!("{}", compare::markdown(&all)),
        Format::Html => bail!("--compare has no page; --format md is for documents"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The named outages, or else all embedded ones.
fn wanted(names: &[String]) -> anyhow::Result<Vec<Scenario>> {
    if names.is_empty() {
        return OUTAGES.iter().map(embedded).collect();
    }
    names.iter().map(|name| named(name)).collect()
}

fn embedded(outage: &Outage) -> anyhow::Result<Scenario> {
    Scenario::read(outage.text).with_context(|| outage.name)
}

fn named(name: &str) -> anyhow::Result<Scenario> {
    if let Some(outage) = library::find(name) {
        return embedded(outage);
    }
    let file = Path::new(name);
    if !file.exists() {
        bail!("no outage and no file is called {name}; did you mean {}?", library::nearest(name));
    }
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    Scenario::read(&text).with_context(|| name.to_owned())
}

/// What a file says about one of its services, and about the providers that it knows.
fn setup(topology: &Topology, service: Option<&str>) -> anyhow::Result<Setup> {
    let is_it = |pool: &&Pool| service.is_none_or(|name| pool.service.as_str() == name);
    let Some(pool) = topology.pools.iter().find(is_it) else {
        match service {
            Some(name) => bail!("the file has no service {name}"),
            None => bail!("the file has no service"),
        }
    };
    let known = |provider: &crate::model::topology::Provider| -> (Label, _, _) {
        (provider.name.clone(), provider.seat, provider.jurisdiction)
    };
    Ok(Setup {
        rules: pool.rules.clone(),
        residency: Some(pool.residency),
        jurisdictions: topology.providers.iter().map(known).collect(),
        decider: Decider::Bascule,
    })
}

fn list() {
    for outage in &OUTAGES {
        println!("{}", outage.name);
    }
}

fn summarise(reports: &[Report], took: Duration) {
    let failed: Vec<&str> =
        reports.iter().filter(|r| !r.holds).map(|r| r.scenario.as_str()).collect();
    let held = reports.len() - failed.len();
    let hours = reports.iter().map(|report| report.length_s).sum::<f64>() / 3600.0;
    println!("{held} of {} outages went as expected: {hours:.0} h in {took:.1?}", reports.len());
    for report in reports.iter().filter(|report| !report.holds) {
        for check in report.expect.iter().filter(|check| !check.holds) {
            let (wanted, found) = (&check.wanted, &check.found);
            println!("  {}: {} should be {wanted}, is {found}", report.scenario, check.key);
        }
    }
}
