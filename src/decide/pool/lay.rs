//! What the pool's plan is made from: its members as routing sees them, the trickle of half-open
//! ones, the best of the bad, and the experiment where nothing says whose fault it is.

use std::time::Duration;

use super::super::attribution::PROVIDER;
use super::super::course::{Change, Occasion};
use super::super::drill::Drill;
use super::super::plan::shares::MOST_TRICKLE;
use super::super::plan::{self, Experiment, Layout, Loan};
use super::super::rank::{self, Contender, Fate};
use super::super::watch::Standing;
use super::{Context, PoolWatch};
use crate::model::health::{Health, Transition};
use crate::model::id::UpstreamId;
use crate::model::operator::AdminState;
use crate::model::realm::Realm;
use crate::model::unit::Permille;

/// A cascade or brownout of unknown blame becomes an experiment after this. A body cut short under
/// a 200 is never retried and leaves no pair: without the experiment nothing would ever say whose
/// fault it is, and after more than a second the upstream would not be left within two.
const EXPERIMENT_AFTER: Duration = Duration::from_secs(1);
/// An experiment is not worth its losses once the evidence says so much against the provider.
const EXPERIMENT_FROM: f64 = -PROVIDER / 2.0;
/// Safe requests a second of a half-open upstream, where that is more than 1 %.
const TRICKLE_RATE: f64 = 0.5;
/// Shares of safe requests of a half-open upstream; few, so that a change of rate seldom makes a new
/// plan. At most a quarter: a service so quiet that it would take more lets probes decide.
const TRICKLES: [u16; 6] = [10, 20, 40, 80, 160, MOST_TRICKLE];

/// Good answers of the last hour before its mean rate means anything.
const ENOUGH_TO_KNOW_THE_RATE: u64 = 100;

impl PoolWatch {
    /// Makes the plan anew if anything that it depends on changed.
    pub fn replan(&mut self, occasion: Occasion, context: &Context, out: &mut Vec<Transition>) {
        let upstreams = &context.pool().upstreams;
        let is_out = |place: usize| {
            matches!(self.health(place), Health::Ejected { .. } | Health::HalfOpen { .. })
        };
        let failed: Vec<UpstreamId> = (upstreams.iter().enumerate())
            .filter(|(place, _)| is_out(*place))
            .map(|(_, upstream)| *upstream)
            .collect();
        let members: Vec<plan::Member> = (upstreams.iter().enumerate())
            .map(|(place, upstream)| self.member(place, *upstream, &failed, context))
            .collect();
        let realms = context.pool().realms.clone();
        let least_bad = (realms.all().enumerate())
            .map(|(place, realm)| self.least_bad(place, realm, &members, context))
            .collect();
        let residency = realms.whole().charter().residency;
        let (trickle, experiment) = (self.trickle(), None);
        let aside = self.aside(context);
        let loan = |drill: &Drill| Loan { from: drill.from, to: drill.to, share: drill.share };
        let drill = self.drill.as_ref().map(loan);
        let mut layout =
            Layout { members, residency, realms, trickle, aside, least_bad, experiment, drill };
        layout.experiment = self.experiment(&layout, context);
        let change = Change { context, watches: &self.watches };
        self.course.set(layout, occasion, &change, out);
    }

    /// The best of the bad whom a realm admits, where all of those are bad.
    fn least_bad(
        &mut self,
        place: usize,
        realm: &Realm,
        members: &[plan::Member],
        context: &Context,
    ) -> Option<UpstreamId> {
        let is_bad = |member: plan::Member| {
            matches!(member.health, Health::Ejected { .. } | Health::HalfOpen { .. })
        };
        let admitted = members.iter().filter(|member| realm.admits(member.contender.upstream));
        if !admitted.filter_map(plan::Member::in_force).all(is_bad) {
            self.course.forget_least_bad(place);
            return None;
        }
        let upstreams = context.pool().upstreams.iter().copied();
        let bad: Vec<_> = upstreams
            .zip(&self.watches)
            .filter(|(id, watch)| realm.admits(*id) && !watch.admin.is_out())
            .collect();
        self.course.least_bad(place, &bad, context.now)
    }

    fn member(
        &self,
        place: usize,
        upstream: UpstreamId,
        failed: &[UpstreamId],
        context: &Context,
    ) -> plan::Member {
        let (topology, watch) = (context.topology, &self.watches[place]);
        let shares =
            |other: &UpstreamId| *other != upstream && topology.share_fate(upstream, *other);
        let serves = self.course.serves(upstream);
        let contender = Contender {
            upstream,
            jurisdiction: topology.provider_of(upstream).jurisdiction,
            preference: topology.upstream(upstream).preference,
            weight: topology.upstream(upstream).weight,
            doubt: if serves { rank::Doubt::None } else { watch.doubt() },
            fate: if failed.iter().any(shares) { Fate::Shared } else { Fate::Own },
        };
        plan::Member { contender, health: self.health(place), admin: watch.admin }
    }

    /// Share of the safe requests that a half-open upstream takes: max(1 %, 0.5 a second).
    pub fn trickle(&self) -> Permille {
        trickle_at(self.watches.iter().map(|watch| watch.seconds.safe_rate()).sum())
    }

    /// Share that keeps a standby warm: what the file says, and at least as much as half-open would
    /// take at the mean rate of the last hour. It stays while it is no more than four times that, or
    /// traffic that comes and goes would make a new plan each time.
    fn aside(&self, context: &Context) -> Permille {
        let share = context.pool().rules.failover.standby_trickle;
        let before = self.course.aside();
        let known: u64 = self.watches.iter().map(|watch| watch.hour.successes()).sum();
        if share == Permille::ZERO {
            return Permille::ZERO;
        } else if known < ENOUGH_TO_KNOW_THE_RATE {
            return before.max(share);
        }
        let rates = self.watches.iter().map(|watch| watch.hour.success_rate(context.now));
        let wanted = share.max(trickle_at(rates.sum()));
        if before >= wanted && before.get() <= wanted.get() * 4 { before } else { wanted }
    }

    /// Where a trip has stood for a while and nothing says whose fault it is, a part of the requests
    /// goes to the next one, and what becomes of them says it.
    fn experiment(&self, layout: &Layout, context: &Context) -> Option<Experiment> {
        if self.origin.blamed.is_some() {
            return None;
        }
        let place = self.watches.iter().position(|watch| match watch.standing {
            Standing::Withheld { since } => context.now >= since + EXPERIMENT_AFTER,
            Standing::Nothing | Standing::Gray => false,
        })?;
        let attribution = self.attribution(place, context)?;
        let from = layout.members[place].contender.upstream;
        if layout.members[place].admin == AdminState::ForcedIn {
            return None;
        }
        if attribution.log_odds <= EXPERIMENT_FROM || !self.course.serves(from) {
            return None;
        }
        let order = layout.order();
        let to = (layout.members.iter())
            .filter(|member| member.contender.upstream != from && !member.admin.is_out())
            .filter(|member| matches!(member.health, Health::Healthy | Health::HalfOpen { .. }))
            .filter(|member| member.contender.doubt == rank::Doubt::None)
            .filter(|member| !context.topology.share_fate(from, member.contender.upstream))
            .min_by_key(|m| (m.health != Health::Healthy, order.rank(&m.contender)))?;
        Some(Experiment { from, to: to.contender.upstream })
    }
}

/// The share that is max(1 %, 0.5 a second) at this many requests a second.
fn trickle_at(rate: f64) -> Permille {
    let wanted = 1000.0 * TRICKLE_RATE / rate.max(f64::MIN_POSITIVE);
    let enough = TRICKLES.into_iter().find(|share| f64::from(*share) >= wanted);
    Permille::new(enough.unwrap_or(TRICKLES[TRICKLES.len() - 1])).unwrap_or(Permille::ZERO)
}
