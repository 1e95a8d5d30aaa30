//! `bascule schema`: the JSON Schema of the file, for editors.

use std::process::ExitCode;

use crate::config;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

/// Prints it.
pub(super) fn run(Arguments {}: Arguments) -> anyhow::Result<ExitCode> {
    println!("{}", serde_json::to_string_pretty(&config::schema())?);
    Ok(ExitCode::SUCCESS)
}
