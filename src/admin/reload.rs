//! `POST /v1/reload`: the file is loaded now, and whoever asks hears what came of it.

use std::time::Duration;

use http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::AdminBody;
use super::{problem, router};
use crate::exchange::reload::{Loaded, NotLoaded, ReloadSender, Unloadable};

/// For reading 64 MiB and binding addresses. A load that takes longer goes on, and the log tells.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Mistakes told; `bascule check` shows them all.
const MOST_REASONS: usize = 100;

/// What is in force now.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct LoadedView {
    /// How many services there are.
    pub services: usize,
    /// How many upstreams there are.
    pub upstreams: usize,
    /// What is probably not meant, a line each.
    pub warnings: Vec<String>,
}

/// Loads, and says what came of it.
pub async fn load(reloads: &ReloadSender) -> Response<AdminBody> {
    let Ok(asked) = tokio::time::timeout(TIMEOUT, reloads.ask()).await else {
        let detail = "The load goes on; the log will say what comes of it.";
        return problem::answer(StatusCode::SERVICE_UNAVAILABLE, detail);
    };
    match asked {
        Ok(Ok(Loaded { services, upstreams, lints })) => {
            router::json(&LoadedView { services, upstreams, warnings: lints })
        }
        Ok(Err(NotLoaded::Refused(reasons))) => {
            let detail = "The file has mistakes; the old configuration serves on.";
            refused(detail, &reasons)
        }
        Ok(Err(NotLoaded::NotInForce(reasons))) => {
            let detail = "The file cannot be put into force; the old configuration serves on.";
            refused(detail, &reasons)
        }
        Err(unloadable) => {
            let status = match unloadable {
                Unloadable::NoFile => StatusCode::CONFLICT,
                Unloadable::Busy | Unloadable::BrokeOff => StatusCode::SERVICE_UNAVAILABLE,
            };
            problem::answer(status, &unloadable.to_string())
        }
    }
}

fn refused(detail: &str, reasons: &[String]) -> Response<AdminBody> {
    let reasons: Vec<&str> = reasons.iter().take(MOST_REASONS).map(String::as_str).collect();
    problem::with_reasons(StatusCode::UNPROCESSABLE_ENTITY, detail, &reasons)
}
