//! `bascule check`: every mistake at once, then lints, then what the file can tell apart; with `--live`
//! whether every upstream is set up as the file needs it.
//!
//! Complaints go to standard error, so that they stand out of a pipeline; the answer goes to
//! standard output.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::LocalOptions;

use super::configuration_file;
use crate::config::complaint::{Complaint, Severity};
use crate::config::{self, Config, insight};
use crate::control::inspection::{self, Finding, Trust, Whom};
use crate::model::topology::Pool;
use crate::net::tls_client;
use crate::{app, clock};

/// What a script goes by.
const EXIT: &str = "Exit: 0 when all is well, 1 with mistakes (with --deny-warnings also with warnings), 2 when the file \
                    cannot be read.";

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT)]
pub(super) struct Arguments {
    /// The configuration [default: bascule.yaml, then /etc/bascule/bascule.yaml].
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Asks every upstream too, over the network: name, certificate, host, marker, errors kept, loops.
    #[arg(long)]
    live: bool,
    /// Fails on warnings too.
    #[arg(long)]
    deny_warnings: bool,
}

/// Exits with 0 when the file is valid (and the upstreams are, with `--live`), 1 with mistakes, 2 when it
/// cannot be read.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let file = configuration_file(arguments.config);
    let config = match config::load(&file, app::cores()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return Ok(error.exit_code());
        }
    };
    let expiring = config::expiring(&config, clock::wall());
    for lint in &config.lints {
        eprintln!("{lint}");
    }
    for line in &expiring {
        eprintln!("{}: warning: {line}", file.display());
    }
    for line in insight::lines(&config) {
        println!("{line}");
    }
    let mut warnings = config.lints.len() + expiring.len();
    println!("{}: valid, {}", file.display(), counted(warnings, "warning"));
    let mut mistakes = 0;
    if arguments.live {
        let found = live(&config)?;
        for complaint in &found {
            eprintln!("{complaint}");
        }
        mistakes = found.iter().filter(|found| found.severity == Severity::Error).count();
        let warned = found.len() - mistakes;
        warnings += warned;
        println!(
            "live: {} asked, {}, {}",
            counted(config.topology.upstreams.len(), "upstream"),
            counted(mistakes, "mistake"),
            counted(warned, "warning")
        );
    }
    let refused = mistakes > 0 || arguments.deny_warnings && warnings > 0;
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What asking everybody found, in the order of the file.
fn live(config: &Config) -> anyhow::Result<Vec<Complaint>> {
    let roots = tls_client::system_roots();
    let topology = &config.topology;
    let origin = |pool: &Pool| match &pool.rules.probe.origin {
        None => Ok(None),
        Some(origin) => tls_client::config(&origin.endpoint, &roots),
    };
    let origins: Result<Vec<_>, _> = topology.pools.iter().map(origin).collect();
    let trust = Trust {
        upstreams: tls_client::configs(topology, &roots).context("setting trust up")?,
        origins: origins.context("setting trust up")?,
    };
    let names = app::names(&config.resolver, &roots);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .context("starting")?;
    let asked = inspection::inspect(Arc::clone(topology), trust, names, clock::wall());
    let mut complaints = Vec::new();
    for (whom, findings) in runtime.block_on(asked) {
        let (spot, about) = match whom {
            Whom::Origin(id) => {
                (config.spots.services.get(id.index()), topology.pool(id).service.to_string())
            }
            Whom::Upstream(id) => {
                (config.spots.upstreams.get(id.index()), topology.upstream(id).key.to_string())
            }
        };
        let Some(spot) = spot else { continue };
        for Finding { severity, what, mend } in findings {
            complaints.push(spot.complaint(severity, format_args!("`{about}`: {what}"), &mend));
        }
    }
    complaints.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    Ok(complaints)
}
