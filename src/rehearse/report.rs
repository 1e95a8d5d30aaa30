//! What a replay found, for people and for programs.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::expect::{self, Finding};
use super::page::picture::Picture;
use super::replay::Played;
use super::scenario::{Change, Family, Fault, Match, Mode, Scenario, Subject};
use super::world::LEAD;
use crate::model::health::{HealthTag, IncidentEdge, Reason, Transition, TripRule};
use crate::model::id::UpstreamId;
use crate::model::place::Jurisdiction;
use crate::model::topology::Topology;

/// Lines of a timeline that are shown in text; the rest is in the JSON.
const SHOWN: usize = 40;

/// One replayed outage.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which.
    pub scenario: String,
    /// What is special about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// Where its times come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_utc: Option<String>,
    /// Which of its figures are facts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
    /// What its author remarked about what is expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Virtual time, in seconds; an hour before and an hour after the outage included.
    pub length_s: f64,
    /// Client requests.
    pub requests: u64,
    /// Failed although a healthy permitted upstream could have served them.
    pub errors: u64,
    /// Of them, with a safe method.
    pub errors_safe: u64,
    /// What would have failed with the first upstream alone.
    pub errors_without_failover: u64,
    /// Failed for everybody, the origin's everyday errors included.
    pub errors_of_the_origin: u64,
    /// Attempts beyond the first of a request.
    pub retries: u64,
    /// From the first faulty answer to the first ejection or incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detected_after_s: Option<f64>,
    /// Changes of the first candidate.
    pub flips: usize,
    /// Share of requests answered through providers outside the EU.
    pub share_outside_eu: f64,
    /// Faults and what followed, in order.
    pub timeline: Vec<Line>,
    /// What was expected.
    pub expect: Vec<Check>,
    /// Whether all of it holds.
    pub holds: bool,
    /// What a drawing shows.
    #[serde(skip)]
    pub picture: Picture,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Since the beginning of the outage.
    pub t_s: f64,
    /// The outage's doing, or ours.
    pub by: By,
    /// In words.
    pub text: String,
}

/// Whose doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The outage's.
    Outage,
    /// Ours.
    Bascule,
}

/// One expectation.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Which.
    pub key: &'static str,
    /// What was asked for.
    pub wanted: String,
    /// What was found.
    pub found: String,
    /// Whether it holds.
    pub holds: bool,
}

impl Report {
    /// Of one outage played.
    pub fn new(scenario: &Scenario, played: &Played) -> Self {
        let tally = &played.tally;
        let check = |Finding { key, wanted, found, holds }| Check { key, wanted, found, holds };
        let findings: Vec<Check> = expect::check(scenario, played).into_iter().map(check).collect();
        let outside = (0..tally.served_by.len())
            .filter(|upstream| {
                let provider = played.topology.provider_of(UpstreamId::new(*upstream));
                provider.jurisdiction == Jurisdiction::NonEu
            })
            .map(|upstream| tally.served_by[upstream])
            .sum::<u64>();
        Self {
            scenario: scenario.name.clone(),
            about: scenario.about.clone(),
            source: scenario.source.clone(),
            start_utc: scenario.start_utc.clone(),
            basis: scenario.basis.clone(),
            note: scenario.expect.note.clone(),
            length_s: played.length.as_secs_f64(),
            requests: tally.requests,
            errors: tally.lost,
            errors_safe: tally.lost_safe,
            errors_without_failover: tally.lost_without.round() as u64,
            errors_of_the_origin: tally.hopeless,
            retries: tally.attempts - tally.requests,
            detected_after_s: expect::detection(played).map(|found| found.as_secs_f64()),
            flips: tally.flips.len(),
            share_outside_eu: outside as f64 / tally.requests.max(1) as f64,
            timeline: timeline(scenario, played),
            holds: findings.iter().all(|check| check.holds),
            expect: findings,
            picture: Picture::new(scenario, played),
        }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).expect("a String takes everything");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Self { scenario, requests, errors, flips, .. } = self;
        writeln!(out, "{scenario}")?;
        for line in [&self.about, &self.note, &self.source].into_iter().flatten() {
            writeln!(out, "  {line}")?;
        }
        if let Some(start) = &self.start_utc {
            writeln!(out, "  began {start} UTC")?;
        }
        for line in self.timeline.iter().take(SHOWN) {
            let by = if line.by == By::Outage { '×' } else { ' ' };
            writeln!(out, "  {:>13} {by} {}", clock(line.t_s), line.text)?;
        }
        if let Some(more) = self.timeline.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            writeln!(out, "                  … and {more} more, see --format json")?;
        }
        let all = *requests as f64;
        let share = |part: u64| expect::percent(part as f64 / all.max(1.0));
        let without = self.errors_without_failover;
        let detected = self.detected_after_s.map_or("nothing".to_owned(), |s| format!("{s:.2} s"));
        writeln!(
            out,
            "  requests          {requests} in {} of virtual time",
            clock(self.length_s)
        )?;
        writeln!(
            out,
            "  errors            {errors} ({}), {} of them safe",
            share(*errors),
            self.errors_safe
        )?;
        writeln!(
            out,
            "    without bascule {without} ({}), all through the first provider",
            share(without)
        )?;
        writeln!(out, "    of the origin   {}", self.errors_of_the_origin)?;
        writeln!(out, "  retries           {}", self.retries)?;
        writeln!(out, "  detected after    {detected}")?;
        writeln!(out, "  flips             {flips}")?;
        writeln!(
            out,
            "  outside the EU    {} of the requests",
            expect::percent(self.share_outside_eu)
        )?;
        for check in &self.expect {
            let Check { key, wanted, found, holds } = check;
            let mark = if *holds { "holds" } else { "DOES NOT HOLD" };
            writeln!(out, "  expect {key}: {wanted}, found {found}: {mark}")?;
        }
        Ok(())
    }
}

fn timeline(scenario: &Scenario, played: &Played) -> Vec<Line> {
    let faults = scenario.timeline.iter().map(|change| Line {
        t_s: change.at.as_secs_f64(),
        by: By::Outage,
        text: fault_text(scenario, change),
    });
    let moves = played.tally.transitions.iter().filter_map(|(at, transition)| {
        Some(Line {
            t_s: at.as_secs_f64() - LEAD.as_secs_f64(),
            by: By::Bascule,
            text: transition_text(&played.topology, transition)?,
        })
    });
    let mut lines: Vec<Line> = faults.chain(moves).collect();
    // Stable: at one time, the cause stays before what followed.
    lines.sort_by(|a, b| a.t_s.total_cmp(&b.t_s));
    lines
}

fn fault_text(scenario: &Scenario, change: &Change) -> String {
    let whose = match change.subject {
        Subject::Provider(place) => scenario.upstreams[place].as_str(),
        Subject::Origin => "the origin",
        Subject::Resolver => "our resolver",
        Subject::Uplink => "our network",
    };
    let Some(fault) = &change.fault else {
        return format!("{whose}: well again ({})", change.id);
    };
    let Fault { ramp, wave, .. } = fault;
    let what = fault_words(&fault.mode, fault.fraction);
    let ramp = if ramp.is_zero() { String::new() } else { format!(", over {ramp:?}") };
    let wave = wave.map_or_else(String::new, |wave| {
        format!(", {:?} on and {:?} off by turns", wave.on, wave.off)
    });
    let headers = fault.headers.iter().map(|(name, value)| format!(", {name}: {value}"));
    let headers: String = headers.collect();
    format!("{whose}: {what}{headers}{}{ramp}{wave}", match_words(&fault.only))
}

/// Which requests a fault is limited to; nothing for all of them.
pub fn match_words(only: &Match) -> String {
    let Match { methods, body_min, hosts, url_paths, url_paths_not, family } = only;
    let mut words = Vec::new();
    words.extend((!methods.is_empty()).then(|| methods.join("/")));
    words.extend((!hosts.is_empty()).then(|| hosts.join("/")));
    words.extend((!url_paths.is_empty()).then(|| url_paths.join(", ")));
    words.extend((!url_paths_not.is_empty()).then(|| format!("not {}", url_paths_not.join(", "))));
    words.extend((*body_min > 0).then(|| format!("bodies from {} KiB", body_min / 1024)));
    words.extend(family.map(|family| match family {
        Family::V4 => "IPv4".to_owned(),
        Family::V6 => "IPv6".to_owned(),
    }));
    if words.is_empty() { String::new() } else { format!(" (only {})", words.join(", ")) }
}

/// What a fault does to this fraction.
pub fn fault_words(mode: &Mode, fraction: f64) -> String {
    let share = format!("{} %", (fraction * 1000.0).round() / 10.0);
    match mode {
        Mode::Status(status) => format!("{share} answer {status}"),
        Mode::Timeout => format!("{share} find no connection"),
        Mode::Reset => format!("{share} break off"),
        Mode::Tls => format!("{share} fail in the TLS handshake"),
        Mode::Dns(how) => {
            format!("{share} of look-ups fail ({})", format!("{how:?}").to_uppercase())
        }
        Mode::Latency(more) => format!("{share} take {more:?} longer"),
        Mode::Truncate => format!("{share} of bodies end short"),
        Mode::Slowloris(_) => format!("{share} of bodies trickle"),
        Mode::WrongContent(status) => format!("{share} answer {status} with a foreign page"),
        Mode::Capacity(status, _) => format!("holds {share} of the load, the rest gets {status}"),
        Mode::ControlPlane => "its own API is down".to_owned(),
    }
}

/// What a transition says to people; `None` for what a reader of an outage does not need.
pub fn transition_text(topology: &Topology, transition: &Transition) -> Option<String> {
    let name = |upstream: &UpstreamId| expect::label(topology, *upstream);
    Some(match transition {
        Transition::Health { to: HealthTag::Suspect, .. }
        | Transition::Health { from: HealthTag::Suspect, to: HealthTag::Healthy, .. } => {
            return None;
        }
        Transition::Health { upstream, to, reason, hold, .. } => {
            let hold = hold.map_or_else(String::new, |hold| format!(", for {hold:.0?} at least"));
            let to = to.as_str().replace('_', "-");
            format!("{} {to}: {}{hold}", name(upstream), reason_text(reason))
        }
        Transition::Withheld { upstream, tier, evidence, .. } => {
            let blame = evidence.attribution.blame.as_str();
            let odds = evidence.attribution.log_odds;
            format!(
                "{} stays in spite of a {}: blame {blame} ({odds:+.1})",
                name(upstream),
                tier.as_str()
            )
        }
        Transition::Failover { from, to, detection, .. } => {
            let after = detection.map(|detection| {
                format!(", {:.2} s after the first failure", detection.as_secs_f64())
            });
            format!("failover {} → {}{}", name(from), name(to), after.unwrap_or_default())
        }
        Transition::Failback { from, to, .. } => format!("failback {} → {}", name(from), name(to)),
        Transition::Mode { from, to, .. } => format!("{} → {}", from.as_str(), to.as_str()),
        Transition::OriginIncident { edge, attribution, .. } => {
            let odds = attribution.log_odds;
            format!("origin incident {} ({odds:+.1})", edge_text(*edge))
        }
        Transition::Ordered { upstream, to, .. } => {
            format!("{}: {} by order", name(upstream), to.as_str().replace('_', " "))
        }
        Transition::GrayAlert { upstream, edge, .. } => {
            format!("{}: gray alert {}", name(upstream), edge_text(*edge))
        }
        Transition::Slice { pool, slice, edge, upstream, reason, .. } => {
            let words = slice.words(topology, *pool);
            slice_text(&words, &name(upstream), *edge, reason)
        }
        Transition::Provider { provider, edge, witnesses, .. } => {
            let name = &topology.provider(*provider).name;
            match edge {
                IncidentEdge::Raised => format!("{name} demoted: {witnesses} services tripped"),
                IncidentEdge::Ended => format!("{name} steady again"),
            }
        }
        Transition::CommonCause { edge, ground, .. } => {
            format!("common cause {} ({} fail from here)", edge_text(*edge), ground.as_str())
        }
        Transition::Limit { upstream, limit, .. } => match limit {
            Some(limit) => format!("{} limited to {limit} requests a second", name(upstream)),
            None => format!("{} holds all it is asked for", name(upstream)),
        },
    })
}

fn slice_text(words: &str, upstream: &str, edge: IncidentEdge, reason: &Reason) -> String {
    match edge {
        IncidentEdge::Raised => format!("{words} leave {upstream}: {}", reason_text(reason)),
        IncidentEdge::Ended => format!("{words} are back at {upstream}"),
    }
}

const fn edge_text(edge: IncidentEdge) -> &'static str {
    match edge {
        IncidentEdge::Raised => "raised",
        IncidentEdge::Ended => "ended",
    }
}

fn reason_text(reason: &Reason) -> String {
    match reason {
        Reason::Trip(tier, evidence) => format!(
            "{}{}, {} of {} failed ({}), {} witnesses, blame {} ({:+.1})",
            tier.as_str(),
            match evidence.rule {
                TripRule::Score => "",
                TripRule::UnbrokenRun => " by an unbroken run",
            },
            evidence.failures,
            evidence.attempts,
            evidence.commonest.as_str(),
            evidence.witnesses,
            evidence.attribution.blame.as_str(),
            evidence.attribution.log_odds,
        ),
        Reason::Probes { failed, kind } => format!("{failed} probes failed ({})", kind.as_str()),
        Reason::Relapse(kind) => format!("failed again ({})", kind.as_str()),
        Reason::ProbeVeto(kind) => format!("a probe failed ({})", kind.as_str()),
        Reason::Doubt { .. }
        | Reason::Settled
        | Reason::HoldOver
        | Reason::Proven
        | Reason::RampDone
        | Reason::Fallback
        | Reason::Recovered
        | Reason::Reload
        | Reason::Remembered
        | Reason::AllBad
        | Reason::Demoted
        | Reason::Ordered => reason.as_str().replace('_', " "),
    }
}

/// `1 d 02:03:04.50`, as short as it can be.
pub fn clock(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.abs()).as_secs();
    let sign = if seconds < 0.0 { "-" } else { "" };
    let rest = seconds.abs() - (whole / 60 * 60) as f64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    let days = if days > 0 { format!("{days} d ") } else { String::new() };
    format!("{sign}{days}{hours:02}:{minutes:02}:{rest:05.2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_as_short_as_it_can_be() {
        assert_eq!(clock(0.21), "00:00:00.21");
        assert_eq!(clock(-61.5), "-00:01:01.50");
        assert_eq!(clock(90_061.0), "1 d 01:01:01.00");
    }
}
