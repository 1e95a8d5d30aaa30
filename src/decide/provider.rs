//! One provider's machine: does it fail for everyone?
//!
//! ```text
//!             Tripped by two services within 10 s, nobody well there
//!   Steady ──────────────────────────────────────────────────────────▶ Demoted
//!     ▲                                                                   │
//!     └───────────────────────────────────────────────────────────────────┘
//!             every service that witnessed it has let it back in
//! ```
//!
//! In: ejections that blame the provider, and how services fare there. Out: who is demoted. While it
//! lasts, every service that has another upstream leaves the provider, also those whose own scores
//! have seen nothing yet, and only its witnesses try it again. No probe is asked: in the outage that
//! matters probes are green.
//!
//! Not here: the leaving itself ([`super::pool`]).

use std::time::{Duration, Instant};

use crate::model::health::{IncidentEdge, ProviderHealth, Transition};
use crate::model::id::{Label, ProviderId};
use crate::model::topology::Topology;
use crate::model::unit::Permille;

/// Trips within this time are one outage.
const TOGETHER: Duration = Duration::from_secs(10);
/// Services that must trip.
const WITNESSES: usize = 2;
/// Attempts of the last ten seconds by which a service is known to be well at the provider.
const ENOUGH: f64 = 20.0;
/// Below this failing share it is well.
const WELL: u16 = 50;
/// Witnesses remembered of one provider: when two are enough, more say nothing new.
const MOST_WITNESSES: usize = 64;

/// Every provider, by `ProviderId`.
#[derive(Debug, Default)]
pub struct Providers(Vec<Provider>);

#[derive(Debug)]
struct Provider {
    name: Label,
    health: ProviderHealth,
    /// Services that tripped on it, and when they did last.
    trips: Vec<(Label, Instant)>,
}

/// How one service fares at a provider now.
#[derive(Clone, Copy, Debug)]
pub struct Presence<'a> {
    /// Which service.
    pub service: &'a Label,
    /// Where it has an upstream.
    pub provider: ProviderId,
    /// Attempts of the last ten seconds.
    pub attempts: f64,
    /// Of which so many failed.
    pub failing: Permille,
    /// Whether the service has left it.
    pub stay: Stay,
}

/// Whether a service is at a provider.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stay {
    /// It sends requests there, or would.
    In,
    /// It took the provider's upstream out, or tries it with a trickle.
    Out,
}

impl Providers {
    /// For another topology; what is known under the same name is kept.
    pub fn adopt(&mut self, topology: &Topology) {
        let mut known = std::mem::take(&mut self.0);
        self.0.extend(topology.providers.iter().map(|provider| {
            let same = known.iter().position(|old| old.name == provider.name);
            same.map_or_else(|| Provider::new(&provider.name), |place| known.swap_remove(place))
        }));
    }

    /// A service took the provider's upstream out, by its own score and with blame.
    pub fn tripped(&mut self, provider: ProviderId, service: &Label, at: Instant) {
        let Some(provider) = self.0.get_mut(provider.index()) else { return };
        match provider.trips.iter().position(|(known, _)| known == service) {
            Some(place) => provider.trips[place].1 = at,
            None if provider.trips.len() < MOST_WITNESSES => {
                provider.trips.push((service.clone(), at));
            }
            None => {}
        }
    }

    /// Whether anybody has to be looked at.
    pub fn is_concerned(&self) -> bool {
        self.0.iter().any(|provider| !provider.trips.is_empty())
    }

    /// Moves every machine, by how services fare; the providers that were demoted just now.
    pub fn decide(
        &mut self,
        presences: &[Presence<'_>],
        now: Instant,
        out: &mut Vec<Transition>,
    ) -> Vec<ProviderId> {
        let mut demoted = Vec::new();
        for (index, provider) in self.0.iter_mut().enumerate() {
            let id = ProviderId::new(index);
            let here = presences.iter().filter(|presence| presence.provider == id);
            let before = provider.health;
            provider.step(here, now);
            let (edge, witnesses) = match (before, provider.health) {
                (ProviderHealth::Steady, ProviderHealth::Demoted { witnesses, .. }) => {
                    demoted.push(id);
                    (IncidentEdge::Raised, witnesses)
                }
                (ProviderHealth::Demoted { witnesses, .. }, ProviderHealth::Steady) => {
                    (IncidentEdge::Ended, witnesses)
                }
                (ProviderHealth::Steady, ProviderHealth::Steady)
                | (ProviderHealth::Demoted { .. }, ProviderHealth::Demoted { .. }) => continue,
            };
            out.push(Transition::Provider { provider: id, edge, witnesses, at: now });
        }
        demoted
    }

    /// What we believe of a provider.
    pub fn health(&self, provider: ProviderId) -> ProviderHealth {
        self.0.get(provider.index()).map_or(ProviderHealth::Steady, |provider| provider.health)
    }

    /// Whether this service is to wait until others have let the provider back in.
    pub fn holds_back(&self, provider: ProviderId, service: &Label) -> bool {
        let known = self.0.get(provider.index());
        known.is_some_and(|provider| match provider.health {
            ProviderHealth::Steady => false,
            ProviderHealth::Demoted { .. } => {
                provider.trips.iter().all(|(witness, _)| witness != service)
            }
        })
    }
}

impl Provider {
    fn new(name: &Label) -> Self {
        Self { name: name.clone(), health: ProviderHealth::Steady, trips: Vec::new() }
    }

    fn step<'a>(&mut self, mut here: impl Iterator<Item = &'a Presence<'a>> + Clone, now: Instant) {
        match self.health {
            ProviderHealth::Steady => {
                self.trips.retain(|(_, at)| now <= *at + TOGETHER);
                let is_well = |presence: &Presence<'_>| {
                    presence.stay == Stay::In
                        && presence.attempts >= ENOUGH
                        && presence.failing.get() < WELL
                };
                if self.trips.len() >= WITNESSES && !here.any(is_well) {
                    let witnesses = self.trips.len() as u32;
                    self.health = ProviderHealth::Demoted { since: now, witnesses };
                }
            }
            ProviderHealth::Demoted { .. } => {
                let is_out = |witness: &Label| {
                    here.clone().any(|p| p.service == witness && p.stay == Stay::Out)
                };
                if !self.trips.iter().any(|(witness, _)| is_out(witness)) {
                    *self = Self::new(&self.name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::world::{start, three};

    const FIRST: ProviderId = ProviderId::new(0);

    fn label(text: &str) -> Label {
        Label::new(text).expect("a label")
    }

    fn presence(service: &Label, failing: f64, stay: Stay) -> Presence<'_> {
        let failing = Permille::from_fraction(failing);
        Presence { service, provider: FIRST, attempts: 100.0, failing, stay }
    }

    fn providers() -> Providers {
        let mut providers = Providers::default();
        providers.adopt(&three());
        providers
    }

    #[test]
    fn two_services_demote_a_provider_and_one_that_is_well_there_vetoes() {
        let (now, mut out) = (start(), Vec::new());
        let (a, b, c) = (label("a"), label("b"), label("c"));
        for (failing, demoted) in [(0.0, false), (0.04, false), (0.5, true)] {
            let mut providers = providers();
            providers.tripped(FIRST, &a, now);
            providers.tripped(FIRST, &a, now);
            let here = [
                presence(&a, 1.0, Stay::Out),
                presence(&b, 1.0, Stay::Out),
                presence(&c, failing, Stay::In),
            ];
            assert!(providers.decide(&here, now, &mut out).is_empty(), "one service is not two");
            providers.tripped(FIRST, &b, now + TOGETHER);
            let found = providers.decide(&here, now + TOGETHER, &mut out);
            assert_eq!(!found.is_empty(), demoted, "{failing}");
        }
    }

    #[test]
    fn trips_far_apart_are_not_one_outage() {
        let (now, mut out) = (start(), Vec::new());
        let mut providers = providers();
        providers.tripped(FIRST, &label("a"), now);
        let later = now + TOGETHER + Duration::from_secs(1);
        providers.tripped(FIRST, &label("b"), later);
        assert!(providers.decide(&[], later, &mut out).is_empty());
    }

    #[test]
    fn a_demotion_ends_when_every_witness_is_back_and_holds_back_the_others_until_then() {
        let (now, mut out) = (start(), Vec::new());
        let (a, b, quiet) = (label("a"), label("b"), label("quiet"));
        let mut providers = providers();
        providers.tripped(FIRST, &a, now);
        providers.tripped(FIRST, &b, now);
        let both_out = [presence(&a, 1.0, Stay::Out), presence(&b, 1.0, Stay::Out)];
        assert_eq!(providers.decide(&both_out, now, &mut out), [FIRST]);
        assert!(providers.holds_back(FIRST, &quiet) && !providers.holds_back(FIRST, &a));

        let one_back = [presence(&a, 0.0, Stay::In), presence(&b, 1.0, Stay::Out)];
        providers.decide(&one_back, now, &mut out);
        assert_ne!(providers.health(FIRST), ProviderHealth::Steady);
        let both_back = [presence(&a, 0.0, Stay::In), presence(&b, 0.0, Stay::In)];
        providers.decide(&both_back, now, &mut out);
        assert_eq!(providers.health(FIRST), ProviderHealth::Steady);
        assert!(!providers.holds_back(FIRST, &quiet));
        assert_eq!(out.len(), 2, "raised once, ended once");
    }
}
