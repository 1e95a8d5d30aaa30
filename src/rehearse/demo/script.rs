//! An outage of hours, fitted into a demo of seconds: the same shape, a quicker clock.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::id::Label;
use crate::rehearse::scenario::{Change, Expect, Fault, Scenario, Subject, Wave};
use crate::rehearse::world::DIRECT;

/// A stand-in: its name, the country of its seat, and what it is to a reader.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// Key in the configuration.
    pub name: &'static str,
    /// Of the legal entity.
    pub seat: &'static str,
}

/// In order of preference. The second one is outside the EU too: `prefer-eu` passes it over.
pub const ROLES: [Role; 4] = [
    Role { name: "aurora", seat: "US" },
    Role { name: "borealis", seat: "US" },
    Role { name: "cedar", seat: "SI" },
    Role { name: DIRECT, seat: "FR" },
];

/// A bad or good spell is never shorter: an outage that ends before it can be seen is none.
const SHORTEST_SPELL: Duration = Duration::from_millis(2500);

/// How a demo's time is divided.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From the first request to the first fault.
    pub calm: Duration,
    /// From the first fault to the last one's end.
    pub outage: Duration,
    /// The whole demo.
    pub total: Duration,
}

impl Timing {
    /// An eighth of calm, two fifths of outage, the rest for the return.
    pub fn new(total: Duration) -> Self {
        Self { calm: total / 8, outage: total.mul_f64(0.4), total }
    }

    /// How often the outage's clock ticks while the wall's ticks once.
    pub fn speed(&self, scenario: &Scenario) -> f64 {
        scenario.last_change().as_secs_f64() / self.outage.as_secs_f64()
    }
}

/// The outage with the demo's providers and the demo's clock.
pub fn compress(scenario: &Scenario, timing: &Timing) -> Scenario {
    let speed = timing.speed(scenario).max(f64::MIN_POSITIVE);
    let roles = cast(scenario);
    let shorter = |span: Duration| span.div_f64(speed);
    let retimed = |change: &Change| {
        let subject = match change.subject {
            Subject::Provider(place) => Subject::Provider(*roles.get(&place)?),
            other => other,
        };
        let fault = change.fault.clone().map(|fault| Fault {
            ramp: shorter(fault.ramp),
            wave: fault.wave.map(|wave| Wave {
                on: shorter(wave.on).max(SHORTEST_SPELL),
                off: shorter(wave.off).max(SHORTEST_SPELL),
                until: shorter(wave.until),
            }),
            ..fault
        });
        Some(Change { at: shorter(change.at), subject, fault, ..change.clone() })
    };
    Scenario {
        upstreams: ROLES.iter().filter_map(|role| Label::new(role.name)).collect(),
        substrates: BTreeMap::new(),
        timeline: scenario.timeline.iter().filter_map(retimed).collect(),
        expect: Expect::default(),
        ..scenario.clone()
    }
}

/// Which role each provider of an outage plays: its first choice is ours, its first fallback is the
/// one in the EU, the next one the other; the origin is the origin.
fn cast(scenario: &Scenario) -> BTreeMap<usize, usize> {
    let is_direct = |place: &usize| scenario.upstreams[*place].as_str() == DIRECT;
    let edges = (0..scenario.upstreams.len()).filter(|place| !is_direct(place));
    let mut roles: BTreeMap<usize, usize> = edges.zip([0, 2, 1]).collect();
    roles.extend((0..scenario.upstreams.len()).filter(is_direct).map(|place| (place, 3)));
    roles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearse::library;

    #[test]
    fn eighteen_november_keeps_its_shape() {
        let outage = library::find("cf-2025-11-18-fl2-flap").expect("embedded");
        let scenario = Scenario::read(outage.text).expect("a scenario");
        let timing = Timing::new(Duration::from_secs(40));
        let short = compress(&scenario, &timing);
        assert_eq!(short.last_change(), timing.outage);
        let first = &short.timeline[0];
        assert_eq!(first.subject, Subject::Provider(0));
        let wave = first.fault.as_ref().and_then(|fault| fault.wave).expect("a wave");
        assert_eq!((wave.on, wave.off), (SHORTEST_SPELL, SHORTEST_SPELL));
    }

    #[test]
    fn who_has_no_role_has_no_fault() {
        let outage = library::find("total-loss-all-edges").expect("embedded");
        let scenario = Scenario::read(outage.text).expect("a scenario");
        let short = compress(&scenario, &Timing::new(Duration::from_secs(40)));
        let mut hit: Vec<Subject> = short.timeline.iter().map(|change| change.subject).collect();
        hit.sort();
        hit.dedup();
        assert_eq!(hit, [0, 1, 2].map(Subject::Provider));
    }
}
