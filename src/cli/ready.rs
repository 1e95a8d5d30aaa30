//! `bascule ready`: whether a running proxy wants traffic, as an exit code for containers and scripts.

use std::process::ExitCode;

use super::api::Where;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    at: Where,
}

/// Runs the verb: an error where the proxy is not ready or not there, with what it is missing.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    arguments.at.get("/readyz")?;
    println!("ready");
    Ok(ExitCode::SUCCESS)
}
