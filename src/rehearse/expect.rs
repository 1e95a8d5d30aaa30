//! Whether what a scenario expects came true, key by key.

use std::collections::BTreeSet;
use std::time::Duration;

use super::replay::Played;
use super::scenario::{Expect, Scenario};
use super::world::LEAD;
use crate::model::health::{Blame, HealthTag, IncidentEdge, Reason, Transition};
use crate::model::id::UpstreamId;
use crate::model::place::Jurisdiction;
use crate::model::topology::Topology;

/// Answers stand for normal again when none fails for this long.
const NORMAL_AFTER: Duration = Duration::from_millis(100);

/// One expectation and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The key.
    pub key: &'static str,
    /// What was asked for.
    pub wanted: String,
    /// What was found.
    pub found: String,
    /// Whether it holds.
    pub holds: bool,
}

/// Checks every key that is present.
pub fn check(scenario: &Scenario, played: &Played) -> Vec<Finding> {
    let Expect {
        blame,
        ejected,
        not_ejected,
        detected_within,
        flips_at_most,
        errors_at_most,
        goodput_at_least,
        retry_amplification_at_most,
        serving,
        outside_eu_at_most,
        not_back_before,
        recovered_within,
        untouched_hosts,
        unsafe_replayed,
        not_blamed,
        spared_after_moves,
        note: _,
    } = &scenario.expect;
    let asked = Asked { scenario, played };
    let mut findings = Vec::new();
    findings.extend(blame.as_ref().map(|whom| asked.blame(whom)));
    findings.extend((!ejected.is_empty()).then(|| asked.ejected(ejected)));
    findings.extend((!not_ejected.is_empty()).then(|| asked.not_ejected(not_ejected)));
    findings.extend(detected_within.map(|limit| asked.detected(limit)));
    findings.extend(flips_at_most.map(|limit| {
        let flips = played.tally.flips.len();
        finding("flips_at_most", limit, flips, flips <= limit as usize)
    }));
    findings.extend(errors_at_most.map(|limit| {
        let share = played.tally.lost_share();
        finding("errors_at_most", percent(limit), percent(share), share <= limit)
    }));
    findings.extend(goodput_at_least.map(|limit| {
        let share = goodput(played);
        finding("goodput_at_least", percent(limit), percent(share), share >= limit)
    }));
    findings.extend(retry_amplification_at_most.map(|limit| {
        let found = played.tally.amplification;
        finding("retry_amplification_at_most", limit, format!("{found:.3}"), found <= limit)
    }));
    findings.extend(serving.as_ref().map(|whom| asked.serving(whom)));
    findings.extend(outside_eu_at_most.map(|limit| asked.outside(limit)));
    findings.extend(not_back_before.map(|limit| asked.not_back(limit)));
    findings.extend(recovered_within.map(|limit| asked.recovered(limit)));
    findings.extend((!untouched_hosts.is_empty()).then(|| asked.untouched(untouched_hosts)));
    findings.extend(unsafe_replayed.map(|limit| {
        let found = played.tally.unsafe_replayed;
        finding("unsafe_replayed", limit, found, found <= limit)
    }));
    findings.extend((!not_blamed.is_empty()).then(|| asked.not_blamed(not_blamed)));
    findings.extend(spared_after_moves.map(|moves| asked.spared(moves)));
    findings
}

/// Share of requests answered well while the trigger lasted.
pub fn goodput(played: &Played) -> f64 {
    let (requests, well) = played.tally.during;
    well as f64 / requests.max(1) as f64
}

/// From the first faulty answer to the first ejection or incident.
pub fn detection(played: &Played) -> Option<Duration> {
    let first = played.tally.first_fault?;
    first_verdict(played).map(|(at, _)| at.saturating_sub(first))
}

/// When the first ejection or incident was, and whom it blamed.
pub fn first_verdict(played: &Played) -> Option<(Duration, String)> {
    played
        .tally
        .transitions
        .iter()
        .find_map(|(at, transition)| blamed_by(played, transition).map(|whom| (*at, whom)))
}

/// Whom an ejection or an incident blames; `None` for any other transition.
fn blamed_by(played: &Played, transition: &Transition) -> Option<String> {
    match transition {
        Transition::Health { upstream, to: HealthTag::Ejected, reason, .. } => {
            let blame = match reason {
                Reason::Trip(_, evidence) => evidence.attribution.blame,
                // Only a provider's own front door fails without traffic.
                _ => Blame::Provider,
            };
            Some(match blame {
                Blame::Provider => name(played, *upstream),
                Blame::Origin | Blame::CommonCause | Blame::Unknown => blame.as_str().to_owned(),
            })
        }
        Transition::OriginIncident { edge: IncidentEdge::Raised, .. } => {
            Some(Blame::Origin.as_str().to_owned())
        }
        Transition::CommonCause { edge: IncidentEdge::Raised, .. } => {
            Some(Blame::CommonCause.as_str().to_owned())
        }
        Transition::Slice { edge: IncidentEdge::Raised, upstream, .. } => {
            Some(name(played, *upstream))
        }
        Transition::Health { .. }
        | Transition::OriginIncident { .. }
        | Transition::Withheld { .. }
        | Transition::Failover { .. }
        | Transition::Failback { .. }
        | Transition::Mode { .. }
        | Transition::Ordered { .. }
        | Transition::GrayAlert { .. }
        | Transition::Slice { .. }
        | Transition::Provider { .. }
        | Transition::CommonCause { .. }
        | Transition::Limit { .. } => None,
    }
}

fn is_fallback_outside_eu(topology: &Topology, upstream: UpstreamId) -> bool {
    let preference = |upstream: UpstreamId| topology.upstream(upstream).preference;
    let pool = topology.pool(topology.upstream(upstream).pool);
    let first = pool.upstreams.iter().map(|id| preference(*id)).min();
    topology.provider_of(upstream).jurisdiction == Jurisdiction::NonEu
        && first != Some(preference(upstream))
}

/// The provider of an upstream.
pub fn name(played: &Played, upstream: UpstreamId) -> String {
    played.topology.provider_of(upstream).name.to_string()
}

/// An upstream as people know it: its provider, and whose it is where there are several services.
pub fn label(topology: &Topology, upstream: UpstreamId) -> String {
    let key = &topology.upstream(upstream).key;
    match topology.pools[..] {
        [_] => key.provider.to_string(),
        _ => format!("{}/{}", key.service, key.provider),
    }
}

struct Asked<'a> {
    scenario: &'a Scenario,
    played: &'a Played,
}

impl Asked<'_> {
    /// Providers, each once: several services may have left the same one.
    fn names(&self, upstreams: impl Iterator<Item = usize>) -> Vec<String> {
        let names: BTreeSet<String> =
            upstreams.map(|upstream| name(self.played, UpstreamId::new(upstream))).collect();
        names.into_iter().collect()
    }

    fn ever_ejected(&self) -> Vec<String> {
        self.names(self.played.tally.ejected.iter().copied())
    }

    fn blame(&self, whom: &str) -> Finding {
        let found = first_verdict(self.played).map(|(_, found)| found);
        let holds = found.as_deref() == Some(whom);
        finding("blame", whom, found.unwrap_or_else(|| "nobody".to_owned()), holds)
    }

    fn ejected(&self, wanted: &[String]) -> Finding {
        let found = self.ever_ejected();
        let is_in = |name: &String| found.contains(name) || (name == "*" && !found.is_empty());
        let holds = wanted.iter().all(is_in);
        finding("ejected", list(wanted), list(&found), holds)
    }

    fn not_ejected(&self, spared: &[String]) -> Finding {
        let found = self.ever_ejected();
        let is_in = |name: &String| found.contains(name) || (name == "*" && !found.is_empty());
        let holds = !spared.iter().any(is_in);
        finding("not_ejected", list(spared), format!("{} ejected", list(&found)), holds)
    }

    fn detected(&self, limit: Duration) -> Finding {
        let found = detection(self.played);
        let said = found.map_or_else(|| "never".to_owned(), |found| format!("{found:.3?}"));
        let holds = found.is_some_and(|found| found <= limit);
        finding("detected_within_s", format!("{limit:?}"), said, holds)
    }

    fn serving(&self, whom: &str) -> Finding {
        let counts = self.played.tally.served_in_the_middle.iter().enumerate();
        let most = counts.max_by_key(|(_, count)| **count).filter(|(_, count)| **count > 0);
        let found = most.map(|(upstream, _)| name(self.played, UpstreamId::new(upstream)));
        let holds = found.as_deref() == Some(whom);
        finding("serving", whom, found.unwrap_or_else(|| "nobody".to_owned()), holds)
    }

    /// By who is first; who only ramps beside it does not count.
    fn outside(&self, limit: Duration) -> Finding {
        let flips = &self.played.tally.flips;
        let mut found = Duration::ZERO;
        for (place, (began, _, whom)) in flips.iter().enumerate() {
            if is_fallback_outside_eu(&self.played.topology, UpstreamId::new(*whom)) {
                let left = flips[place + 1..].iter().find(|(_, from, _)| from == whom);
                let ended = left.map_or(self.played.length, |(at, ..)| *at);
                found += ended.saturating_sub(*began);
            }
        }
        finding(
            "outside_eu_at_most_s",
            format!("{limit:?}"),
            format!("{found:.1?}"),
            found <= limit,
        )
    }

    fn not_back(&self, limit: Duration) -> Finding {
        let is_back = |(_, transition): &&(Duration, Transition)| {
            matches!(transition, Transition::Failback { .. })
        };
        let back = self.played.tally.transitions.iter().find(is_back);
        let found = back.map(|(at, _)| at.saturating_sub(LEAD));
        let said = found.map_or_else(|| "never".to_owned(), |found| format!("{found:.1?}"));
        let holds = found.is_none_or(|found| found >= limit);
        finding("not_back_before_s", format!("{limit:?}"), said, holds)
    }

    fn recovered(&self, limit: Duration) -> Finding {
        let ended = LEAD + self.scenario.last_change();
        let last_bad = self.played.tally.last_bad.unwrap_or_default();
        let found = last_bad.saturating_sub(ended) + NORMAL_AFTER;
        let said = format!("{found:.1?}");
        finding("recovered_within_s", format!("{limit:?}"), said, found <= limit)
    }

    fn untouched(&self, hosts: &[String]) -> Finding {
        let moved: Vec<String> = self.played.tally.hosts.moved().map(str::to_owned).collect();
        let holds = !hosts.iter().any(|host| moved.contains(host));
        finding("untouched_hosts", list(hosts), format!("{} moved", list(&moved)), holds)
    }

    /// Requests lost that began after so many services had moved.
    fn spared(&self, moves: u32) -> Finding {
        let tally = &self.played.tally;
        let flips = tally.flips.len();
        let lost: u64 = tally.lost_after_flips.iter().skip(moves as usize).sum();
        let said = format!("{flips} moves, {lost} requests lost after the first {moves}");
        finding("spared_after_moves", moves, said, flips >= moves as usize && lost == 0)
    }

    fn not_blamed(&self, spared: &[String]) -> Finding {
        let transitions = self.played.tally.transitions.iter();
        let blamed: Vec<String> =
            transitions.filter_map(|(_, t)| blamed_by(self.played, t)).collect();
        let holds = !spared.iter().any(|name| blamed.contains(name));
        finding("not_blamed", list(spared), list(&blamed), holds)
    }
}

fn finding(key: &'static str, wanted: impl ToString, found: impl ToString, holds: bool) -> Finding {
    Finding { key, wanted: wanted.to_string(), found: found.to_string(), holds }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}

/// A share as per cent, with as many digits as a small one needs.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 || percent >= 1.0 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.4} %")
    }
}
