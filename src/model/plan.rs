//! What decide makes and the request path reads: who takes a request, in which order.
//!
//! A plan is made within a [`Realm`], and a candidate with its plan: nothing can put somebody there
//! whom the realm does not admit.
//!
//! ```compile_fail,E0451
//! use bascule::model::id::UpstreamId;
//! use bascule::model::plan::{Candidate, Place, Rescue};
//! use bascule::model::unit::Permille;
//! let upstream = UpstreamId::new(0);
//! let (safe, unsafe_) = (Permille::ALL, Permille::ALL);
//! let stray = Candidate { upstream, safe, unsafe_, rescue: Rescue::Takes, place: Place::Standby };
//! ```
//!
//! ```compile_fail,E0616
//! # fn leak(plan: &mut bascule::model::plan::PoolPlan, other: &bascule::model::plan::PoolPlan) {
//! plan.candidates.extend_from_slice(other.candidates());
//! # }
//! ```

use super::cell::{Cell, Slice};
use super::id::UpstreamId;
use super::outcome::MethodClass;
use super::realm::{Realm, RealmId, Realms};
use super::unit::Permille;

/// Ordered candidates of one pool, with the reason for each place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolPlan {
    /// Normal, or what has to be done when nothing good is left.
    pub mode: PoolMode,
    /// Admitted by the realm it was made in.
    candidates: Vec<Candidate>,
    standby: Option<Standby>,
    /// By narrower realm, where the pool has any.
    confined: Vec<PoolPlan>,
    /// Made in the same realms; none of them has parts of its own.
    parts: Vec<(Slice, PoolPlan)>,
}

/// The plan of a realm that is not there.
static CLOSED: PoolPlan = PoolPlan {
    mode: PoolMode::FailClosed,
    candidates: Vec::new(),
    standby: None,
    confined: Vec::new(),
    parts: Vec::new(),
};

/// Who should stand at the next place of a plan; only a wish until a realm admits it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wish {
    /// Who.
    pub upstream: UpstreamId,
    /// As of [`Candidate`].
    pub safe: Permille,
    /// As of [`Candidate`].
    pub unsafe_: Permille,
    /// As of [`Candidate`].
    pub rescue: Rescue,
    /// As of [`Candidate`].
    pub place: Place,
}

/// A standby that takes a few safe requests of nobody in particular: without cookie and without
/// authorization.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standby {
    /// Its place among the candidates.
    pub place: usize,
    /// Of those requests.
    pub share: Permille,
}

/// An upstream at its place in a plan, permitted to stand there: requests are sent to nobody else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Candidate {
    upstream: UpstreamId,
    /// Of the safe requests; all candidates' shares sum to [`Permille::ALL`].
    pub safe: Permille,
    /// Of all other requests; all candidates' shares sum to [`Permille::ALL`].
    pub unsafe_: Permille,
    /// Whether a request that failed elsewhere may come here.
    pub rescue: Rescue,
    /// Why it stands here.
    pub place: Place,
}

/// Whether a candidate takes requests that failed at another one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rescue {
    /// It does.
    Takes,
    /// It is itself being tried out: half-open or at the beginning of its ramp.
    Refuses,
}

/// Why a candidate stands where it does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// The operator's first choice, able to serve.
    Preferred,
    /// In order of preference behind the first.
    Standby,
    /// It serves because those before it cannot.
    Fallback,
    /// Before others because it is in the EU and the first choice is left.
    EuFirst,
    /// Behind others because it shares a substrate with one that failed.
    SharedFate,
    /// It takes a share of the first choice's to rehearse a failover.
    Drill,
    /// Being tried with a trickle.
    HalfOpen,
    /// Being admitted step by step.
    Ramping,
    /// Bad, and still the best there is.
    LeastBad,
}

impl Place {
    /// In the status and in explanations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preferred => "preferred",
            Self::Standby => "standby",
            Self::Fallback => "fallback",
            Self::EuFirst => "eu_first",
            Self::SharedFate => "shared_fate",
            Self::Drill => "drill",
            Self::HalfOpen => "half_open",
            Self::Ramping => "ramping",
            Self::LeastBad => "least_bad",
        }
    }
}

/// Whether a pool can do its work; the worst last.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum PoolMode {
    /// At least one permitted upstream is able.
    #[default]
    Normal,
    /// Every permitted upstream is bad: the best of them serves.
    FailOpen,
    /// Nothing is permitted: the page is served.
    FailClosed,
}

impl PoolMode {
    /// In the status and in log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::FailOpen => "fail_open",
            Self::FailClosed => "fail_closed",
        }
    }
}

impl Candidate {
    /// Who.
    pub fn upstream(&self) -> UpstreamId {
        self.upstream
    }
}

impl PoolPlan {
    /// Of these, in this order, whose shares sum to [`Permille::ALL`] for each method class. Whoever
    /// makes a list asks the realm first; a list with somebody whom it does not admit is our bug, and
    /// its plan is closed: residency outranks availability.
    pub fn new(realm: &Realm, mode: PoolMode, wishes: Vec<Wish>) -> Self {
        if !wishes.iter().all(|wish| realm.admits(wish.upstream)) {
            return CLOSED.clone();
        }
        let seated = |Wish { upstream, safe, unsafe_, rescue, place }| Candidate {
            upstream,
            safe,
            unsafe_,
            rescue,
            place,
        };
        let candidates = wishes.into_iter().map(seated).collect();
        Self { mode, candidates, ..CLOSED.clone() }
    }

    /// Nobody serves.
    pub fn closed() -> Self {
        CLOSED.clone()
    }

    /// The same, with a plan for each of the narrower realms; one that does not belong to its realm is
    /// closed.
    #[must_use]
    pub fn with_confined(self, realms: &Realms, plans: Vec<Self>) -> Self {
        let fits = |realm: &Realm, plan: &Self| plan.all().all(|plan| plan.is_within(realm));
        let confined = (realms.narrower().iter().zip(plans))
            .map(|(realm, plan)| if fits(realm, &plan) { plan } else { CLOSED.clone() })
            .collect();
        Self { confined, ..self }
    }

    /// The same, with somebody kept warm.
    #[must_use]
    pub fn with_standby(self, standby: Option<Standby>) -> Self {
        Self { standby, ..self }
    }

    /// The same, with plans of their own for some slices of the requests; one that does not belong to
    /// these realms is closed.
    #[must_use]
    pub fn with_parts(self, realms: &Realms, parts: Vec<(Slice, Self)>) -> Self {
        let fits = |plan: &Self| {
            let confined = plan.confined.iter().zip(realms.narrower());
            plan.is_within(realms.whole())
                && plan.confined.len() == realms.narrower().len()
                && confined.into_iter().all(|(plan, realm)| plan.is_within(realm))
        };
        let kept = |(slice, plan)| (slice, if fits(&plan) { plan } else { CLOSED.clone() });
        Self { parts: parts.into_iter().map(kept).collect(), ..self }
    }

    fn is_within(&self, realm: &Realm) -> bool {
        self.candidates.iter().all(|candidate| realm.admits(candidate.upstream))
    }

    /// Who is kept warm, and known to work, before it is needed.
    pub fn standby(&self) -> Option<Standby> {
        self.standby
    }

    /// Parts of the requests that are judged, and at present served, by themselves.
    pub fn parts(&self) -> &[(Slice, Self)] {
        &self.parts
    }

    /// After a reload: the same upstreams under their new numbers, as far as the realms still admit
    /// them. Only to compare with: shares do not sum any more where somebody is left out.
    pub fn renumber(&mut self, realms: &Realms, to: &impl Fn(UpstreamId) -> Option<UpstreamId>) {
        self.candidates.retain_mut(|candidate| {
            let known = to(candidate.upstream).filter(|id| realms.whole().admits(*id));
            candidate.upstream = known.unwrap_or(candidate.upstream);
            known.is_some()
        });
        (self.standby, self.confined, self.parts) = (None, Vec::new(), Vec::new());
    }

    /// In the order in which a request tries them; those that take nothing but a retry included.
    /// Empty only when fail-closed. What is to be avoided while something better is left is absent.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The candidate of an upstream, if it is one.
    pub fn candidate(&self, upstream: UpstreamId) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.upstream == upstream)
    }

    /// What the requests of a realm go by; those of one that is not there are closed.
    pub fn of_realm(&self, realm: RealmId) -> &Self {
        match realm.narrower() {
            None => self,
            Some(place) => self.confined.get(place).unwrap_or(&CLOSED),
        }
    }

    /// The plan of each realm that some route belongs to: the confined ones where there are any, else
    /// this one.
    pub fn of_realms(&self) -> &[Self] {
        if self.confined.is_empty() { std::slice::from_ref(self) } else { &self.confined }
    }

    /// What the requests of this cell go by.
    pub fn of_cell(&self, cell: Cell) -> &Self {
        // Nearly always empty; at most a handful.
        self.parts.iter().find(|(slice, _)| slice.holds(cell)).map_or(self, |(_, plan)| plan)
    }

    /// The part that a cell belongs to, if it has a plan of its own.
    pub fn slice_of(&self, cell: Cell) -> Option<Slice> {
        self.parts.iter().map(|(slice, _)| *slice).find(|slice| slice.holds(cell))
    }

    /// This plan and those of its parts.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.parts.iter().map(|(_, plan)| plan))
    }

    /// Every plan by which requests go: of this and its parts, of each realm.
    pub fn in_use(&self) -> impl Iterator<Item = &Self> {
        self.all().flat_map(Self::of_realms)
    }

    /// The worst mode by which any request goes that belongs to no part.
    pub fn worst(&self) -> PoolMode {
        self.of_realms().iter().map(|plan| plan.mode).max().unwrap_or_default()
    }

    /// The same of the requests of one realm, by its place in [`of_realms`](Self::of_realms); those of one
    /// that is not there are closed.
    pub fn worst_of(&self, place: usize) -> PoolMode {
        let closed = PoolMode::FailClosed;
        let mode = |plan: &Self| plan.of_realms().get(place).map_or(closed, |plan| plan.mode);
        self.all().map(mode).max().unwrap_or(closed)
    }

    /// Place of the candidate that takes a request with this ticket, drawn evenly from `0..1000`.
    /// `None` when fail-closed.
    pub fn pick(&self, class: MethodClass, ticket: u16) -> Option<usize> {
        let mut end = 0;
        for (place, candidate) in self.candidates.iter().enumerate() {
            end += match class {
                MethodClass::Safe => candidate.safe.get(),
                MethodClass::Unsafe => candidate.unsafe_.get(),
            };
            if ticket < end {
                return Some(place);
            }
        }
        None
    }

    /// Place of the standby, if it is its turn to take a safe request of nobody in particular: the
    /// last of the tickets are its.
    pub fn aside(&self, ticket: u16) -> Option<usize> {
        let standby = self.standby?;
        (ticket >= standby.share.rest().get()).then_some(standby.place)
    }

    /// Place of the candidate that takes a request meant for the one at `place`: that one if it admits
    /// it, else the next in order that takes requests of others and admits it (spill-over). `None`:
    /// nobody can hold it.
    pub fn spill(&self, place: usize, mut admits: impl FnMut(&Candidate) -> bool) -> Option<usize> {
        if admits(&self.candidates[place]) {
            return Some(place);
        }
        let mut others = self.candidates.iter().enumerate().filter(|(other, _)| *other != place);
        let found = others.find(|(_, other)| other.rescue == Rescue::Takes && admits(other));
        found.map(|(place, _)| place)
    }

    /// The candidate with the largest share of all requests; the earlier one on a tie. This is the
    /// pool's *first*: whose change is a failover or a failback.
    pub fn first(&self) -> Option<UpstreamId> {
        let most = self.candidates.iter().map(|c| c.unsafe_).max()?;
        self.candidates.iter().find(|c| c.unsafe_ == most).map(|c| c.upstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::example::{self, Example};
    use crate::model::place::Residency;
    use crate::model::realm::{Charter, Charters};
    use crate::model::topology::Topology;

    /// One outside the EU, two inside.
    fn topology() -> Topology {
        let of = |provider, seat| Example {
            service: "portal",
            provider,
            seat,
            host: "192.0.2.1",
            port: 80,
        };
        let all = [of("cloudflare", "US"), of("bunny", "SI"), of("trusted", "FR")];
        example::topology(&all)
    }

    /// Of a service whose routes are open to all, and confined to the EU.
    fn realms() -> Realms {
        let (mut topology, mut charters) = (topology(), Charters::default());
        for residency in [Residency::Any, Residency::EuOnly] {
            charters.add(&Charter::of(residency)).expect("few");
        }
        topology.settle(&Charter::default(), &charters);
        topology.pools[0].realms.clone()
    }

    fn wish(upstream: usize, safe: u16, unsafe_: u16) -> Wish {
        Wish {
            upstream: UpstreamId::new(upstream),
            safe: Permille::new(safe).expect("share"),
            unsafe_: Permille::new(unsafe_).expect("share"),
            rescue: Rescue::Takes,
            place: Place::Standby,
        }
    }

    fn plan(wishes: Vec<Wish>) -> PoolPlan {
        PoolPlan::new(realms().whole(), PoolMode::Normal, wishes)
    }

    #[test]
    fn a_ticket_finds_the_candidate_whose_share_holds_it() {
        let plan = plan(vec![wish(0, 10, 0), wish(1, 990, 1000)]);
        assert_eq!(plan.pick(MethodClass::Safe, 9), Some(0));
        assert_eq!(plan.pick(MethodClass::Safe, 10), Some(1));
        assert_eq!(plan.pick(MethodClass::Unsafe, 0), Some(1));
        assert_eq!(plan.pick(MethodClass::Unsafe, 999), Some(1));
        assert_eq!(plan.first(), Some(UpstreamId::new(1)));
    }

    #[test]
    fn a_closed_pool_has_no_candidate() {
        let plan = PoolPlan::closed();
        assert_eq!(plan.pick(MethodClass::Safe, 0), None);
        assert_eq!(plan.first(), None);
    }

    #[test]
    fn a_standby_takes_the_last_tickets_and_no_other() {
        let share = Permille::from_fraction(0.01);
        let plan = plan(vec![wish(0, 1000, 1000), wish(1, 0, 0)]);
        let plan = plan.with_standby(Some(Standby { place: 1, share }));
        assert_eq!((plan.aside(989), plan.aside(990), plan.aside(999)), (None, Some(1), Some(1)));
        assert_eq!(plan.with_standby(None).aside(999), None);
    }

    #[test]
    fn a_plan_with_somebody_whom_its_realm_does_not_admit_is_closed() {
        let realms = realms();
        let inside = &realms.narrower()[1];
        for stray in [vec![wish(0, 1000, 1000)], vec![wish(1, 1000, 1000), wish(0, 0, 0)]] {
            let plan = PoolPlan::new(inside, PoolMode::FailOpen, stray);
            assert_eq!(plan, PoolPlan::closed());
        }
        let plan = PoolPlan::new(inside, PoolMode::Normal, vec![wish(2, 1000, 1000)]);
        assert_eq!(plan.first(), Some(UpstreamId::new(2)));
    }

    #[test]
    fn a_plan_cannot_pass_for_that_of_a_narrower_realm() {
        let open = plan(vec![wish(0, 1000, 1000), wish(1, 0, 0)]);
        let passed = open.clone().with_confined(&realms(), vec![open.clone(), open.clone()]);
        assert_eq!(passed.of_realms(), [open, PoolPlan::closed()]);
    }

    #[test]
    fn a_part_cannot_bring_in_somebody_either() {
        let open = plan(vec![wish(0, 1000, 1000)]);
        let slice = Slice::Class(MethodClass::Safe);
        let stray = open.clone().with_confined(&realms(), vec![open.clone(), PoolPlan::closed()]);
        let loose = PoolPlan { confined: vec![open.clone(), open.clone()], ..open.clone() };
        for (part, kept) in [(stray.clone(), stray), (loose, PoolPlan::closed())] {
            let whole = open.clone().with_parts(&realms(), vec![(slice, part)]);
            assert_eq!(whole.parts(), [(slice, kept)]);
        }
    }

    #[test]
    fn the_requests_of_a_realm_that_is_not_there_are_closed() {
        let (mut charters, open) = (Charters::default(), plan(vec![wish(0, 1000, 1000)]));
        for residency in [Residency::Any, Residency::EuOnly] {
            charters.add(&Charter::of(residency)).expect("few");
        }
        assert_eq!(open.of_realm(RealmId::WHOLE), &open);
        assert_eq!(open.of_realm(charters.realm(1)), &PoolPlan::closed());
    }
}
