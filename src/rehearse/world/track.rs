//! The fault of one (subject, id) over time: what is in force at an instant, and how much of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::LEAD;
use crate::rehearse::scenario::{Change, Fault, Mode, Scenario, Subject, Wave};
use crate::rehearse::traffic::{Demand, Filter};

/// Every change of one (subject, id), in order of time.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) subject: Subject,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    at: Duration,
    /// What the ramp begins at.
    from: f64,
    planned: Option<Planned>,
}

/// A fault with its match looked up.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) fault: Fault,
    pub(super) filter: Filter,
}

impl Track {
    /// The tracks of an outage.
    pub(super) fn all(scenario: &Scenario, demand: &Demand) -> Vec<Self> {
        let mut by_pair: BTreeMap<(Subject, &str), Self> = BTreeMap::new();
        for change in &scenario.timeline {
            let subject = change.subject;
            let track = by_pair
                .entry((subject, change.id.as_str()))
                .or_insert_with(|| Self { subject, steps: Vec::new() });
            track.push(change, demand);
        }
        by_pair.into_values().collect()
    }

    fn push(&mut self, change: &Change, demand: &Demand) {
        let at = LEAD + change.at;
        let from = self.now(at).map_or(0.0, |(_, fraction)| fraction);
        let planned = change.fault.clone().map(|mut fault| {
            fault.wave = fault.wave.map(|wave| Wave { until: LEAD + wave.until, ..wave });
            Planned { filter: demand.filter(&fault.only), fault }
        });
        self.steps.push(Step { at, from, planned });
    }

    /// Whether any of it is a capacity.
    pub(super) fn is_about_capacity(&self) -> bool {
        let faults = self.steps.iter().filter_map(|step| step.planned.as_ref());
        faults.into_iter().any(|planned| matches!(planned.fault.mode, Mode::Capacity(..)))
    }

    /// The step with the most of it: what it is all about.
    pub(super) fn worst(&self) -> Option<&Planned> {
        let faults = self.steps.iter().filter_map(|step| step.planned.as_ref());
        faults.max_by(|a, b| a.fault.fraction.total_cmp(&b.fault.fraction))
    }

    /// Whether any of it is about names that do not resolve.
    pub(super) fn is_about_names(&self) -> bool {
        let faults = self.steps.iter().filter_map(|step| step.planned.as_ref());
        faults.into_iter().any(|planned| matches!(planned.fault.mode, Mode::Dns))
    }

    /// What is in force, with its fraction; `None` for nothing.
    pub(super) fn now(&self, at: Duration) -> Option<(&Planned, f64)> {
        let step = &self.steps[self.steps.partition_point(|step| step.at <= at).checked_sub(1)?];
        let planned = step.planned.as_ref()?;
        let fault = &planned.fault;
        let age = at - step.at;
        let is_on = fault.wave.is_none_or(|wave| at < wave.until && phase(age, wave) < wave.on);
        let fraction = if age < fault.ramp {
            let done = age.as_secs_f64() / fault.ramp.as_secs_f64();
            step.from + (fault.fraction - step.from) * done
        } else {
            fault.fraction
        };
        is_on.then_some((planned, fraction))
    }

    /// When anything about it begins, ends or turns. Ramps are no turns.
    pub(super) fn turns(&self) -> Vec<Duration> {
        let mut turns = Vec::new();
        for (place, step) in self.steps.iter().enumerate() {
            turns.push(step.at);
            let end = self.steps.get(place + 1).map(|next| next.at);
            let Some(wave) = step.planned.as_ref().and_then(|planned| planned.fault.wave) else {
                continue;
            };
            let end = end.map_or(wave.until, |end| end.min(wave.until));
            let mut at = step.at;
            while at < end {
                turns.extend([at, (at + wave.on).min(end)]);
                at += wave.on + wave.off;
            }
            turns.push(end);
        }
        turns
    }
}

/// How far into its bad and good spell a wave is.
fn phase(age: Duration, wave: Wave) -> Duration {
    let period = (wave.on + wave.off).as_nanos();
    Duration::from_nanos((age.as_nanos() % period) as u64)
}
