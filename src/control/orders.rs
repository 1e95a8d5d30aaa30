//! What the operator ordered: taken, taken back, lapsed.
//!
//! In: instructions, with the topology that they must make sense in. Out: the orders that stand, for
//! the detector, for people and for the journal. An order is kept by name: it outlives a reload that
//! takes its target away and brings it back.
//!
//! Not here: what an order does to a plan ([`crate::decide::plan`]).

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::exchange::commands::{Disobeyed, Word};
use crate::model::id::Label;
use crate::model::operator::{Override, StandingOrder, Target};
use crate::model::topology::Topology;

/// Orders that stand at once, at most.
pub const MOST: usize = 1024;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For spans.
    pub now: Instant,
    /// For people.
    pub wall: SystemTime,
}

/// Every order that stands.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    standing: Vec<StandingOrder>,
}

/// What an instruction changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// This order stands now.
    Given(StandingOrder),
    /// This one was taken back.
    TakenBack(StandingOrder),
    /// None stood.
    Nothing,
}

impl Orders {
    /// Those that stood before a restart.
    pub fn resume(standing: Vec<StandingOrder>) -> Self {
        Self { standing }
    }

    /// Does as told.
    ///
    /// # Errors
    /// When the target makes no sense, or when too many orders stand already.
    pub fn take(
        &mut self,
        target: &Target,
        word: &Word,
        topology: &Topology,
        at: Moment,
    ) -> Result<Change, Disobeyed> {
        let place = self.standing.iter().position(|standing| standing.word.target == *target);
        match word {
            Word::Auto => match place {
                // Without asking whether it still exists: an order must always have a way out.
                Some(place) => Ok(Change::TakenBack(self.standing.remove(place))),
                None => sensible(target, topology).map(|()| Change::Nothing),
            },
            Word::Order { order, lasts, reason } => {
                sensible(target, topology)?;
                let word = Override {
                    target: target.clone(),
                    order: *order,
                    until: lasts.map(|lasts| at.now + lasts),
                };
                let lapses = lasts.map(|lasts| at.wall + lasts);
                let given = StandingOrder { word, since: at.wall, lapses, reason: reason.clone() };
                match place {
                    Some(place) => self.standing[place] = given.clone(),
                    None if self.standing.len() >= MOST => return Err(Disobeyed::TooMany(MOST)),
                    None => self.standing.push(given.clone()),
                }
                Ok(Change::Given(given))
            }
        }
    }

    /// Forgets those whose time is over; they are what is returned.
    pub fn lapse(&mut self, now: Instant) -> Vec<StandingOrder> {
        let (standing, lapsed) = std::mem::take(&mut self.standing)
            .into_iter()
            .partition(|standing| standing.word.stands(now));
        self.standing = standing;
        lapsed
    }

    /// As the detector takes them.
    pub fn overrides(&self) -> Vec<Override> {
        self.standing.iter().map(|standing| standing.word.clone()).collect()
    }

    /// For people.
    pub fn all(&self) -> Arc<[StandingOrder]> {
        self.standing.as_slice().into()
    }

    /// Whether any stands.
    pub fn is_empty(&self) -> bool {
        self.standing.is_empty()
    }

    /// Other targets with an order for some upstream of this one, as they are typed.
    pub fn others(&self, target: &Target) -> Vec<String> {
        let overlaps = |other: &Target| {
            other.provider() == target.provider()
                && other != target
                && (other.service().is_none() || target.service().is_none())
        };
        let all = self.standing.iter().map(|standing| &standing.word.target);
        all.filter(|other| overlaps(other)).map(ToString::to_string).collect()
    }
}

/// Whether an order for this target can have an effect.
fn sensible(target: &Target, topology: &Topology) -> Result<(), Disobeyed> {
    let provider = target.provider();
    if topology.providers.iter().all(|known| known.name != *provider) {
        return Err(Disobeyed::NoProvider(provider.clone()));
    }
    let Some(service) = target.service() else { return Ok(()) };
    let Some(pool) = topology.pools.iter().find(|pool| pool.service == *service) else {
        return Err(Disobeyed::NoService(service.clone()));
    };
    if pool.upstreams.iter().any(|up| topology.provider_of(*up).name == *provider) {
        return Ok(());
    }
    let (service, provider) = (service.clone(), provider.clone());
    if let Some(barred) = pool.barred.iter().find(|barred| barred.provider == provider) {
        return Err(Disobeyed::Barred { service, provider, because: barred.because.clone() });
    }
    Err(Disobeyed::NotThrough { service, provider })
}

/// Services within reach of a target whose residency keeps the provider out.
pub fn barred(target: &Target, topology: &Topology) -> Vec<Label> {
    let pools = topology.pools.iter();
    let meant = pools.filter(|pool| target.service().is_none_or(|named| *named == pool.service));
    let bars = meant.filter(|p| p.barred.iter().any(|b| b.provider == *target.provider()));
    bars.map(|pool| pool.service.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;
    use crate::model::example::{self, Example, label};
    use crate::model::operator::Order;
    use crate::model::place::{Jurisdiction, Residency};
    use crate::model::topology::Barred;

    fn topology() -> Topology {
        let of = |service, provider| Example {
            service,
            provider,
            seat: "SI",
            host: "192.0.2.1",
            port: 80,
        };
        let mut topology = example::topology(&[of("portal", "bunny"), of("forms", "gcore")]);
        topology.pools[1].residency = Residency::EuOnly;
        topology.pools[1].barred.push(Barred {
            provider: label("bunny"),
            jurisdiction: Jurisdiction::NonEu,
            because: "it serves from US".into(),
        });
        topology
    }

    fn moment() -> Moment {
        Moment { now: clock::now(), wall: clock::wall() }
    }

    fn upstream(service: &str, provider: &str) -> Target {
        Target::Upstream { service: label(service), provider: label(provider) }
    }

    fn out(seconds: u64) -> Word {
        let lasts = Some(Duration::from_secs(seconds));
        Word::Order { order: Order::ForceOut, lasts, reason: "maintenance".into() }
    }

    #[test]
    fn an_order_is_given_replaced_taken_back_and_lapses() {
        let (topology, at) = (topology(), moment());
        let mut orders = Orders::default();
        let target = Target::Provider(label("bunny"));
        for seconds in [60, 120] {
            orders.take(&target, &out(seconds), &topology, at).expect("it makes sense");
        }
        assert_eq!(orders.all().len(), 1, "the second one replaced the first");
        orders.take(&upstream("portal", "bunny"), &out(30), &topology, at).expect("sense");
        assert_eq!(orders.others(&target), ["portal/bunny"]);
        assert_eq!(orders.others(&upstream("portal", "bunny")), ["bunny"]);

        let lapsed = orders.lapse(at.now + Duration::from_secs(60));
        assert_eq!(lapsed.len(), 1);
        assert_eq!(lapsed[0].word.target, upstream("portal", "bunny"));
        let back = orders.take(&target, &Word::Auto, &topology, at).expect("it stands");
        assert!(matches!(back, Change::TakenBack(order) if &*order.reason == "maintenance"));
        assert_eq!(orders.take(&target, &Word::Auto, &topology, at), Ok(Change::Nothing));
        assert!(orders.is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_reason() {
        let table = [
            (Target::Provider(label("bunnny")), "there is no provider bunnny"),
            (upstream("shop", "bunny"), "there is no service shop"),
            (upstream("portal", "gcore"), "service portal does not go through gcore"),
            (
                upstream("forms", "bunny"),
                "forms may not go through bunny, for it serves from US; no order changes that",
            ),
        ];
        for (target, says) in table {
            for word in [out(60), Word::Auto] {
                let refused = Orders::default().take(&target, &word, &topology(), moment());
                assert_eq!(refused.expect_err(says).to_string(), says);
            }
        }
        assert_eq!(barred(&Target::Provider(label("bunny")), &topology()), [label("forms")]);
    }

    #[test]
    fn an_order_whose_target_is_gone_can_still_be_taken_back() {
        let mut orders = Orders::default();
        let target = Target::Provider(label("bunny"));
        orders.take(&target, &out(60), &topology(), moment()).expect("it makes sense");
        let back = orders.take(&target, &Word::Auto, &Topology::default(), moment());
        assert!(matches!(back, Ok(Change::TakenBack(_))));
    }
}
