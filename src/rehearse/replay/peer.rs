//! Another way to move, for comparison: whoever fails a few times in a row is left for a fixed time
//! and then taken back whole.
//!
//! It is what proxies commonly call outlier detection. It is given the same retries, the same budget
//! and the same providers; what it does not have is a score, blame, probes, or a return that has to
//! be earned. A 5xx counts, and so does an attempt that brings no head in time; the origin's own 5xx
//! counts too, since nothing tells it apart, and a body that ends short does not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::health::{Reason, Transition};
use crate::model::id::{PoolId, UpstreamId};
use crate::model::outcome::{FailureKind, Outcome};
use crate::model::plan::{Place, PoolMode, PoolPlan, Rescue, Wish};
use crate::model::topology::{Pool, Topology};
use crate::model::unit::Permille;

/// How the peer leaves an upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rule {
    /// After so many failures without a success in between.
    pub failures: u32,
    /// For so long.
    pub hold: Duration,
}

impl Rule {
    /// Five in a row, thirty seconds: the usual defaults of outlier detection, without the growth
    /// of the time that some add.
    pub const OUTLIER: Self = Self { failures: 5, hold: Duration::from_secs(30) };
}

/// The peer, for every pool of a topology.
#[derive(Debug)]
pub(super) struct Peer {
    rule: Rule,
    members: Vec<Member>,
    plans: Vec<Arc<PoolPlan>>,
    topology: Arc<Topology>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Member {
    in_a_row: u32,
    /// When it comes back.
    out_until: Option<Instant>,
}

impl Peer {
    pub(super) fn new(topology: &Arc<Topology>, rule: Rule) -> Self {
        let members = vec![Member::default(); topology.upstreams.len()];
        let plan = |pool: &Pool| Arc::new(lay(&members, pool));
        let plans = topology.pools.iter().map(plan).collect();
        Self { rule, plans, topology: Arc::clone(topology), members }
    }

    /// An attempt came to this.
    pub(super) fn count(&mut self, upstream: usize, outcome: Outcome, now: Instant) {
        let Rule { failures, hold } = self.rule;
        let member = &mut self.members[upstream];
        match outcome {
            Outcome::Failure(FailureKind::BodyCut | FailureKind::BodyStall)
            | Outcome::Ignored(_) => {}
            Outcome::Failure(_) => member.in_a_row += 1,
            Outcome::Success | Outcome::OriginError => member.in_a_row = 0,
        }
        if member.in_a_row >= failures && member.out_until.is_none() {
            *member = Member { in_a_row: 0, out_until: Some(now + hold) };
        }
    }

    /// Takes back whose time is over, and makes the plans that follow.
    pub(super) fn decide(&mut self, now: Instant) -> Vec<Transition> {
        for member in &mut self.members {
            member.out_until = member.out_until.filter(|until| *until > now);
        }
        let mut moved = Vec::new();
        for (id, pool) in self.topology.pools() {
            let next = lay(&self.members, pool);
            let before = &mut self.plans[id.index()];
            if **before != next {
                moved.extend(flip(id, before, &next, now));
                *before = Arc::new(next);
            }
        }
        moved
    }

    pub(super) fn plans(&self) -> Vec<Arc<PoolPlan>> {
        self.plans.clone()
    }

    /// When the next one comes back.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.members.iter().filter_map(|member| member.out_until).min()
    }
}

/// In order of preference: the first that is not out takes everything, those behind it take what
/// fails there. With all of them out it is as if none were.
fn lay(members: &[Member], pool: &Pool) -> PoolPlan {
    let is_in = |upstream: &&UpstreamId| members[upstream.index()].out_until.is_none();
    let mut able: Vec<UpstreamId> = pool.upstreams.iter().filter(is_in).copied().collect();
    if able.is_empty() {
        able.clone_from(&pool.upstreams);
    }
    let wish = |(place, upstream): (usize, UpstreamId)| {
        let share = if place == 0 { Permille::ALL } else { Permille::ZERO };
        let place = if place == 0 { Place::Preferred } else { Place::Standby };
        Wish { upstream, safe: share, unsafe_: share, rescue: Rescue::Takes, place }
    };
    let wishes = able.into_iter().enumerate().map(wish).collect();
    PoolPlan::new(pool.realms.whole(), PoolMode::Normal, wishes)
}

/// The change of the first candidate, if there is one.
fn flip(pool: PoolId, before: &PoolPlan, next: &PoolPlan, at: Instant) -> Option<Transition> {
    let first = |plan: &PoolPlan| Some(plan.candidates().first()?.upstream());
    let (from, to) = (first(before)?, first(next)?);
    if from == to {
        None
    } else if to < from {
        Some(Transition::Failback { pool, from, to, at, reason: Reason::Recovered })
    } else {
        let detection = None;
        Some(Transition::Failover { pool, from, to, at, reason: Reason::Fallback, detection })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearse::replay::{Setup, cast};
    use crate::rehearse::scenario::Scenario;

    const FAILED: Outcome = Outcome::Failure(FailureKind::ServerError);

    fn peer() -> (Peer, Instant) {
        let text = "name: x\nupstreams: [one, two]\ntimeline: []\n";
        let scenario = Scenario::read(text).expect("a scenario");
        let (topology, _) = cast::topology(&scenario, &Setup::default());
        (Peer::new(&topology, Rule::OUTLIER), crate::clock::now())
    }

    fn first(peer: &Peer) -> usize {
        peer.plans()[0].first().expect("a first candidate").index()
    }

    #[test]
    fn five_failures_in_a_row_take_it_out_for_thirty_seconds() {
        let (mut peer, start) = peer();
        for outcome in [FAILED, FAILED, FAILED, FAILED, Outcome::Success, FAILED, FAILED, FAILED] {
            peer.count(0, outcome, start);
        }
        assert!(peer.decide(start).is_empty(), "a success in between begins anew");
        peer.count(0, FAILED, start);
        peer.count(0, FAILED, start);
        assert_eq!(peer.decide(start).len(), 1);
        assert_eq!(first(&peer), 1);
        let back = start + Duration::from_secs(30);
        assert_eq!(peer.deadline(), Some(back));
        assert!(matches!(peer.decide(back)[..], [Transition::Failback { .. }]));
        assert_eq!(first(&peer), 0);
    }

    #[test]
    fn with_everyone_out_the_first_serves_again() {
        let (mut peer, start) = peer();
        for upstream in [0, 1].into_iter().flat_map(|upstream| [upstream; 5]) {
            peer.count(upstream, FAILED, start);
        }
        peer.decide(start);
        assert_eq!(first(&peer), 0);
        assert_eq!(peer.plans()[0].candidates().len(), 2);
    }
}
