//! `bascule replay --access-log`: when would a configuration have switched, by a recorded log?

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};

use super::{Arguments, Format};
use crate::model::topology::Topology;
use crate::rehearse::replay::recorded::{self, Found};

/// Bytes read at once.
const BUFFER: usize = 256 * 1024;

/// Reads the log and says what would have happened.
pub(super) fn replay(
    log: &Path,
    topology: &Arc<Topology>,
    arguments: &Arguments,
) -> anyhow::Result<ExitCode> {
    let reader: Box<dyn Read> = if log.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(log).with_context(|| format!("cannot open {}", log.display()))?)
    };
    let reader = BufReader::with_capacity(BUFFER, reader);
    let found = recorded::replay(topology, reader, arguments.seed)
        .with_context(|| format!("cannot read {}", log.display()))?;
    match arguments.format {
        Format::Text => print(&found),
        Format::Json => println!("{}", serde_json::to_string_pretty(&found)?),
        Format::Html | Format::Md => bail!("a log is told as text or JSON"),
    }
    // A log without one understood line is no log.
    Ok(if found.requests > 0 { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

fn print(found: &Found) {
    for happening in &found.happenings {
        println!("{}  {}", happening.at, happening.text);
    }
    if found.more > 0 {
        println!("… and {} more", found.more);
    }
    if let Some((from, to)) = &found.span {
        println!("{} requests from {from} to {to}", found.requests);
    }
    println!("  failed in the record      {}", found.failed);
    println!("  would have gone elsewhere {:.0}", found.elsewhere);
    println!("    of them failed          {:.0}", found.elsewhere_failed);
    if found.happenings.is_empty() {
        println!("  nothing would have moved");
    }
    for (why, (count, first)) in &found.not_understood {
        println!(
            "  {count} of {} lines not understood: {why}; the first is line {first}",
            found.lines
        );
    }
}
