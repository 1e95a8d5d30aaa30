//! `bascule status` (being written).

use std::process::ExitCode;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

/// Runs the verb.
pub(super) fn run(_arguments: Arguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
