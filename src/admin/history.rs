//! `/v1/journal`: why each transition happened, as far as it is at hand.

use std::time::{Duration, SystemTime};

use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{command, query};
use crate::exchange::board::{BoardView, RECENT};
use crate::telemetry::journal::{Line, moment, rfc3339};

/// The answer. It is written from entries that are JSON already, and read as this.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct JournalPage {
    /// Of bascule.
    pub version: String,
    /// RFC 3339.
    pub at: String,
    /// From when on, RFC 3339.
    pub since: String,
    /// Whether nothing since then was dropped for want of room.
    pub complete: bool,
    /// Oldest first.
    pub entries: Vec<Line>,
}

/// Where nothing is asked for.
const DEFAULT_SINCE: Duration = Duration::from_secs(24 * 60 * 60);

/// The parameter is no moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`since` has to be a span as 24h, or a moment as 2025-11-18T11:00:00Z.")]
pub struct NoMoment;

/// The entries since `?since=`, oldest first, as one JSON object.
///
/// # Errors
/// When `since` is neither a span nor a moment.
pub fn page(board: &BoardView, uri: &Uri) -> Result<Vec<u8>, NoMoment> {
    let since = match query::value(uri, "since") {
        None => before(board.at, DEFAULT_SINCE),
        Some(text) => match (command::span(&text), moment(&text)) {
            (Some(span), _) => before(board.at, span),
            (None, Some(moment)) => moment,
            (None, None) => return Err(NoMoment),
        },
    };
    let entries: Vec<&str> =
        board.recent.iter().filter(|entry| entry.at >= since).map(|entry| &*entry.json).collect();
    // What is older than the oldest at hand may have been dropped for want of room.
    let complete = board.recent.len() < RECENT || entries.len() < board.recent.len();
    let mut body = format!(
        r#"{{"version":"{}","at":"{}","since":"{}","complete":{complete},"entries":["#,
        env!("CARGO_PKG_VERSION"),
        rfc3339(board.at),
        rfc3339(since),
    );
    body.push_str(&entries.join(","));
    body.push_str("]}");
    Ok(body.into_bytes())
}

fn before(at: SystemTime, span: Duration) -> SystemTime {
    at.checked_sub(span).unwrap_or(SystemTime::UNIX_EPOCH)
}
