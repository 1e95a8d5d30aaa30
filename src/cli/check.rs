//! `bascule check`: every mistake at once, then lints, then what the file can tell apart.
//!
//! Complaints go to standard error, so that they stand out of a pipeline; the answer goes to
//! standard output.

use std::path::PathBuf;
use std::process::ExitCode;

use super::configuration_file;
use crate::config::{self, insight};
use crate::{app, clock};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration [default: bascule.yaml, then /etc/bascule/bascule.yaml].
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Fails on warnings too.
    #[arg(long)]
    deny_warnings: bool,
}

/// Exits with 0 when the file is valid, 1 with mistakes, 2 when it cannot be read.
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
    let warnings = config.lints.len() + expiring.len();
    println!(
        "{}: valid, {warnings} warning{}",
        file.display(),
        if warnings == 1 { "" } else { "s" }
    );
    let refused = arguments.deny_warnings && warnings > 0;
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
