//! What one pool's routing goes by, and what is told when it changes.
//!
//! In: a [`Layout`] at each conclusion. Out: the plan, and a transition whenever its mode or its
//! first candidate changed. Keeps what a plan needs to remember: until when to stay (`min_stay`) and
//! which of the bad serves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attribution::Sampling;
use super::plan::{self, Layout};
use super::pool::Context;
use super::rank::Rank;
use super::watch::Watch;
use crate::model::health::{Health, Reason, Transition};
use crate::model::id::UpstreamId;
use crate::model::plan::{PoolMode, PoolPlan};
use crate::model::realm::Realms;
use crate::model::topology::FailoverMode;
use crate::model::unit::Permille;

/// In fail-open another must do so much better, in share of attempts, to take over.
const CLEARLY_BETTER: f64 = 0.2;
/// And no sooner than this after the last change.
const LEAST_BAD_STAYS: Duration = Duration::from_secs(5);

/// One pool's course.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// What routing goes by.
    pub plan: Arc<PoolPlan>,
    /// What it would go by if decisions moved traffic; the same but in observe mode.
    pub intended: PoolPlan,
    layout: Layout,
    stay_until: Option<Instant>,
    /// By realm, the whole first.
    least_bad: BTreeMap<usize, (UpstreamId, Instant)>,
}

/// Why a plan is made now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Occasion {
    /// Evidence or time.
    Decision,
    /// Another topology.
    Reload,
    /// The operator's word.
    Order,
}

impl Course {
    /// After a reload: the same upstreams under their new numbers; those that are gone are left out.
    pub fn renumber(&mut self, realms: &Realms, to: &impl Fn(UpstreamId) -> Option<UpstreamId>) {
        self.intended.renumber(realms, to);
        // Realms may be others now; the whole stays the whole.
        self.least_bad = (self.least_bad.remove(&0).into_iter())
            .filter_map(|(who, since)| Some((0, (to(who)?, since))))
            .collect();
        self.layout = Layout::default();
    }

    /// Of a pool that was to stay where it was until then, before a restart.
    pub fn resume(stay_until: Option<Instant>) -> Self {
        Self { stay_until, ..Self::default() }
    }

    /// Until when the pool is to stay where it is.
    pub fn stay_until(&self) -> Option<Instant> {
        self.stay_until
    }

    /// Whether it carries requests of its own, not only retries or an experiment's.
    pub fn serves(&self, upstream: UpstreamId) -> bool {
        let lent = self.layout.experiment.is_some_and(|experiment| experiment.to == upstream);
        !lent && has_share(&self.intended, upstream)
    }

    /// From which the plan was made.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// In which the plan was made.
    pub fn realms(&self) -> &Realms {
        &self.layout.realms
    }

    /// Share of the safe requests of nobody in particular that goes to a standby.
    pub fn aside(&self) -> Permille {
        self.layout.aside
    }

    /// What its attempts are a sample of.
    pub fn sampling(&self, upstream: UpstreamId) -> Sampling {
        if has_share(&self.plan, upstream) { Sampling::Fair } else { Sampling::Retries }
    }

    /// The best of the bad, by what they did lately; the one that serves unless another is clearly
    /// better, so that a pool in trouble does not add flapping to it.
    pub fn least_bad(
        &mut self,
        realm: usize,
        watches: &[(UpstreamId, &Watch)],
        now: Instant,
    ) -> Option<UpstreamId> {
        let best = watches.iter().rev().max_by(|a, b| quality(a.1).total_cmp(&quality(b.1)))?;
        let known = self.least_bad.get(&realm).copied();
        let plan = if realm == 0 {
            Some(&self.intended)
        } else {
            self.intended.of_realms().get(realm - 1)
        };
        let serving = known.map(|(who, _)| who).or(plan.and_then(PoolPlan::first));
        let current = watches.iter().find(|(who, _)| Some(*who) == serving);
        let since = known.map(|(_, since)| since);
        let settled = since.is_none_or(|since| now >= since + LEAST_BAD_STAYS);
        let chosen = match current {
            Some(current) if quality(best.1) < quality(current.1) + CLEARLY_BETTER || !settled => {
                current.0
            }
            Some(_) | None => best.0,
        };
        if known.map(|(who, _)| who) != Some(chosen) {
            self.least_bad.insert(realm, (chosen, now));
        }
        Some(chosen)
    }

    /// Somebody whom the realm admits is able: there is no best of the bad.
    pub fn forget_least_bad(&mut self, realm: usize) {
        self.least_bad.remove(&realm);
    }

    /// Makes the plan, unless nothing that it depends on changed.
    pub fn set(
        &mut self,
        layout: Layout,
        occasion: Occasion,
        change: &Change,
        out: &mut Vec<Transition>,
    ) {
        if layout == self.layout && occasion == Occasion::Decision {
            return;
        }
        // A drill moves requests and nobody's place: who is first stays so.
        let before = std::mem::replace(&mut self.intended, plan::compile(&layout.undrilled()));
        let published = match change.context.pool().rules.failover.mode {
            FailoverMode::Enforce if layout.drill.is_some() => plan::compile(&layout),
            FailoverMode::Enforce => self.intended.clone(),
            FailoverMode::Observe => plan::compile(&all_well(&layout)),
        };
        if *self.plan != published {
            self.plan = Arc::new(published);
        }
        self.layout = layout;
        self.announce(&before, occasion, change, out);
    }

    fn announce(
        &mut self,
        before: &PoolPlan,
        occasion: Occasion,
        change: &Change,
        out: &mut Vec<Transition>,
    ) {
        let (pool, at) = (change.context.id, change.context.now);
        let mode = self.intended.mode;
        if before.mode != mode {
            out.push(Transition::Mode { pool, from: before.mode, to: mode, at });
        }
        let (Some(from), Some(to)) = (before.first(), self.intended.first()) else { return };
        if from == to {
            return;
        }
        let ejection = change.ejection(from);
        if self.wish(to) < self.wish(from) {
            let reason = self.reason(occasion, ejection).unwrap_or(Reason::Recovered);
            out.push(Transition::Failback { pool, from, to, at, reason });
            return;
        }
        if occasion == Occasion::Decision {
            self.stay_until = Some(at + change.context.pool().rules.failover.min_stay);
        }
        let reason = self.reason(occasion, ejection).unwrap_or(Reason::Fallback);
        // Nothing had to be detected to obey.
        let since = ejection.filter(|_| occasion == Occasion::Decision).map(|(_, since)| since);
        let detection = since.map(|since| at.saturating_duration_since(since));
        out.push(Transition::Failover { pool, from, to, at, reason, detection });
    }

    /// `None` when an upstream is left though it could serve.
    fn reason(&self, occasion: Occasion, ejection: Option<(Reason, Instant)>) -> Option<Reason> {
        match (occasion, self.intended.mode) {
            (Occasion::Reload, _) => Some(Reason::Reload),
            (Occasion::Order, _) => Some(Reason::Ordered),
            (Occasion::Decision, PoolMode::FailOpen) => Some(Reason::AllBad),
            (Occasion::Decision, PoolMode::Normal | PoolMode::FailClosed) => {
                ejection.map(|(reason, _)| reason)
            }
        }
    }

    /// Where the operator would have it; smaller stands first.
    fn wish(&self, upstream: UpstreamId) -> Option<(Rank, usize)> {
        let order = self.layout.order();
        let mut members = self.layout.members.iter().enumerate();
        let (place, member) = members.find(|(_, m)| m.contender.upstream == upstream)?;
        Some((order.wish(&member.contender), place))
    }
}

/// What an announcement needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Which pool, when.
    pub context: &'a Context<'a>,
    /// By place in the pool.
    pub watches: &'a [Watch],
}

impl Change<'_> {
    /// Why the upstream is out, and when what led there began; `None` when it is not out.
    fn ejection(&self, upstream: UpstreamId) -> Option<(Reason, Instant)> {
        let place = self.context.pool().upstreams.iter().position(|id| *id == upstream)?;
        let watch = self.watches.get(place)?;
        match watch.health {
            Health::Ejected { since, .. } => {
                Some((watch.last?.1, watch.failing_since.unwrap_or(since)))
            }
            Health::Healthy
            | Health::Suspect
            | Health::HalfOpen { .. }
            | Health::Ramping { .. } => None,
        }
    }
}

/// In the plan of any realm.
fn has_share(plan: &PoolPlan, upstream: UpstreamId) -> bool {
    let own = plan.of_realms().iter().filter_map(|plan| plan.candidate(upstream));
    own.into_iter().any(|candidate| candidate.safe.max(candidate.unsafe_) > Permille::ZERO)
}

/// The same pool as if nothing were wrong.
fn all_well(layout: &Layout) -> Layout {
    let mut layout = layout.clone();
    (layout.experiment, layout.drill) = (None, None);
    layout.aside = Permille::ZERO;
    for member in &mut layout.members {
        member.health = Health::Healthy;
        member.contender.doubt = super::rank::Doubt::None;
        member.contender.fate = super::rank::Fate::Own;
    }
    layout
}

/// How good one of the bad is, 0 to 1: by its requests, or by its probes where there are too few.
fn quality(watch: &Watch) -> f64 {
    if watch.seconds.attempts() >= 5.0 {
        return watch.seconds.failing().rest().fraction();
    }
    match watch.probes.last {
        Some((_, true)) => 0.9,
        Some((_, false)) => 0.1,
        None => 0.5,
    }
}
