//! `bascule man`: the manual's pages, made from what `--help` says.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Command;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Writes bascule.1 and a page for each verb into this folder, instead of printing the first.
    #[arg(long, value_name = "FOLDER")]
    into: Option<PathBuf>,
}

/// Writes or prints.
pub(super) fn run(Arguments { into }: Arguments, whole: Command) -> anyhow::Result<ExitCode> {
    // Pages that repeat the others help nobody.
    let whole = whole.disable_help_subcommand(true);
    match into {
        Some(folder) => {
            std::fs::create_dir_all(&folder)
                .and_then(|()| clap_mangen::generate_to(whole, &folder))
                .with_context(|| format!("writing into {}", folder.display()))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(whole).render(&mut page).context("writing the page")?;
            let mut out = std::io::stdout().lock();
            out.write_all(&page).and_then(|()| out.flush()).context("printing")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
