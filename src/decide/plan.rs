//! Who takes which share of a pool's requests, in which order, and why there?
//!
//! In: each member with its health and what its order depends on. Out: a [`PoolPlan`] whose safe and
//! unsafe shares each sum to exactly one, unless the pool is empty.
//!
//! Those that are able lead by [`super::rank`]. One that comes back (half-open, ramping) takes its
//! part of what it would have if it were healthy, the able ones the rest ([`shares`]). Where nobody is
//! able, those that ramp serve; where nobody ramps either, the pool is fail-open.
//!
//! Where routes have charters of their own the same is done once more for each, among those whom it
//! permits ([`crate::model::realm`]).

use crate::model::health::Health;
use crate::model::id::UpstreamId;
use crate::model::operator::AdminState;
use crate::model::place::{Jurisdiction, Residency};
use crate::model::plan::{Candidate, Place, PoolMode, PoolPlan, Rescue, Standby, Wish};
use crate::model::realm::{Realm, Realms};
use crate::model::unit::Permille;

use self::shares::{Shares, spread};
use super::breaker;
use super::rank::{Contender, Doubt, Fate, Order};

pub mod shares;

/// Share of the safe requests that fail-open spreads over all but the best: without it nobody would
/// notice that one of them has recovered.
const LOOK_AROUND: u16 = 50;
/// Share of an experiment: enough to see within a second or two, little enough to lose.
const EXPERIMENT: Permille = Permille::TENTH;
/// From this share on a ramping upstream takes retries too.
const RESCUES_FROM: u16 = 350;

/// One upstream of the pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member {
    /// What its order depends on.
    pub contender: Contender,
    /// What we believe of it.
    pub health: Health,
    /// What the operator ordered.
    pub admin: AdminState,
}

impl Member {
    /// As the plan has to take it: `None` when the operator keeps it out, and without a fault when
    /// the operator vouches for it.
    pub fn in_force(&self) -> Option<Self> {
        match self.admin {
            AdminState::Auto => Some(*self),
            AdminState::Draining | AdminState::ForcedOut => None,
            AdminState::ForcedIn => {
                let contender = Contender { doubt: Doubt::None, ..self.contender };
                Some(Self { contender, health: Health::Healthy, ..*self })
            }
        }
    }
}

/// Everything a plan is made from. Equal layouts give equal plans.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// In the pool's order.
    pub members: Vec<Member>,
    /// The service's rule.
    pub residency: Residency,
    /// Who may stand in which plan.
    pub realms: Realms,
    /// Share of safe requests of a half-open upstream.
    pub trickle: Permille,
    /// Share of the safe requests of nobody in particular that a standby takes.
    pub aside: Permille,
    /// The best of the bad of each realm, the whole first; asked only where all are.
    pub least_bad: Vec<Option<UpstreamId>>,
    /// Whose share is lent to whom, to find out whose fault it is.
    pub experiment: Option<Experiment>,
    /// Whose share is lent to whom, to rehearse a failover.
    pub drill: Option<Loan>,
}

/// A part of one upstream's requests that another takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Loan {
    /// From whom.
    pub from: UpstreamId,
    /// To whom.
    pub to: UpstreamId,
    /// Of all requests, and at most what the lender has.
    pub share: Permille,
}

/// A part of one upstream's requests moved to another, to see whether it helps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Experiment {
    /// From whom.
    pub from: UpstreamId,
    /// To whom.
    pub to: UpstreamId,
}

/// Makes the plan.
pub fn compile(layout: &Layout) -> PoolPlan {
    let whole = layout.realms.whole();
    let plan = within(&layout.confined(whole, 0), whole);
    let narrower = layout.realms.narrower().iter().zip(1..);
    let confined = narrower.map(|(realm, place)| within(&layout.confined(realm, place), realm));
    plan.with_confined(&layout.realms, confined.collect())
}

/// A plan of those whom the realm admits; `layout` holds nobody else.
fn within(layout: &Layout, realm: &Realm) -> PoolPlan {
    let members = ordered(layout);
    if members.is_empty() {
        return PoolPlan::closed();
    }
    let serving = serving(&members);
    if serving.is_empty() {
        return fail_open(layout, realm, &members);
    }
    let mut shares = Shares::new(layout, &members, &serving);
    let lent = |Experiment { from, to }| Loan { from, to, share: EXPERIMENT };
    shares.lend(layout.experiment.map(lent), &members);
    shares.lend(layout.drill, &members);
    let present = |member: &Member| !matches!(member.health, Health::Ejected { .. });
    let wishes = members
        .iter()
        .enumerate()
        .filter(|(_, member)| present(member))
        .map(|(place, member)| Wish {
            upstream: member.contender.upstream,
            safe: permille(shares.safe[place]),
            unsafe_: permille(shares.unsafe_[place]),
            rescue: rescue(member, serving.contains(&place)),
            place: place_of(layout, &members, place, &shares),
        })
        .collect();
    let plan = PoolPlan::new(realm, PoolMode::Normal, wishes);
    let present: Vec<Member> = members.into_iter().filter(present).collect();
    let standby = standby(layout, &present, plan.candidates());
    plan.with_standby(standby)
}

/// The first in order that has nothing to do and nothing held against it. While one in the EU serves
/// under `prefer-eu`, nobody outside is tried.
fn standby(layout: &Layout, members: &[Member], candidates: &[Candidate]) -> Option<Standby> {
    if layout.aside == Permille::ZERO {
        return None;
    }
    let idle = |candidate: &Candidate| candidate.safe.max(candidate.unsafe_) == Permille::ZERO;
    let inside = |member: &Member| member.contender.jurisdiction == Jurisdiction::Eu;
    let mut both = candidates.iter().zip(members);
    let serves_inside = both.any(|(candidate, member)| !idle(candidate) && inside(member));
    let may = |(candidate, member): (&Candidate, &Member)| {
        idle(candidate)
            && member.health == Health::Healthy
            && member.contender.doubt == Doubt::None
            && (inside(member) || layout.residency != Residency::PreferEu || !serves_inside)
    };
    let place = candidates.iter().zip(members).position(may)?;
    Some(Standby { place, share: layout.aside })
}

impl Layout {
    /// By what the members are ordered.
    pub fn order(&self) -> Order {
        let first_choice = self.members.iter().map(|m| m.contender.preference).min().unwrap_or(0);
        Order { residency: self.residency, first_choice }
    }

    /// The same without a drill.
    pub fn undrilled(&self) -> Self {
        Self { drill: None, ..self.clone() }
    }

    /// The same if one were not there.
    pub fn without(&self, upstream: UpstreamId) -> Self {
        let mut layout = self.undrilled();
        layout.members.retain(|member| member.contender.upstream != upstream);
        layout
    }

    /// Whether this one is in the EU while, under `prefer-eu`, one outside serves that is not the
    /// operator's first choice.
    pub fn is_missed(&self, upstream: UpstreamId) -> bool {
        let is_it = |member: &Member| {
            member.contender.upstream == upstream
                && member.contender.jurisdiction == Jurisdiction::Eu
        };
        let instead = |(realm, place): (&Realm, usize)| {
            let layout = self.confined(realm, place);
            let (order, members) = (layout.order(), ordered(&layout));
            let first = serving(&members).first().map(|place| members[*place].contender);
            realm.admits(upstream) && first.is_some_and(|first| order.is_unwanted(&first))
        };
        // Where there are narrower realms no request goes by the whole.
        let unused = usize::from(!self.realms.narrower().is_empty());
        self.members.iter().any(is_it) && self.realms.all().zip(0..).skip(unused).any(instead)
    }

    /// As it is for the requests of one realm, whose place is that of its best of the bad.
    fn confined(&self, realm: &Realm, place: usize) -> Self {
        let admits = |member: &&Member| realm.admits(member.contender.upstream);
        let both = |from, to| realm.admits(from) && realm.admits(to);
        let best = self.least_bad.get(place).copied().flatten();
        Self {
            members: self.members.iter().filter(admits).copied().collect(),
            residency: if place == 0 { self.residency } else { realm.charter().residency },
            realms: Realms::default(),
            least_bad: vec![best.filter(|best| realm.admits(*best))],
            experiment: self.experiment.filter(|it| both(it.from, it.to)),
            drill: self.drill.filter(|it| both(it.from, it.to)),
            ..*self
        }
    }
}

fn ordered(layout: &Layout) -> Vec<Member> {
    let order = layout.order();
    let mut members: Vec<Member> = layout.members.iter().filter_map(Member::in_force).collect();
    // Stable: equal ranks keep the position in the file.
    members.sort_by_key(|member| order.rank(&member.contender));
    members
}

/// Places of those that can carry the pool.
fn serving(members: &[Member]) -> Vec<usize> {
    let of = |wanted: fn(&Health) -> bool| -> Vec<usize> {
        (0..members.len()).filter(|place| wanted(&members[*place].health)).collect()
    };
    let able = of(|health| matches!(health, Health::Healthy | Health::Suspect));
    if able.is_empty() { of(|health| matches!(health, Health::Ramping { .. })) } else { able }
}

fn permille(thousandths: u16) -> Permille {
    Permille::new(thousandths).unwrap_or(Permille::ALL)
}

fn rescue(member: &Member, serves: bool) -> Rescue {
    match member.health {
        Health::Healthy | Health::Suspect => Rescue::Takes,
        Health::Ramping { step, .. } if serves || breaker::share(step).get() >= RESCUES_FROM => {
            Rescue::Takes
        }
        Health::Ramping { .. } | Health::HalfOpen { .. } | Health::Ejected { .. } => {
            Rescue::Refuses
        }
    }
}

fn place_of(layout: &Layout, members: &[Member], place: usize, shares: &Shares) -> Place {
    let member = &members[place];
    match member.health {
        Health::HalfOpen { .. } => return Place::HalfOpen,
        Health::Ramping { .. } => return Place::Ramping,
        Health::Healthy | Health::Suspect | Health::Ejected { .. } => {}
    }
    let order = layout.order();
    if layout.drill.is_some_and(|loan| loan.to == member.contender.upstream) {
        return Place::Drill;
    }
    if order.is_first_choice(&member.contender) {
        return Place::Preferred;
    }
    if eu_made_the_difference(&order, members, place) {
        return Place::EuFirst;
    }
    let lent = layout.experiment.is_some_and(|e| e.to == member.contender.upstream);
    if shares.unsafe_[place] > 0 && !lent {
        return Place::Fallback;
    }
    match member.contender.fate {
        Fate::Shared => Place::SharedFate,
        Fate::Own => Place::Standby,
    }
}

/// Whether one that the operator prefers stands behind it for not being in the EU.
fn eu_made_the_difference(order: &Order, members: &[Member], place: usize) -> bool {
    let mine = &members[place].contender;
    mine.jurisdiction == Jurisdiction::Eu
        && order.residency == Residency::PreferEu
        && members[place + 1..].iter().any(|behind| {
            let theirs = &behind.contender;
            theirs.jurisdiction == Jurisdiction::NonEu
                && theirs.preference < mine.preference
                && !order.is_first_choice(theirs)
        })
}

/// Everyone is bad: the best of them serves, and the others are looked at.
fn fail_open(layout: &Layout, realm: &Realm, members: &[Member]) -> PoolPlan {
    let best = layout.least_bad.first().copied().flatten();
    let best = best.unwrap_or(members[0].contender.upstream);
    let mut members = members.to_vec();
    members.sort_by_key(|member| member.contender.upstream != best);
    let others = vec![1; members.len() - 1];
    let mut safe = spread(if others.is_empty() { 0 } else { LOOK_AROUND }, &others);
    safe.insert(0, 1000 - safe.iter().sum::<u16>());
    let wishes = members
        .iter()
        .zip(safe)
        .enumerate()
        .map(|(place, (member, safe))| Wish {
            upstream: member.contender.upstream,
            safe: permille(safe),
            unsafe_: if place == 0 { Permille::ALL } else { Permille::ZERO },
            rescue: Rescue::Takes,
            place: Place::LeastBad,
        })
        .collect();
    PoolPlan::new(realm, PoolMode::FailOpen, wishes)
}

#[cfg(test)]
mod tests;
