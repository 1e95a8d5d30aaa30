//! What was seen of one upstream, and of its siblings beside it, since one of its scores left zero.
//!
//! In: failures, pairs, probes, and what siblings did meanwhile. Out: how each sibling compares, as
//! log-odds of provider against origin, and the tallies that [`super::attribution`] weighs.
//!
//! Each tier has a case of its own, opened anew whenever its score is back at zero: what a few
//! everyday failures proved yesterday proves nothing about the cascade of today.
//!
//! **A sibling** is weighed by how likely its attempts are under either story. If the origin is at
//! fault with a share `p` of failures seen here, the sibling fails with `p` too; if it is the
//! provider, the sibling fails with `ε`, or, one time in fifty, is broken by itself and fails with
//! whatever share it shows. With `p` near 1 that is +3.0 for a success and −3.9 per failing sibling
//! however often it fails; with `p` = 0.3 a success is worth 0.36 and a mixture of successes and
//! failures, which an overloaded origin gives through every provider, speaks against the provider,
//! as it should. `p` is only known within an interval; each attempt is weighed with the end that
//! speaks for the origin's fault.

use std::time::{Duration, Instant};

use super::share::{Share, Traffic};
use crate::model::id::UpstreamId;
use crate::model::outcome::{FailureKind, Marker};
use crate::model::signal::PairEnd;

/// Evidence counts for half after this, or after so many failures, whichever takes longer: where few
/// requests fail, the last half minute has nothing to weigh. No longer than the last one.
pub const HALF_LIFE: Duration = Duration::from_secs(30);
const HALF_LIFE_IN_FAILURES: f64 = 40.0;
const LONGEST_HALF_LIFE: Duration = Duration::from_secs(20 * 60);
/// Failing share of a sibling that is well: what the cascade's score takes for rest.
const FINE: f64 = 0.005;
/// How often a sibling is broken by itself while we doubt another.
const BROKEN: f64 = 0.02;
/// A single sibling speaks against the provider no louder than this: `ln BROKEN`.
const MOST_AGAINST: f64 = -3.9;
/// And for it no louder than this.
pub const MOST_FOR: f64 = 9.0;

/// What was seen since a score left zero. Everything but the siblings' own traffic fades.
#[derive(Clone, Debug)]
pub struct Case {
    /// All failures.
    pub failures: f64,
    /// Those at the front door.
    pub front_door: f64,
    /// Answers without the marker that should have carried it.
    pub marker_missing: f64,
    /// 5xx with the marker.
    pub marked: f64,
    /// Errors that the provider says to be its own.
    pub owned: f64,
    siblings: Vec<Sibling>,
    as_of: Instant,
    /// Since it was opened, not fading.
    opened: Instant,
    all_failures: u32,
}

/// What one sibling did with the same requests, and with its own.
#[derive(Clone, Copy, Debug, Default)]
struct Sibling {
    pairs: Tally,
    probes: Tally,
    /// Pairs again, not fading.
    paired: Traffic,
    /// The sibling's traffic, and pairs, when its own traffic began to be compared.
    before: Traffic,
    paired_before: Traffic,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    good: f64,
    bad: f64,
}

impl Tally {
    fn add(&mut self, went: PairEnd) {
        match went {
            PairEnd::Succeeded => self.good += 1.0,
            PairEnd::FailedToo => self.bad += 1.0,
        }
    }

    fn fade(&mut self, left: f64) {
        self.good *= left;
        self.bad *= left;
    }

    /// Log-likelihood if each fails with this probability; the two ends may be taken at either end
    /// of an interval.
    fn likelihood(&self, good_at: f64, bad_at: f64) -> f64 {
        let ln = |times: f64, probability: f64| {
            // 0 × ln 0 is nothing, not NaN.
            if times > 0.0 { times * probability.ln() } else { 0.0 }
        };
        ln(self.good, 1.0 - good_at) + ln(self.bad, bad_at)
    }
}

/// What is known of one member of the pool, to be compared with.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Who.
    pub upstream: UpstreamId,
    /// What it did since the process began.
    pub traffic: Traffic,
}

/// Whether the absence of the origin marker means something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Armed {
    /// It does.
    Yes,
    /// It does not, or not yet.
    No,
}

impl Case {
    /// Opens a case: from now on what `members` do is compared.
    pub fn open(members: &[Member], now: Instant) -> Self {
        let fresh = |member: &Member| Sibling { before: member.traffic, ..Sibling::default() };
        let siblings = members.iter().map(fresh).collect();
        let [failures, front_door, marker_missing, marked, owned] = [0.0; 5];
        let (as_of, opened, all_failures) = (now, now, 0);
        Self {
            failures,
            front_door,
            marker_missing,
            marked,
            owned,
            siblings,
            as_of,
            opened,
            all_failures,
        }
    }

    /// Forgets everything and begins anew.
    pub fn reopen(&mut self, members: &[Member], now: Instant) {
        [self.failures, self.front_door, self.marker_missing, self.marked, self.owned] = [0.0; 5];
        (self.as_of, self.opened, self.all_failures) = (now, now, 0);
        self.siblings.clear();
        let fresh = |member: &Member| Sibling { before: member.traffic, ..Sibling::default() };
        self.siblings.extend(members.iter().map(fresh));
    }

    /// Begins to compare the siblings' own traffic only now: what they answer while the fault
    /// begins may have been on its way before.
    pub fn compare_from(&mut self, members: &[Member]) {
        for (sibling, member) in self.siblings.iter_mut().zip(members) {
            sibling.before = member.traffic;
            sibling.paired_before = sibling.paired;
        }
    }

    /// Lets evidence fade up to `now`.
    pub fn fade(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.as_of).as_secs_f64();
        self.as_of = self.as_of.max(now);
        let left = 0.5_f64.powf(age / self.half_life().as_secs_f64());
        self.failures *= left;
        self.front_door *= left;
        self.marker_missing *= left;
        self.marked *= left;
        self.owned *= left;
        for sibling in &mut self.siblings {
            sibling.pairs.fade(left);
            sibling.probes.fade(left);
        }
    }

    fn half_life(&self) -> Duration {
        let open = self.as_of.saturating_duration_since(self.opened);
        let each = open.as_secs_f64() / f64::from(self.all_failures.max(1));
        let slow = each.min(LONGEST_HALF_LIFE.as_secs_f64()) * HALF_LIFE_IN_FAILURES;
        Duration::from_secs_f64(slow).clamp(HALF_LIFE, LONGEST_HALF_LIFE)
    }

    /// One failure, with what its answer said of the marker.
    pub fn failed(&mut self, kind: FailureKind, marker: Marker, armed: Armed) {
        self.failures += 1.0;
        self.all_failures = self.all_failures.saturating_add(1);
        self.front_door += f64::from(u8::from(kind.is_front_door()));
        // An origin that spoke would have signed; the leg behind the edge cannot.
        let origin_silent = match kind {
            FailureKind::ServerError
            | FailureKind::Overloaded
            | FailureKind::MarkerMissing
            | FailureKind::Blocked => true,
            FailureKind::Dns
            | FailureKind::Connect
            | FailureKind::Tls
            | FailureKind::Late
            | FailureKind::BrokeOff
            | FailureKind::BodyCut
            | FailureKind::BodyStall
            | FailureKind::EdgeLeg => false,
        };
        let (missing, owned) = match (marker, armed) {
            (Marker::Own, Armed::Yes) => (1.0, 1.0),
            (Marker::Own, Armed::No) => (0.0, 1.0),
            (Marker::Absent, Armed::Yes) => (1.0, 0.0),
            (Marker::Absent, Armed::No)
            | (Marker::Unconfigured | Marker::Present | Marker::Old | Marker::Replaced, _) => {
                (0.0, 0.0)
            }
        };
        if origin_silent {
            self.marker_missing += missing;
            self.owned += owned;
        }
    }

    /// One request that failed here and was tried at the sibling at `place`.
    pub fn compare(&mut self, place: usize, went: PairEnd) {
        let Some(sibling) = self.siblings.get_mut(place) else { return };
        sibling.pairs.add(went);
        sibling.paired.attempts += 1;
        sibling.paired.failures += u64::from(went == PairEnd::FailedToo);
    }

    /// A probe that failed here, and how the sibling at `place` took its own shortly before: the
    /// same page asked for at both.
    pub fn compare_probe(&mut self, place: usize, went: PairEnd) {
        if let Some(sibling) = self.siblings.get_mut(place) {
            sibling.probes.add(went);
        }
    }

    /// Pairs compared with any sibling: all, and those that failed there too.
    pub fn pairs(&self) -> Traffic {
        self.siblings.iter().fold(Traffic::default(), |sum, sibling| sum.plus(sibling.paired))
    }

    /// What the sibling at `place` did by itself since the case was opened; its halves of pairs are
    /// in already.
    pub fn own_traffic(&self, place: usize, now: Traffic) -> Traffic {
        self.siblings
            .get(place)
            .map_or(Traffic::default(), |sibling| now.since(sibling.before).since(sibling.paired))
    }

    /// Log-odds of provider against origin by the sibling at `place`, given that this share fails
    /// here and that the sibling did `own` by itself.
    pub fn log_odds(&self, place: usize, failing: Share, own: Traffic) -> f64 {
        let Some(Sibling { pairs, probes, .. }) = self.siblings.get(place) else { return 0.0 };
        let bad = own.failures.min(own.attempts) as f64;
        let own = Tally { good: own.attempts as f64 - bad, bad };
        // A request that failed once may be one that always fails: an origin at fault explains its
        // second failure wholly, whatever share of all requests fails.
        let origin = pairs.likelihood(failing.least, 1.0)
            + own.likelihood(failing.least, failing.most)
            + probes.likelihood(Share::DEAD.least, Share::DEAD.most);
        let all = Tally {
            good: pairs.good + own.good + probes.good,
            bad: pairs.bad + own.bad + probes.bad,
        };
        let share = (all.bad + 0.5) / (all.good + all.bad + 1.0);
        let fine = (1.0 - BROKEN).ln() + all.likelihood(FINE, FINE);
        let broken = BROKEN.ln() + all.likelihood(share, share);
        // ln(e^fine + e^broken), without leaving the range of numbers.
        let larger = fine.max(broken);
        let provider = larger + ((fine - larger).exp() + (broken - larger).exp()).ln();
        (provider - origin).clamp(MOST_AGAINST, MOST_FOR)
    }
}
