//! Who may carry which requests: decided here and nowhere else, and carried on as a proof.
//!
//! In: the providers of a pool's upstreams and the charters of its routes. Out: a [`Realm`] for each
//! charter, the upstreams that it permits. Nothing but this file makes one, and nothing but a realm
//! makes a [`PoolPlan`](super::plan::PoolPlan) or a [`Candidate`](super::plan::Candidate); a request
//! is sent to candidates only. So whatever decides who serves (failover, fail-open, trickle,
//! experiment, drill, the operator) can choose among the permitted and has no words for anybody else.
//!
//! A realm by hand does not compile:
//!
//! ```compile_fail,E0451
//! use bascule::model::id::UpstreamId;
//! use bascule::model::realm::{Charter, Realm};
//! let realm = Realm { charter: Charter::default(), permitted: vec![UpstreamId::new(0)] };
//! ```
//!
//! Rejected: a pool for each charter. Evidence about one upstream would be split in as many parts,
//! each with its own scores and probes.

use std::sync::Arc;

use super::id::{Label, UpstreamId};
use super::place::{Jurisdiction, Residency};
use super::topology::{Provider, Topology};

/// What may carry the requests of a route.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Charter {
    /// Where.
    pub residency: Residency,
    /// Qualifications that a provider must have, all of them; in order, each once.
    pub require: Vec<Label>,
}

/// Why a provider may not carry something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Bar {
    /// It is not in the EU in each of the three respects.
    Residency,
    /// It lacks this qualification.
    Lacks(Label),
}

impl Bar {
    /// Why the provider is kept out, in words.
    pub fn words(&self, provider: &Provider) -> String {
        match (self, provider.footing.outside) {
            (Self::Residency, Some(outside)) => outside.to_string(),
            (Self::Residency, None) => "it is outside the EU".to_owned(),
            (Self::Lacks(qualification), _) => format!("it lacks {qualification}"),
        }
    }
}

impl Charter {
    /// A residency, and nothing required besides.
    pub fn of(residency: Residency) -> Self {
        Self { residency, require: Vec::new() }
    }

    /// Whether the same providers are kept out; whom it prefers besides is no matter.
    pub fn keeps_out_as(&self, other: &Self) -> bool {
        self.keeps_out_at_least(other) && other.keeps_out_at_least(self)
    }

    /// Whether it keeps out whomever the other one does.
    pub fn keeps_out_at_least(&self, other: &Self) -> bool {
        (self.residency == Residency::EuOnly || other.residency != Residency::EuOnly)
            && other.require.iter().all(|label| self.require.contains(label))
    }

    /// Whether anybody may carry it.
    pub fn is_open(&self) -> bool {
        self.residency.permits(Jurisdiction::NonEu) && self.require.is_empty()
    }

    /// Why the provider may not carry it; `None`: it may.
    pub fn bar(&self, provider: &Provider) -> Option<Bar> {
        if !self.residency.permits(provider.jurisdiction) {
            return Some(Bar::Residency);
        }
        let has = |wanted: &&Label| provider.footing.qualifications.contains(wanted);
        self.require.iter().find(|wanted| !has(wanted)).cloned().map(Bar::Lacks)
    }
}

/// Which of its pool's realms a route belongs to.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct RealmId(u8);

impl RealmId {
    /// Of every route, where all have the same charter.
    pub const WHOLE: Self = Self(0);
    /// Different charters of one pool, at most.
    pub const MOST: usize = 8;

    /// Place among the narrower realms; `None` for the whole.
    pub fn narrower(self) -> Option<usize> {
        usize::from(self.0).checked_sub(1)
    }
}

/// The upstreams of a pool that one charter permits.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Realm {
    charter: Charter,
    permitted: Vec<UpstreamId>,
}

impl Realm {
    /// Whether the upstream may carry what belongs here.
    pub fn admits(&self, upstream: UpstreamId) -> bool {
        self.permitted.contains(&upstream)
    }

    /// What it stands for.
    pub fn charter(&self) -> &Charter {
        &self.charter
    }
}

/// Every realm of a pool. Of a pool that nobody has settled yet: one that admits nobody.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Realms(Arc<All>);

#[derive(Debug, Default, Eq, PartialEq)]
struct All {
    /// Whoever may carry anything.
    whole: Realm,
    /// By charter, where there are several.
    narrower: Vec<Realm>,
}

impl Realms {
    /// Whoever may carry anything of the pool.
    pub fn whole(&self) -> &Realm {
        &self.0.whole
    }

    /// One for each charter, where there are several; else none, and the whole is all there is.
    pub fn narrower(&self) -> &[Realm] {
        &self.0.narrower
    }

    /// The realm of an id; the whole only where that is meant.
    pub fn find(&self, id: RealmId) -> Option<&Realm> {
        match id.narrower() {
            None => Some(self.whole()),
            Some(place) => self.narrower().get(place),
        }
    }

    /// Every realm with its id, the whole first.
    pub fn all(&self) -> impl Iterator<Item = &Realm> {
        std::iter::once(self.whole()).chain(self.narrower())
    }

    /// The realms that some route belongs to, as plans are listed by
    /// [`of_realms`](super::plan::PoolPlan::of_realms).
    pub fn in_use(&self) -> &[Realm] {
        if self.0.narrower.is_empty() {
            std::slice::from_ref(&self.0.whole)
        } else {
            &self.0.narrower
        }
    }

    fn of(own: &Charter, charters: &[Charter], members: &[(UpstreamId, &Provider)]) -> Self {
        let realm = |charter: &Charter| Realm {
            charter: charter.clone(),
            permitted: (members.iter())
                .filter(|(_, provider)| charter.bar(provider).is_none())
                .map(|(id, _)| *id)
                .collect(),
        };
        let narrower: Vec<Realm> = match charters {
            [] | [_] => Vec::new(),
            several => several.iter().map(realm).collect(),
        };
        let whole = match charters {
            [] => realm(own),
            [only] => realm(only),
            // Ordered by the service's own wish; who may carry nothing is not in it.
            _ => Realm {
                charter: own.clone(),
                permitted: (members.iter().map(|(id, _)| *id))
                    .filter(|id| narrower.iter().any(|realm| realm.admits(*id)))
                    .collect(),
            },
        };
        Self(Arc::new(All { whole, narrower }))
    }
}

/// The different charters of a pool's routes, in the order in which they are first met.
#[derive(Clone, Debug, Default)]
pub struct Charters(Vec<Charter>);

impl Charters {
    /// The id that a route of this charter gets once all are known; `None`: there are too many.
    pub fn add(&mut self, charter: &Charter) -> Option<usize> {
        if let Some(place) = self.0.iter().position(|known| known == charter) {
            return Some(place);
        }
        if self.0.len() == RealmId::MOST {
            return None;
        }
        self.0.push(charter.clone());
        Some(self.0.len() - 1)
    }

    /// All of them.
    pub fn all(&self) -> &[Charter] {
        &self.0
    }

    /// Where the route of the charter at a place belongs.
    pub fn realm(&self, place: usize) -> RealmId {
        // At most `MOST` of them.
        if self.0.len() < 2 { RealmId::WHOLE } else { RealmId(place as u8 + 1) }
    }
}

impl Topology {
    /// Settles who may carry which requests of the last pool: what its routes' charters permit, of the
    /// upstreams that it lists. Whoever may carry nothing is listed no more.
    pub fn settle(&mut self, own: &Charter, charters: &Charters) {
        let Self { providers, upstreams, pools, .. } = self;
        let Some(pool) = pools.last_mut() else { return };
        let provider = |id: UpstreamId| providers.get(upstreams.get(id.index())?.provider.index());
        let members: Vec<_> =
            pool.upstreams.iter().filter_map(|id| Some((*id, provider(*id)?))).collect();
        pool.realms = Realms::of(own, charters.all(), &members);
        let whole = pool.realms.whole();
        pool.upstreams.retain(|id| whole.admits(*id));
    }

    /// The same where each pool goes by its residency alone.
    #[must_use]
    pub fn settled(mut self) -> Self {
        for pool in std::mem::take(&mut self.pools) {
            let own = Charter::of(pool.residency);
            self.pools.push(pool);
            self.settle(&own, &Charters::default());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::example::{self, Example, label};

    fn topology() -> Topology {
        let of = |provider, seat| Example {
            service: "portal",
            provider,
            seat,
            host: "192.0.2.1",
            port: 80,
        };
        let all = [of("cloudflare", "US"), of("bunny", "SI"), of("trusted", "FR")];
        let mut topology = example::topology(&all);
        topology.providers[2].footing.qualifications = vec![label("SecNumCloud")];
        topology
    }

    fn charters(all: &[Charter]) -> Charters {
        let mut charters = Charters::default();
        for charter in all {
            charters.add(charter).expect("few");
        }
        charters
    }

    fn permitted(realm: &Realm) -> Vec<usize> {
        (0..3).filter(|index| realm.admits(UpstreamId::new(*index))).collect()
    }

    #[test]
    fn each_charter_permits_whom_it_permits() {
        let require = |residency| Charter { residency, require: vec![label("SecNumCloud")] };
        let all = [
            (Charter::of(Residency::Any), vec![0, 1, 2]),
            (Charter::of(Residency::PreferEu), vec![0, 1, 2]),
            (Charter::of(Residency::EuOnly), vec![1, 2]),
            (require(Residency::Any), vec![2]),
            (require(Residency::EuOnly), vec![2]),
        ];
        let listed: Vec<Charter> = all.iter().map(|(charter, _)| charter.clone()).collect();
        let (mut topology, charters) = (topology(), charters(&listed));
        topology.settle(&listed[0], &charters);
        let realms = &topology.pools[0].realms;
        for (place, (charter, who)) in all.iter().enumerate() {
            let realm = realms.find(charters.realm(place)).expect("each has its realm");
            assert_eq!((realm.charter(), &permitted(realm)), (charter, who));
        }
        assert_eq!(permitted(realms.whole()), [0, 1, 2]);
    }

    #[test]
    fn who_may_carry_nothing_of_the_pool_is_not_in_it() {
        let mut topology = topology();
        let eu_only = Charter::of(Residency::EuOnly);
        topology.settle(&Charter::default(), &charters(std::slice::from_ref(&eu_only)));
        let pool = &topology.pools[0];
        assert_eq!(pool.upstreams, [UpstreamId::new(1), UpstreamId::new(2)]);
        assert_eq!(pool.realms.whole().charter(), &eu_only, "the one charter that routes have");
        assert!(pool.realms.narrower().is_empty());
    }

    #[test]
    fn a_pool_that_nobody_settled_admits_nobody() {
        assert!(permitted(Realms::default().whole()).is_empty());
        assert_eq!(Realms::default().find(RealmId(3)), None);
    }

    #[test]
    fn there_are_no_more_charters_than_have_a_plan() {
        let mut charters = Charters::default();
        let named = |n: usize| Charter {
            residency: Residency::Any,
            require: vec![label(&format!("q{n}"))],
        };
        for n in 0..RealmId::MOST {
            assert_eq!(charters.add(&named(n)), Some(n));
        }
        assert_eq!(charters.add(&named(99)), None);
        assert_eq!(charters.add(&named(3)), Some(3), "one that is known is no further one");
    }
}
