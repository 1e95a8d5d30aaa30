//! `bascule journal`: why each transition happened, as lines, as JSON, or as an incident report.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use clap::ValueEnum;

use super::api::{Where, plain};
use crate::admin::history::JournalPage;
use crate::admin::query::encoded;
use crate::telemetry::journal::{Line, moment};

mod report;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How far back, as 24h, or from when, as 2025-11-18T11:00:00Z.
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    since: String,
    /// How it is shown.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    at: Where,
}

/// How the journal is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// A line an entry.
    Text,
    /// As the admin API answers.
    Json,
    /// An incident report in Markdown.
    Md,
}

/// Runs the verb.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { since, format, at } = arguments;
    let body = at.get(&format!("/v1/journal?since={}", encoded(&since)))?;
    let text = match format {
        Format::Json => [&body[..], b"\n"].concat(),
        Format::Text => lines(&at.read(&body)?).into_bytes(),
        Format::Md => report(&at, at.read(&body)?)?.into_bytes(),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(&text).and_then(|()| out.flush()).context("printing")?;
    Ok(ExitCode::SUCCESS)
}

/// With what the journal holds from before the period: an incident that goes on into it is told whole.
fn report(at: &Where, page: JournalPage) -> anyhow::Result<String> {
    let all: JournalPage = at.read(&at.get("/v1/journal?since=1970-01-01T00:00:00Z")?)?;
    let since = moment(&page.since).unwrap_or(SystemTime::UNIX_EPOCH);
    let before: Vec<Line> = all.entries.into_iter().filter(|line| line.moment() < since).collect();
    Ok(report::markdown(&page, &before))
}

fn lines(page: &JournalPage) -> String {
    let line = |line: &Line| {
        let service = line.service.as_deref().unwrap_or("-");
        plain(&format!("{}  {service}  {}  generation={}", line.at, line.text, line.generation))
            + "\n"
    };
    page.entries.iter().map(line).collect()
}
