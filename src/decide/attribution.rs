//! Whose fault is it: the provider's, so that leaving helps, or the origin's, so that it helps
//! nobody?
//!
//! In: what was seen of one suspect upstream and of its siblings since the fault began. Out: an
//! [`Attribution`]: log-odds of provider against origin, and the conclusion.
//!
//! | evidence | adds |
//! |---|---|
//! | each sibling, by what it did with the same requests and its own (below) | −3.9 to +9 |
//! | at least half of what goes wrong is a 5xx with the origin marker | −4.6 |
//! | a 5xx or a 200 lacks an armed marker | +2.3 each, at most +4.6 |
//! | a third of the failures are at the front door (connect, TLS) of an edge | +4.6 |
//! | the same of `kind: origin`, or the origin probe failed | −2.3 |
//! | the origin probe passed | +2.3 |
//! | all siblings (at least two independent ones) fail too | −4.6 |
//! | 504, 521 to 526, 530: the leg between edge and origin | 0 |
//!
//! **Siblings.** Every attempt at a sibling that can be compared is weighed by how likely it is
//! under either story. If the origin is at fault with a share `p` of failures seen here, the sibling
//! fails with `p` too; if it is the provider, the sibling fails with `ε` = 2 %, or, one time in
//! fifty, is broken by itself and fails with whatever share it shows. With `p` near 1 that is +3.0
//! for a success and −3.9 per failing sibling however often it fails; with `p` = 0.3 a success is
//! worth 0.36 and a mixture of successes and failures, which an overloaded origin gives through
//! every provider, speaks against the provider, as it should. Comparable attempts are pairs (the
//! same request tried at both), probes of both since the fault began, and the sibling's own traffic
//! since then.
//!
//! The share `p` is only known within its confidence interval; each attempt is weighed with the end
//! that speaks for the origin's fault. A standby's own attempts are second tries of requests that had
//! failed before, a selection of the worst, and are not compared with its siblings' everyday traffic.
//!
//! One sibling that clearly succeeds refutes the origin's fault, whatever the others do: leaving for
//! it helps. A sibling that shares a substrate with the suspect may fail with it and says nothing by
//! failing; siblings that share one with each other count once.
//!
//! Pairs and marks count for half after 30 s. Not here: what follows ([`super::pool`]).

use std::time::{Duration, Instant};

use super::share::{Share, Traffic};
use crate::model::health::{Attribution, Blame};
use crate::model::id::UpstreamId;
use crate::model::outcome::{FailureKind, Marker};
use crate::model::signal::PairEnd;
use crate::model::topology::{ProviderKind, Topology};

/// Log-odds at which a cascade or a brownout is the provider's: twenty to one. By Wald's test an
/// overloaded origin that fails in random requests is then taken for the provider in one case of
/// twenty at most.
pub const PROVIDER: f64 = 3.0;
/// Log-odds at which a gray failure is the provider's.
pub const PROVIDER_GRAY: f64 = 4.6;
/// Log-odds at which it is the origin's, given independent evidence enough.
pub const ORIGIN: f64 = -4.6;
/// An origin incident lasts until the log-odds are above this: half of what raised it.
pub const ORIGIN_STILL: f64 = -2.3;

/// Evidence counts for half after this.
const HALF_LIFE: Duration = Duration::from_secs(30);
/// Answers of siblings and of probes within this after the first failure may have been on their way
/// before it, and are not compared. Pairs are: their second half begins after the first failed.
pub const SETTLING: Duration = Duration::from_millis(250);
/// Failing share of a sibling that is well: what the cascade's score takes for rest.
const FINE: f64 = 0.005;
/// How often a sibling is broken by itself while we doubt another.
const BROKEN: f64 = 0.02;
/// A single sibling speaks against the provider no louder than this: `ln BROKEN`.
const MOST_AGAINST: f64 = -3.9;
/// And for it no louder than this.
const MOST_FOR: f64 = 9.0;
/// Above this a sibling clearly succeeds.
const CLEARLY_FOR: f64 = 2.3;
/// Below this a sibling clearly fails.
const CLEARLY_AGAINST: f64 = -2.0;
/// Fewer marked 5xx than this say nothing.
const LEAST_MARKS: f64 = 3.0;

/// What was seen of one upstream since it began to fail.
#[derive(Clone, Debug)]
pub struct Case {
    siblings: Vec<Comparison>,
    as_of: Instant,
    failures: f64,
    front_door: f64,
    marker_missing: f64,
    marked: f64,
}

/// One sibling's attempts, by how likely each was under either story.
#[derive(Clone, Copy, Debug, Default)]
struct Comparison {
    /// Log-likelihood if the sibling is fine.
    fine: f64,
    /// Log-likelihood if the origin is at fault.
    origin: f64,
    successes: f64,
    failures: f64,
    /// Pairs, not fading.
    pairs: [u32; 2],
    /// The sibling's own attempts and failures when the case was opened.
    before: Traffic,
}

/// What is known of one member of the pool, to be compared with.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Who.
    pub upstream: UpstreamId,
    /// What it did since the process began.
    pub traffic: Traffic,
}

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

impl Case {
    /// Opens a case: from now on what `members` do is compared.
    pub fn open(members: &[Member], now: Instant) -> Self {
        let mut case = Self {
            siblings: Vec::new(),
            as_of: now,
            failures: 0.0,
            front_door: 0.0,
            marker_missing: 0.0,
            marked: 0.0,
        };
        case.reopen(members, now);
        case
    }

    /// Forgets everything and begins anew.
    pub fn reopen(&mut self, members: &[Member], now: Instant) {
        self.as_of = now;
        [self.failures, self.front_door, self.marker_missing, self.marked] = [0.0; 4];
        self.siblings.clear();
        let fresh = |m: &Member| Comparison { before: m.traffic, ..Comparison::default() };
        self.siblings.extend(members.iter().map(fresh));
    }

    /// Begins to compare the siblings' own traffic only now: what they answer while the fault
    /// begins may have been on its way before.
    pub fn compare_from(&mut self, members: &[Member]) {
        for (sibling, member) in self.siblings.iter_mut().zip(members) {
            sibling.before = member.traffic;
        }
    }

    /// Lets evidence fade up to `now`.
    pub fn fade(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.as_of).as_secs_f64();
        let left = 0.5_f64.powf(age / HALF_LIFE.as_secs_f64());
        self.as_of = self.as_of.max(now);
        for tally in
            [&mut self.failures, &mut self.front_door, &mut self.marker_missing, &mut self.marked]
        {
            *tally *= left;
        }
        for sibling in &mut self.siblings {
            sibling.fine *= left;
            sibling.origin *= left;
            sibling.successes *= left;
            sibling.failures *= left;
        }
    }

    /// One failure, with what its answer said of the marker.
    pub fn failed(&mut self, kind: FailureKind, marker: Marker, armed: Armed) {
        self.failures += 1.0;
        self.front_door += f64::from(u8::from(kind.is_front_door()));
        let origin_silent = matches!(kind, FailureKind::ServerError | FailureKind::MarkerMissing);
        if origin_silent && marker == Marker::Absent && armed == Armed::Yes {
            self.marker_missing += 1.0;
        }
    }

    /// So many 5xx with the marker.
    pub fn marked(&mut self, times: u32) {
        self.marked += f64::from(times);
    }

    /// One request that failed here and was tried at the sibling at `place`, while this share of the
    /// attempts here failed.
    pub fn compare(&mut self, place: usize, went: PairEnd, failing: Share) {
        let Some(sibling) = self.siblings.get_mut(place) else { return };
        // A request that failed once may be one that always fails: an origin at fault explains its
        // second failure wholly, whatever share of all requests fails.
        let failing = Share { most: 1.0, ..failing };
        match went {
            PairEnd::Succeeded => {
                sibling.add(1.0, 0.0, failing);
                sibling.pairs[0] = sibling.pairs[0].saturating_add(1);
            }
            PairEnd::FailedToo => {
                sibling.add(0.0, 1.0, failing);
                sibling.pairs[1] = sibling.pairs[1].saturating_add(1);
            }
        }
    }

    /// A probe that failed here, and how the sibling at `place` took its own shortly before: the
    /// same page asked for at both.
    pub fn compare_probe(&mut self, place: usize, went: PairEnd) {
        let Some(sibling) = self.siblings.get_mut(place) else { return };
        match went {
            PairEnd::Succeeded => sibling.add(1.0, 0.0, Share::DEAD),
            PairEnd::FailedToo => sibling.add(0.0, 1.0, Share::DEAD),
        }
    }
}

/// Whether the absence of the origin marker means something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Armed {
    /// It does.
    Yes,
    /// It does not, or not yet.
    No,
}

impl Comparison {
    fn add(&mut self, successes: f64, failures: f64, failing: Share) {
        self.successes += successes;
        self.failures += failures;
        self.fine += successes * (1.0 - FINE).ln() + failures * FINE.ln();
        // Each taken at the end of the interval that speaks for the origin's fault.
        self.origin += successes * (1.0 - failing.least).ln() + failures * failing.most.ln();
    }

    /// Log-odds of provider against origin.
    fn log_odds(&self) -> f64 {
        let (good, bad) = (self.successes, self.failures);
        let share = (bad + 0.5) / (good + bad + 1.0);
        let broken = good * (1.0 - share).ln() + bad * share.ln();
        let fine = (1.0 - BROKEN).ln() + self.fine;
        let broken = BROKEN.ln() + broken;
        let larger = fine.max(broken);
        let provider = larger + ((fine - larger).exp() + (broken - larger).exp()).ln();
        (provider - self.origin).clamp(MOST_AGAINST, MOST_FOR)
    }
}

/// Weighs everything.
pub fn attribute(doubt: &Doubt, around: &Surroundings) -> Attribution {
    let siblings = Siblings::weigh(doubt, around);
    let case = doubt.case;
    let origin_probe = around
        .origin_probe
        .filter(|(at, _)| *at >= doubt.since + SETTLING)
        .map(|(_, passed)| passed);
    let marker_spoke = marker_spoke(case);

    let mut log_odds = siblings.log_odds;
    log_odds += if marker_spoke { ORIGIN } else { 0.0 };
    log_odds += (2.3 * case.marker_missing).min(4.6);
    log_odds += beyond_siblings(doubt, around, origin_probe);

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
    let pairs = |end: usize| case.siblings.iter().map(|sibling| sibling.pairs[end]).sum();
    Attribution { blame, log_odds, pairs_for: pairs(0), pairs_against: pairs(1) }
}

fn marker_spoke(case: &Case) -> bool {
    case.marked >= LEAST_MARKS && case.marked >= case.failures
}

/// The front door and the origin's own probe.
fn beyond_siblings(doubt: &Doubt, around: &Surroundings, origin_probe: Option<bool>) -> f64 {
    let case = doubt.case;
    let mostly = case.failures > 0.0 && case.front_door * 3.0 >= case.failures;
    let at_front_door = mostly || doubt.probe_kind.is_some_and(FailureKind::is_front_door);
    let suspect = around.members[doubt.place].upstream;
    let (edge_door, origin_door) = match around.topology.provider_of(suspect).kind {
        ProviderKind::Edge => (at_front_door, false),
        ProviderKind::Origin => (false, at_front_door),
    };
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
            let log_odds = compared(doubt, around, place).log_odds();
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
            Self { log_odds: pro, failing: 0 }
        } else {
            Self { log_odds: pro + contra, failing }
        }
    }
}

/// What the case has of the sibling, and the sibling's own traffic since the fault began.
fn compared(doubt: &Doubt, around: &Surroundings, place: usize) -> Comparison {
    let member = &around.members[place];
    let mut sibling = doubt.case.siblings.get(place).copied().unwrap_or_default();
    if doubt.sample == Sampling::Fair && around.now >= doubt.since + SETTLING {
        let [pairs_good, pairs_bad] = sibling.pairs.map(u64::from);
        let Traffic { attempts, failures } = member.traffic.since(sibling.before);
        // Pairs are part of the sibling's traffic and already in.
        let bad = failures.saturating_sub(pairs_bad);
        let good = attempts.saturating_sub(failures).saturating_sub(pairs_good);
        sibling.add(good as f64, bad as f64, doubt.failing);
    }
    sibling
}
