//! Whose fault is it: the provider's, so that leaving helps, or the origin's, so that it helps
//! nobody?
//!
//! In: the [`Case`] of one suspect upstream, and those around it. Out: an
//! [`Attribution`]: log-odds of provider against origin, and the conclusion.
//!
//! | evidence | adds |
//! |---|---|
//! | each sibling, by what it did with the same requests and its own (below) | −3.9 to +9 |
//! | at least half of what goes wrong is a 5xx with the origin marker | −4.6 |
//! | a 5xx or a 200 lacks an armed marker | +2.3 each, at most +4.6 |
//! | the same where its provider is known to replace the origin's page | 0 |
//! | a 5xx is the provider's own by its own word | +1.5 each, at most +3 |
//! | a third of the failures are at the front door (connect, TLS) of an edge | +4.6 |
//! | nearly all of them are | siblings that fail too say nothing |
//! | the same of `kind: origin`, or the origin probe failed | −2.3 |
//! | `kind: source`: no origin stands behind it | +4.6, and siblings that fail too say nothing |
//! | the origin probe passed | +2.3 |
//! | all siblings (at least two independent ones) fail too | −4.6 |
//! | 504, 521 to 526, 530, or what the provider uses for it: the leg between edge and origin | 0 |
//!
//! A sibling's attempts are compared ([`super::case`]) where they can be: pairs (the same request
//! tried at both), probes of both, and the sibling's own traffic since then. A standby's own attempts
//! are second tries of requests that had failed before, a selection of the worst, and are not compared
//! with its siblings' everyday traffic.
//!
//! One sibling that clearly succeeds refutes the origin's fault, whatever the others do: leaving for
//! it helps. A sibling that shares a substrate with the suspect may fail with it and says nothing by
//! failing; siblings that share one with each other count once. Nor does the origin close an edge's
//! front door, however many of them are closed at once: else two dead edges would acquit each other,
//! and a pool of which nothing is left would never be known for one.
//!
//! Not here: what follows ([`super::pool`]).

use std::time::{Duration, Instant};

use super::case::{Case, MOST_FOR, Member};
use super::share::{Share, Traffic};
use crate::model::health::{Attribution, Blame};
use crate::model::id::UpstreamId;
use crate::model::outcome::FailureKind;
use crate::model::topology::{ProviderKind, Topology};

/// Log-odds at which a cascade or a brownout is the provider's: twenty to one. By Wald's test an
/// overloaded origin that fails in random requests is then taken for the provider in one case of
/// twenty at most.
pub const PROVIDER: f64 = 3.0;
/// Log-odds that a gray failure takes, and anything at all while the origin is to blame.
pub const PROVIDER_STRONG: f64 = 4.6;
/// Log-odds at which it is the origin's, given independent evidence enough.
pub const ORIGIN: f64 = -4.6;
/// An origin incident lasts until the log-odds are above this: half of what raised it.
pub const ORIGIN_STILL: f64 = -2.3;

/// Answers of siblings and of probes within this after the first failure may have been on their way
/// before it, and are not compared. Pairs are: their second half begins after the first failed.
pub const SETTLING: Duration = Duration::from_millis(250);
/// Above this a sibling clearly succeeds.
const CLEARLY_FOR: f64 = 2.3;
/// Below this a sibling clearly fails.
const CLEARLY_AGAINST: f64 = -2.0;
/// The front door is all there is to see from this share of the failures on.
const DOOR_ALONE: f64 = 0.9;
/// Fewer marked 5xx than this say nothing.
const LEAST_MARKS: f64 = 3.0;

/// Who is in doubt, and since when.
#[derive(Clone, Copy, Debug)]
pub struct Doubt<'a> {
    /// Place in the pool.
    pub place: usize,
    /// What was seen of it.
    pub case: &'a Case,
    /// The share of its attempts that fails.
    pub failing: Share,
    /// Whether its attempts are a fair sample of the service's requests.
    pub sample: Sampling,
    /// When it began to fail.
    pub since: Instant,
    /// Whether a probe failed at its front door, where no traffic could.
    pub probe_kind: Option<FailureKind>,
}

/// What an upstream's attempts are a sample of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sampling {
    /// Of the service's requests: its failures may be compared with what siblings do with theirs.
    Fair,
    /// Of requests that had failed elsewhere already: a standby gets nothing but retries.
    Retries,
}

/// Those around it.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Who shares what.
    pub topology: &'a Topology,
    /// The pool, in its order; the doubted one included.
    pub members: &'a [Member],
    /// The last probe of the origin itself, and whether it passed.
    pub origin_probe: Option<(Instant, bool)>,
    /// When.
    pub now: Instant,
}

/// Weighs everything.
pub fn attribute(doubt: &Doubt, around: &Surroundings) -> Attribution {
    let suspect = around.members[doubt.place].upstream;
    let kind = around.topology.provider_of(suspect).kind;
    let door = front_door(doubt);
    let weighed = Siblings::weigh(doubt, around);
    let siblings = match (kind, door) {
        // One that answers by itself shares nothing with the others by which they could acquit it.
        (ProviderKind::Source, _) | (ProviderKind::Edge, Door::Shut) => {
            weighed.without_the_failing()
        }
        (ProviderKind::Edge, Door::Ajar | Door::Open) | (ProviderKind::Origin, _) => weighed,
    };
    let case = doubt.case;
    let origin_probe = around
        .origin_probe
        .filter(|(at, _)| *at >= doubt.since + SETTLING)
        .map(|(_, passed)| passed);
    let marker_spoke = marker_spoke(case);

    let mut log_odds = siblings.log_odds;
    log_odds += if marker_spoke { ORIGIN } else { 0.0 };
    log_odds += (2.3 * case.marker_missing).min(4.6);
    log_odds += (1.5 * case.owned).min(3.0);
    log_odds += beyond_siblings(kind, door, origin_probe);

    let proven = siblings.failing >= 2
        || marker_spoke
        || (siblings.failing == 1 && origin_probe == Some(false));
    let blame = if log_odds <= ORIGIN && proven {
        Blame::Origin
    } else if log_odds >= PROVIDER {
        Blame::Provider
    } else {
        Blame::Unknown
    };
    let pairs = case.pairs();
    let count = |pairs: u64| u32::try_from(pairs).unwrap_or(u32::MAX);
    let (pairs_for, pairs_against) =
        (count(pairs.attempts - pairs.failures), count(pairs.failures));
    Attribution { blame, log_odds, pairs_for, pairs_against }
}

fn marker_spoke(case: &Case) -> bool {
    case.marked >= LEAST_MARKS && case.marked >= case.failures
}

/// How much of what goes wrong does so at the front door.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Door {
    /// Less than a third.
    Open,
    /// A third at least.
    Ajar,
    /// Nearly all.
    Shut,
}

fn front_door(doubt: &Doubt) -> Door {
    let Case { failures, front_door, .. } = *doubt.case;
    if doubt.probe_kind.is_some_and(FailureKind::is_front_door) {
        Door::Shut
    } else if failures <= 0.0 || front_door * 3.0 < failures {
        Door::Open
    } else if front_door < failures * DOOR_ALONE {
        Door::Ajar
    } else {
        Door::Shut
    }
}

/// The front door and the origin's own probe.
fn beyond_siblings(kind: ProviderKind, door: Door, origin_probe: Option<bool>) -> f64 {
    let (edge_door, origin_door) = match (kind, door) {
        (ProviderKind::Source, _) | (_, Door::Open) => (false, false),
        (ProviderKind::Edge, Door::Ajar | Door::Shut) => (true, false),
        (ProviderKind::Origin, Door::Ajar | Door::Shut) => (false, true),
    };
    if kind == ProviderKind::Source {
        return PROVIDER_STRONG;
    }
    let mut log_odds = 0.0;
    if edge_door {
        log_odds += 4.6;
    }
    if origin_door || origin_probe == Some(false) {
        log_odds -= 2.3;
    } else if origin_probe == Some(true) {
        log_odds += 2.3;
    }
    log_odds
}

/// What all siblings together say.
struct Siblings {
    log_odds: f64,
    /// The part of it that speaks for the provider's fault.
    pro: f64,
    /// Independent ones that clearly fail too.
    failing: usize,
}

impl Siblings {
    fn weigh(doubt: &Doubt, around: &Surroundings) -> Self {
        let suspect = around.members[doubt.place].upstream;
        let mut pro = 0.0;
        let mut contra = 0.0;
        let mut best: f64 = 0.0;
        let mut failing: Vec<UpstreamId> = Vec::new();
        let mut all_fail = true;
        for (place, member) in around.members.iter().enumerate() {
            if place == doubt.place {
                continue;
            }
            let log_odds = compared(doubt, around, place);
            all_fail &= log_odds <= CLEARLY_AGAINST;
            if log_odds >= 0.0 {
                pro += log_odds;
                best = best.max(log_odds);
                continue;
            }
            let fate = |other: UpstreamId| around.topology.share_fate(member.upstream, other);
            if fate(suspect) || failing.iter().any(|other| fate(*other)) {
                continue;
            }
            contra += log_odds;
            if log_odds <= CLEARLY_AGAINST {
                failing.push(member.upstream);
            }
        }
        let failing = failing.len();
        if all_fail && failing >= 2 {
            contra += ORIGIN;
        }
        let (pro, contra) = (f64::min(pro, MOST_FOR), f64::max(contra, ORIGIN - MOST_FOR));
        if best >= CLEARLY_FOR {
            Self { log_odds: pro, pro, failing: 0 }
        } else {
            Self { log_odds: pro + contra, pro, failing }
        }
    }

    /// As if those that fail too had not been asked.
    fn without_the_failing(self) -> Self {
        Self { log_odds: self.pro, failing: 0, ..self }
    }
}

/// Log-odds by the sibling at `place`.
fn compared(doubt: &Doubt, around: &Surroundings, place: usize) -> f64 {
    let settled = around.now >= doubt.since + SETTLING;
    let own = match doubt.sample {
        Sampling::Fair if settled => doubt.case.own_traffic(place, around.members[place].traffic),
        Sampling::Fair | Sampling::Retries => Traffic::default(),
    };
    doubt.case.log_odds(place, doubt.failing, own)
}

#[cfg(test)]
mod tests;
