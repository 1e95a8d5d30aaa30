//! What a drawing of one replayed outage shows: a stretch of time in columns, with the faults, who
//! served, what was lost and when the first candidate changed.

use std::ops::Range;
use std::time::Duration;

use crate::model::id::UpstreamId;
use crate::model::place::Jurisdiction;
use crate::rehearse::expect;
use crate::rehearse::replay::Played;
use crate::rehearse::scenario::Scenario;
use crate::rehearse::tally::series::Cell;
use crate::rehearse::world::LEAD;
use crate::rehearse::world::band::{self, Band};

/// Most columns: about a point each on a screen, two on a phone.
const COLUMNS: u32 = 480;
/// Of the time between first and last event, shown before and after; at least the second.
const MARGIN: (u32, Duration) = (25, Duration::from_secs(10));

/// What a drawing shows.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Its left border, in seconds since the beginning of the outage.
    pub from: f64,
    /// Its right one.
    pub to: f64,
    /// In the scenario's order.
    pub providers: Vec<Lane>,
    /// Equal parts of the time.
    pub columns: Vec<Cell>,
    /// What was wrong, in as many columns.
    pub faults: Vec<Band>,
    /// Changes of a first candidate.
    pub flips: Vec<Flip>,
}

/// One provider.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// The law it is under; `None` when policy bars it.
    pub jurisdiction: Option<Jurisdiction>,
}

/// One change of a first candidate.
#[derive(Clone, Debug)]
pub struct Flip {
    /// In seconds since the beginning of the outage.
    pub at: f64,
    /// From whom to whom.
    pub words: String,
}

impl Picture {
    /// Of one outage played.
    pub fn new(scenario: &Scenario, played: &Played) -> Self {
        let span = span(scenario, played);
        let columns = played.tally.series.columns(span.clone(), COLUMNS);
        let seconds = |at: Duration| at.as_secs_f64() - LEAD.as_secs_f64();
        let flip = |(at, from, to): &(Duration, usize, usize)| {
            let name = |upstream: usize| expect::label(played, UpstreamId::new(upstream));
            Flip { at: seconds(*at), words: format!("{} → {}", name(*from), name(*to)) }
        };
        let providers = played.topology.providers.iter().enumerate().map(|(place, provider)| {
            let mut upstreams = played.topology.upstreams.iter();
            let is_permitted = upstreams.any(|upstream| upstream.provider.index() == place);
            let jurisdiction = is_permitted.then_some(provider.jurisdiction);
            Lane { name: provider.name.to_string(), jurisdiction }
        });
        Self {
            from: seconds(span.start),
            to: seconds(span.end),
            providers: providers.collect(),
            faults: band::bands(scenario, &span, columns.len()),
            columns,
            flips: played.tally.flips.iter().map(flip).collect(),
        }
    }
}

/// From shortly before the first fault to shortly after the last thing that happened.
fn span(scenario: &Scenario, played: &Played) -> Range<Duration> {
    let ended = LEAD + scenario.last_change();
    let last = played.tally.transitions.last().map_or(ended, |(at, _)| (*at).max(ended));
    let margin = ((last - LEAD) / MARGIN.0).max(MARGIN.1);
    LEAD.saturating_sub(margin)..(last + margin).min(played.length)
}
