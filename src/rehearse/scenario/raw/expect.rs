//! `expect` in an outage's file, and what it means.

use serde::Deserialize;

use super::{known, seconds, share};
use crate::model::id::Label;
use crate::rehearse::scenario::{Expect, ScenarioError};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawExpect {
    blame: Option<String>,
    ejected: Vec<String>,
    not_ejected: Vec<String>,
    detected_within_s: Option<f64>,
    flips_at_most: Option<u32>,
    errors_at_most: Option<String>,
    goodput_at_least: Option<String>,
    retry_amplification_at_most: Option<f64>,
    serving: Option<String>,
    outside_eu_at_most_s: Option<f64>,
    not_back_before_s: Option<f64>,
    recovered_within_s: Option<f64>,
    untouched_hosts: Vec<String>,
    unsafe_replayed: Option<u32>,
    not_blamed: Vec<String>,
    spared_after_moves: Option<u32>,
    note: Option<String>,
}

impl RawExpect {
    pub(super) fn lower(self, upstreams: &[Label]) -> Result<Expect, ScenarioError> {
        let place = "expect";
        let span = |value: Option<f64>| value.map(|value| seconds(place, value)).transpose();
        let part = |value: Option<String>| value.map(|text| share(place, &text)).transpose();
        let named = [&self.ejected, &self.not_ejected, &self.not_blamed];
        for name in named.into_iter().flatten().chain(&self.serving).filter(|name| *name != "*") {
            known(place, name, upstreams)?;
        }
        if let Some(blame) = self.blame.as_deref()
            && !matches!(blame, "origin" | "common_cause")
        {
            known(place, blame, upstreams)?;
        }
        Ok(Expect {
            blame: self.blame,
            ejected: self.ejected,
            not_ejected: self.not_ejected,
            detected_within: span(self.detected_within_s)?,
            flips_at_most: self.flips_at_most,
            errors_at_most: part(self.errors_at_most)?,
            goodput_at_least: part(self.goodput_at_least)?,
            retry_amplification_at_most: self.retry_amplification_at_most,
            serving: self.serving,
            outside_eu_at_most: span(self.outside_eu_at_most_s)?,
            not_back_before: span(self.not_back_before_s)?,
            recovered_within: span(self.recovered_within_s)?,
            untouched_hosts: self.untouched_hosts,
            unsafe_replayed: self.unsafe_replayed,
            not_blamed: self.not_blamed,
            spared_after_moves: self.spared_after_moves,
            note: self.note,
        })
    }
}
