//! `bascule sign`: an origin marker, for scripts and timers that put it where a server takes it from.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};

use crate::model::marker::MarkerKeys;
use crate::request::marker;
use crate::{clock, config};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The keys, one a line: the first one signs. As in `origin_marker.key_file`.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// The host that clients ask for, or `origin_marker.host` where the file has one.
    #[arg(long)]
    host: String,
    /// Seconds of Unix, or a time as 2026-11-26T14:00:00Z. Default: now.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

/// Prints it.
pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { key_file, host, at } = arguments;
    let text = config::read_bounded(&key_file, MarkerKeys::MAX_FILE)
        .with_context(|| format!("reading {}", key_file.display()))?;
    let keys = MarkerKeys::parse(&text).with_context(|| format!("in {}", key_file.display()))?;
    let Some(host) = marker::signed_host(&host) else {
        bail!("`{host}` is no host; write a name without scheme and path, as www.portal.example");
    };
    let at = at.map_or_else(|| Ok(clock::wall()), |text| moment(&text))?;
    let at = at.duration_since(SystemTime::UNIX_EPOCH).context("a time before 1970")?;
    println!("{}", marker::sign(&keys, &host, at));
    Ok(ExitCode::SUCCESS)
}

fn moment(text: &str) -> anyhow::Result<SystemTime> {
    if let Ok(seconds) = text.parse::<u64>() {
        // Twelve digits are all that a marker takes: the year 33658.
        return match seconds {
            0..=999_999_999_999 => Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
            _ => bail!("`{text}` is too far ahead; write seconds, not milliseconds"),
        };
    }
    let stamp: jiff::Timestamp = text.parse().with_context(|| {
        format!("`{text}` is neither seconds nor a time as 2026-11-26T14:00:00Z")
    })?;
    Ok(stamp.into())
}
