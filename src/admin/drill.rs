//! A failover rehearsed over HTTP: begun, stopped, looked at, as JSON.

use std::time::Duration;

use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::command::{MOST_REASON, is_reason, span};
use crate::exchange::board::BoardView;
use crate::exchange::commands::{CommandSender, DrillWord, Unheard};
use crate::model::drill::{DrillRecord, DrillSide, NoDrill};
use crate::model::id::Label;
use crate::model::unit::Permille;
use crate::telemetry::journal::rfc3339;

/// What is rehearsed with where nothing is said.
pub const SHARE: &str = "5%";
/// And for how long.
pub const LASTS: &str = "10m";
/// Largest share, in thousandths: the first choice keeps at least as much.
const MOST_SHARE: u16 = 500;
/// Shortest and longest drill.
const SPAN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 60 * 60));

/// A drill as it is asked for.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DrillBody {
    /// Of which service.
    #[schemars(example = &"portal", regex(pattern = r"^[A-Za-z0-9][-A-Za-z0-9_.]{0,62}$"))]
    pub service: String,
    /// Of its requests, as `5%`, up to `50%`; none: 5 %.
    #[schemars(regex(pattern = r"^([1-9]|[1-4][0-9]|50)%$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    /// How long, as `10m`, from 1s to 24h; none: ten minutes.
    #[schemars(regex(
        pattern = r"^([1-9]h([1-9][0-9]?m)?|1[0-9]h|[1-9][0-9]{0,2}m|[1-9][0-9]{0,3}s)$"
    ))]
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    /// Why, for the journal.
    #[schemars(length(max = 500), regex(pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$"))]
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A drill that is on, or has ended.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct DrillView {
    /// Of which service.
    pub service: String,
    /// Through whom the first choice goes.
    pub from: String,
    /// Through whom the fallback goes.
    pub to: String,
    /// Of the service's requests, as a fraction of one.
    pub share: f64,
    /// When it began, RFC 3339.
    pub began: String,
    /// When it ends, if nothing ends it before.
    pub until: String,
    /// As the operator gave it.
    pub reason: String,
    /// What the first choice did meanwhile.
    pub first: SideView,
    /// What the fallback did meanwhile.
    pub fallback: SideView,
    /// When it ended; none while it is on.
    pub ended: Option<String>,
    /// `passed`, `too_little`, `failures`, `latency`, `trouble` or `stopped`; none while it is on.
    pub result: Option<String>,
    /// The same in words.
    pub detail: Option<String>,
}

/// One side of a drill.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
pub struct SideView {
    /// Attempts.
    pub attempts: u64,
    /// Of which failed.
    pub failures: u64,
    /// Answers later than twice what 95 % of the first choice's take.
    pub slow: u64,
}

/// Why no drill was begun or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// What was sent asks for no drill.
    #[error("The body asks for no drill: {0}.")]
    Malformed(#[source] serde_json::Error),
    /// No share, or one beyond its bounds.
    #[error("`share` has to be from 0.1% to 50%.")]
    Share,
    /// No duration, or one beyond its bounds.
    #[error("`for` has to be from 1s to 24h.")]
    Lasts,
    /// Too long, or not one line of text.
    #[error("`reason` has to be one line of at most {MOST_REASON} characters.")]
    Reason,
    /// No name of a service.
    #[error("`service` is no name of a service.")]
    Service,
    /// Not now, or not here.
    #[error(transparent)]
    NoDrill(#[from] NoDrill),
    /// Nobody listened.
    #[error(transparent)]
    Unheard(#[from] Unheard),
}

impl Refused {
    /// As an answer's status.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Share | Self::Lasts | Self::Reason | Self::Service => {
                StatusCode::BAD_REQUEST
            }
            Self::NoDrill(NoDrill::NoService(_) | NoDrill::NotRunning(_)) => StatusCode::NOT_FOUND,
            Self::NoDrill(NoDrill::Running(_) | NoDrill::Trouble(..)) => StatusCode::CONFLICT,
            Self::Unheard(_) | Self::NoDrill(NoDrill::HandingOver) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

/// Begins the drill that a body asks for; ends when it is on.
///
/// # Errors
/// When it asks for none, or this is no time for it.
pub async fn begin(commands: &CommandSender, body: &[u8]) -> Result<DrillView, Refused> {
    let DrillBody { service, share, lasts, reason } =
        serde_json::from_slice(body).map_err(Refused::Malformed)?;
    let service = Label::new(&service).ok_or(Refused::Service)?;
    let share = self::share(share.as_deref().unwrap_or(SHARE)).ok_or(Refused::Share)?;
    let lasts = span(lasts.as_deref().unwrap_or(LASTS)).ok_or(Refused::Lasts)?;
    if !(SPAN.0..=SPAN.1).contains(&lasts) {
        return Err(Refused::Lasts);
    }
    if !is_reason(&reason) {
        return Err(Refused::Reason);
    }
    let word = DrillWord::Begin { share, lasts, reason: reason.into() };
    Ok(DrillView::of(&commands.rehearse(service, word).await??))
}

/// Ends the drill of a service.
///
/// # Errors
/// When none is on.
pub async fn stop(commands: &CommandSender, service: &Label) -> Result<DrillView, Refused> {
    Ok(DrillView::of(&commands.rehearse(service.clone(), DrillWord::Stop).await??))
}

/// Those that are on, then the last that ended, latest first.
pub fn all(board: &BoardView) -> Vec<DrillView> {
    board.drills.iter().map(DrillView::of).collect()
}

impl DrillView {
    fn of(record: &DrillRecord) -> Self {
        Self {
            service: record.service.to_string(),
            from: record.from.to_string(),
            to: record.to.to_string(),
            share: record.share.fraction(),
            began: rfc3339(record.began),
            until: rfc3339(record.until),
            reason: record.reason.to_string(),
            first: SideView::of(record.first),
            fallback: SideView::of(record.fallback),
            ended: record.ended.map(|(_, at)| rfc3339(at)),
            result: record.ended.map(|(end, _)| end.as_str().to_owned()),
            detail: record.ended.map(|(end, _)| end.to_string()),
        }
    }
}

impl SideView {
    const fn of(side: DrillSide) -> Self {
        Self { attempts: side.attempts, failures: side.failures, slow: side.slow }
    }
}

/// A share as it is typed: `5%`, `0.5%`.
fn share(text: &str) -> Option<Permille> {
    let percent: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
    let thousandths = (percent * 10.0).round();
    let fits = thousandths >= 1.0 && thousandths <= f64::from(MOST_SHARE);
    fits.then(|| Permille::new(thousandths as u16)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_they_are_typed() {
        let table = [
            ("5%", Some(50)),
            (" 0.5 % ", Some(5)),
            ("50%", Some(500)),
            ("50.1%", None),
            ("0%", None),
            ("0.01%", None),
            ("-5%", None),
            ("NaN%", None),
            ("inf%", None),
            ("5", None),
            ("", None),
        ];
        for (text, thousandths) in table {
            assert_eq!(share(text).map(Permille::get), thousandths, "{text:?}");
        }
    }
}
