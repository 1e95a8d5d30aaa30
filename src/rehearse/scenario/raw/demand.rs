//! Who asks in a scenario, and for what: its audience and its services.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::super::{Audience, ScenarioError, Service};
use super::{labels, wrong};
use crate::model::id::Label;
use crate::rehearse::traffic::RATE;

/// Most services of one file.
const MOST_SERVICES: usize = 100;
/// Most requests a second of one service.
const MOST_REQUESTS: f64 = 10_000.0;

/// Who asks, and for how much.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAudience {
    clients: Option<u8>,
    pages: Option<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawService {
    name: String,
    count: Option<usize>,
    /// Requests a second, of each.
    rate: f64,
}

impl RawAudience {
    pub(super) fn lower(self) -> Result<Audience, ScenarioError> {
        let Self { clients, pages } = self;
        let usual = Audience::default();
        let (clients, pages) = (clients.unwrap_or(usual.clients), pages.unwrap_or(usual.pages));
        let (most_clients, most_pages) = (usual.clients, usual.pages);
        if !(1..=most_clients).contains(&clients) || !(1..=most_pages).contains(&pages) {
            let what = format!("1 to {most_clients} clients, 1 to {most_pages} pages");
            return Err(wrong("audience", what));
        }
        Ok(Audience { clients, pages })
    }
}

/// Every service by itself; one at the usual rate where the file names none.
pub(super) fn services(named: Option<Vec<RawService>>) -> Result<Vec<Service>, ScenarioError> {
    let place = "services";
    let usual = RawService { name: "service".to_owned(), count: None, rate: RATE };
    let mut services = Vec::new();
    for RawService { name, count, rate } in named.unwrap_or_else(|| vec![usual]) {
        if !(rate > 0.0 && rate <= MOST_REQUESTS) {
            return Err(wrong(
                place,
                format!("{rate} requests a second: above 0, at most {MOST_REQUESTS}"),
            ));
        }
        let names = match count {
            None => vec![name],
            Some(count) if count <= MOST_SERVICES => {
                (1..=count).map(|n| format!("{name}-{n}")).collect()
            }
            Some(count) => {
                return Err(wrong(place, format!("{count} are too many, {MOST_SERVICES} at most")));
            }
        };
        services.extend(labels(place, &names)?.into_iter().map(|name| Service { name, rate }));
    }
    let distinct: BTreeSet<&Label> = services.iter().map(|service| &service.name).collect();
    if services.is_empty() || services.len() > MOST_SERVICES || distinct.len() < services.len() {
        return Err(wrong(place, format!("at least one, {MOST_SERVICES} at most, and each once")));
    }
    Ok(services)
}
