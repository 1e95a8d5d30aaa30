//! `bascule completions SHELL`: what a shell needs to complete verbs and flags.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use clap::Command;
use clap_complete::Shell;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(Arguments { shell }: Arguments, whole: &mut Command) -> anyhow::Result<ExitCode> {
    // Into memory first: the generator panics where it cannot write, as into a pipe that is gone.
    let mut script = Vec::new();
    clap_complete::generate(shell, whole, "bascule", &mut script);
    let mut out = std::io::stdout().lock();
    out.write_all(&script).and_then(|()| out.flush()).context("printing")?;
    Ok(ExitCode::SUCCESS)
}
