//! The same outage through other rules: what nobody's failover loses, what a fixed ejection after a
//! few failures in a row loses, what bascule loses; and what its sensitivities change.

use std::fmt::{self, Write};

use serde::Serialize;

use super::expect;
use super::replay::{self, Played, Rule, Setup};
use super::scenario::Scenario;
use crate::model::topology::Sensitivity;

/// One outage, through everybody's rules.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Which outage.
    pub scenario: String,
    /// Client requests; the others saw as many, but for luck.
    pub requests: u64,
    /// Requests lost if all go through the first provider, whatever happens: what is to be expected.
    pub lost_without_failover: u64,
    /// Left for 30 s after five failures in a row.
    pub outlier_ejection: Side,
    /// At the sensitivity of the setup.
    pub bascule: Side,
    /// At each sensitivity.
    pub sensitivities: [Tuned; 3],
}

/// What one rule came to.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Side {
    /// Requests failed although a healthy permitted upstream could have served them.
    pub lost: u64,
    /// Changes of the first candidate.
    pub flips: usize,
}

/// What one sensitivity came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tuned {
    /// Its name.
    pub sensitivity: &'static str,
    /// From the first faulty answer to the first ejection or incident.
    pub detected_after_s: Option<f64>,
    /// Requests lost.
    pub lost: u64,
    /// Changes of the first candidate.
    pub flips: usize,
    /// Expectations that do not hold.
    pub broken: Vec<&'static str>,
}

/// Every sensitivity, the least eager first.
pub const SENSITIVITIES: [(&str, Sensitivity); 3] = [
    ("cautious", Sensitivity::Cautious),
    ("balanced", Sensitivity::Balanced),
    ("fast", Sensitivity::Fast),
];

impl Side {
    fn of(played: &Played) -> Self {
        Self { lost: played.tally.lost, flips: played.tally.flips.len() }
    }
}

impl Tuned {
    fn of(sensitivity: &'static str, scenario: &Scenario, played: &Played) -> Self {
        let broken = expect::check(scenario, played).into_iter().filter(|found| !found.holds);
        Self {
            sensitivity,
            detected_after_s: expect::detection(played).map(|found| found.as_secs_f64()),
            lost: played.tally.lost,
            flips: played.tally.flips.len(),
            broken: broken.map(|finding| finding.key).collect(),
        }
    }

    fn cells(&self) -> String {
        let detected = self.detected_after_s.map_or("–".to_owned(), |s| format!("{s:.2} s"));
        let holds = if self.broken.is_empty() { "yes".to_owned() } else { self.broken.join(", ") };
        format!("{detected} | {} | {} | {holds}", self.lost, self.flips)
    }
}

impl Comparison {
    /// Plays one outage through every rule.
    pub fn of(scenario: &Scenario, setup: &Setup, seed: u64) -> Self {
        let bascule = replay::play(scenario, setup, seed);
        let peer = replay::play(scenario, &setup.with_peer(Rule::OUTLIER), seed);
        let tuned = |(name, sensitivity)| {
            let setup = setup.clone().with_sensitivity(sensitivity);
            Tuned::of(name, scenario, &replay::play(scenario, &setup, seed))
        };
        Self {
            scenario: scenario.name.clone(),
            requests: bascule.tally.requests,
            lost_without_failover: bascule.tally.lost_without.round() as u64,
            outlier_ejection: Side::of(&peer),
            bascule: Side::of(&bascule),
            sensitivities: SENSITIVITIES.map(tuned),
        }
    }

    /// Whether one sensitivity comes to something that another does not, luck aside: another
    /// expectation holds, or it is ten times as late.
    fn is_sensitive(&self) -> bool {
        let [cautious, balanced, fast] = &self.sensitivities;
        let late = |tuned: &Tuned| tuned.detected_after_s.unwrap_or(f64::MAX);
        cautious.broken != balanced.broken
            || fast.broken != balanced.broken
            || cautious.flips != fast.flips
            || late(cautious) > late(fast) * 2.0
    }
}

/// For a terminal.
pub fn text(all: &[Comparison]) -> String {
    let mut out = String::new();
    write_text(all, &mut out).expect("a String takes everything");
    out
}

fn write_text(all: &[Comparison], out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "{:<36} {:>11} {:>11} {:>11} {:>9}   {:>5} {:>5}",
        "requests lost", "of", "no failover", "5 x 5xx/30s", "bascule", "flips", "flips"
    )?;
    for one in all {
        let Comparison { scenario, requests, outlier_ejection, bascule, .. } = one;
        writeln!(
            out,
            "{scenario:<36} {requests:>11} {:>11} {:>11} {:>9}   {:>5} {:>5}",
            one.lost_without_failover,
            outlier_ejection.lost,
            bascule.lost,
            outlier_ejection.flips,
            bascule.flips
        )?;
    }
    Ok(())
}

/// For `docs/`: two tables.
pub fn markdown(all: &[Comparison]) -> String {
    let mut out = String::new();
    write_markdown(all, &mut out).expect("a String takes everything");
    out
}

fn write_markdown(all: &[Comparison], out: &mut String) -> fmt::Result {
    writeln!(out, "### Requests lost, and flips\n")?;
    writeln!(
        out,
        "| outage | requests | lost without failover | lost with 5 × 5xx / 30 s | flips | lost with bascule | flips |\n\
         |---|--:|--:|--:|--:|--:|--:|"
    )?;
    for one in all {
        let Comparison { scenario, requests, outlier_ejection, bascule, .. } = one;
        writeln!(
            out,
            "| {scenario} | {requests} | {} | {} | {} | {} | {} |",
            one.lost_without_failover,
            outlier_ejection.lost,
            outlier_ejection.flips,
            bascule.lost,
            bascule.flips
        )?;
    }
    writeln!(out, "\n### What sensitivity changes\n")?;
    writeln!(
        out,
        "| outage | sensitivity | detected after | lost | flips | expectations hold |\n\
         |---|---|--:|--:|--:|---|"
    )?;
    for one in all.iter().filter(|one| one.is_sensitive()) {
        for tuned in &one.sensitivities {
            writeln!(out, "| {} | {} | {} |", one.scenario, tuned.sensitivity, tuned.cells())?;
        }
    }
    let alike: Vec<&str> =
        all.iter().filter(|one| !one.is_sensitive()).map(|one| one.scenario.as_str()).collect();
    if !alike.is_empty() {
        writeln!(out, "\nAlike at every sensitivity: {}.", alike.join(", "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Two minutes of a dead provider.
    fn short() -> Scenario {
        let text = "name: short\nupstreams: [cloudflare, bunny]\ntimeline:\n\
                    - {t_s: 0, provider: cloudflare, mode: status, status: 500}\n\
                    - {t_s: 120, provider: cloudflare, mode: ok}\n\
                    expect: {ejected: [cloudflare]}\n";
        Scenario::read(text).expect("a scenario")
    }

    #[test]
    fn a_fixed_ejection_returns_into_the_fault_and_bascule_does_not() {
        let found = Comparison::of(&short(), &Setup::default(), 1);
        let (peer, bascule) = (found.outlier_ejection, found.bascule);
        assert!(found.lost_without_failover > 10_000, "{found:?}");
        assert!(peer.lost < 100 && peer.flips == 8, "{peer:?}");
        assert!(bascule.lost < 100 && bascule.flips == 2, "{bascule:?}");
    }

    #[test]
    fn what_is_expected_of_no_failover_is_what_it_loses() {
        let scenario = short();
        let bascule = replay::play(&scenario, &Setup::default(), 1);
        let mut setup =
            Setup::default().with_peer(Rule { failures: u32::MAX, hold: Duration::ZERO });
        setup.rules.retry.attempts = 0;
        let never = replay::play(&scenario, &setup, 1);
        let (expected, lost) = (bascule.tally.lost_without, never.tally.lost as f64);
        assert!((expected / lost - 1.0).abs() < 0.02, "{expected} {lost}");
    }
}
