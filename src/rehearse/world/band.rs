//! The faults of an outage as bands of time, for a drawing: what was wrong, and how much of it.

use std::ops::Range;
use std::time::Duration;

use super::track::Track;
use crate::rehearse::report;
use crate::rehearse::scenario::{Mode, Scenario, Subject};
use crate::rehearse::traffic::Demand;

/// One fault over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    /// Whose fault, and what it does at its worst.
    pub words: String,
    /// Whether requests can notice it at all.
    pub is_felt: bool,
    /// How much of it there is in each column, `0..=1`; 0 for nothing.
    pub shares: Vec<f32>,
}

/// Every fault of an outage, in so many equal columns of a stretch of time; what requests notice
/// before what they do not, then in order of appearance.
pub fn bands(scenario: &Scenario, span: &Range<Duration>, columns: usize) -> Vec<Band> {
    let demand = Demand::new(scenario.named_paths(), "/", scenario.audience);
    let band = |track: &Track| {
        let shares = (0..columns).map(|column| worst_of(track, span, column, columns));
        let worst = track.worst()?;
        let whose = match track.subject {
            Subject::Provider(place) => scenario.upstreams[place].as_str(),
            Subject::Origin => "origin",
            Subject::Resolver => "our resolver",
            Subject::Uplink => "our network",
        };
        let what = report::fault_words(&worst.fault.mode, worst.fault.fraction);
        Some(Band {
            words: format!("{whose}: {what}{}", report::match_words(&worst.fault.only)),
            is_felt: worst.fault.is_felt(),
            shares: shares.collect(),
        })
    };
    let mut bands: Vec<Band> = Track::all(scenario, &demand).iter().filter_map(band).collect();
    bands.sort_by_key(|band| {
        (!band.is_felt, band.shares.iter().position(|share| *share > 0.0).unwrap_or(columns))
    });
    bands
}

/// The most there is of a fault in one column: at its borders, its middle, and wherever it turns.
fn worst_of(track: &Track, span: &Range<Duration>, column: usize, columns: usize) -> f32 {
    let at = |part: f64| span.start + (span.end - span.start).mul_f64(part / columns as f64);
    let (from, to) = (at(column as f64), at(column as f64 + 1.0));
    let inside = |turn: &Duration| (from..to).contains(turn);
    let turns = track.turns().into_iter().filter(inside);
    let share = |at: Duration| {
        track.now(at).map_or(0.0, |(planned, fraction)| match planned.fault.mode {
            // What it can not hold.
            Mode::Capacity(..) => 1.0 - fraction,
            _ => fraction,
        })
    };
    let middle = from + (to - from) / 2;
    turns.chain([from, middle]).map(share).fold(0.0, f64::max) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearse::world::LEAD;

    #[test]
    fn a_wave_shorter_than_a_column_is_still_seen() {
        let text = "name: x\nupstreams: [one]\ntimeline:\n\
                    - {t_s: 10, provider: one, mode: reset, fraction: 0.5, \
                       repeat: {on_s: 1, off_s: 99, until_s: 500}}\n\
                    - {t_s: 600, provider: one, mode: ok}\n";
        let scenario = Scenario::read(text).expect("a scenario");
        let bands = bands(&scenario, &(LEAD..LEAD + Duration::from_secs(1000)), 10);
        assert_eq!(bands.len(), 1);
        assert_eq!(bands[0].words, "one: 50 % break off");
        let seen: Vec<usize> = (0..10).filter(|n| bands[0].shares[*n] > 0.4).collect();
        assert_eq!(seen, [0, 1, 2, 3, 4]);
    }
}
