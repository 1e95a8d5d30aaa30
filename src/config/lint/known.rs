//! What the catalogue of known providers has to say about a valid configuration: where the file speaks
//! against it, and where a service rests on what is not independent, or not as much in the EU as it
//! looks. Warnings only: the file counts, and the catalogue may be wrong.

use super::Service;
use crate::config::catalogue::{self, Known, Shared, Sure};
use crate::config::complaint::Complaints;
use crate::config::lower::Places;
use crate::model::id::UpstreamId;
use crate::model::place::{Jurisdiction, Residency};
use crate::model::topology::{Provider, ProviderKind, Topology};

/// What the catalogue knows of a provider; nothing of somebody's own server.
fn known(provider: &Provider) -> Option<&'static Known> {
    let is_edge = provider.kind == ProviderKind::Edge;
    catalogue::known(provider.name.as_str()).filter(|_| is_edge)
}

/// Seats that the file gives and the catalogue has otherwise.
pub(super) fn seats(topology: &Topology, places: &Places, complaints: &Complaints) {
    for (provider, place) in topology.providers.iter().zip(&places.providers) {
        let (Some(known), Some(place)) = (known(provider), place.seat) else { continue };
        if known.seat == provider.seat {
            continue;
        }
        let (entity, seat) = (&known.sheet.entity.is, &known.sheet.seat);
        let what = format!(
            "provider `{}` has its seat in {} by this file, and in {} by the catalogue ({entity}; {})",
            provider.name,
            provider.seat,
            known.seat,
            seat.sure.as_str()
        );
        let mend = "the file counts, and decides what is in the EU; look at who signed your contract, and give \
                    another name to what is another company";
        complaints.warning(place, what, mend);
    }
}

/// What the catalogue knows of one service's ways.
pub(super) fn service(service: &Service<'_>, places: &Places) {
    shared(service, places);
    europe(service, places);
}

/// Ways that share something, where the file does not say so itself.
fn shared(service: &Service<'_>, places: &Places) {
    let ids = service.pool.upstreams.as_slice();
    for (number, a) in ids.iter().enumerate() {
        for b in &ids[number + 1..] {
            let (of_a, of_b) = (service.topology.provider_of(*a), service.topology.provider_of(*b));
            let (Some(known_a), Some(known_b)) = (known(of_a), known(of_b)) else { continue };
            let said = |id: &UpstreamId| {
                let provider = service.topology.upstream(*id).provider;
                places.providers.get(provider.index()).is_some_and(|p| p.substrate.is_some())
            };
            let together = service.topology.share_fate(*a, *b);
            if together && said(a) && said(b) {
                continue;
            }
            let common = known_a.shares_with(known_b).or_else(|| known_b.shares_with(known_a));
            let Some(common) = common else { continue };
            let (what, mend) = words(common, together, (&of_a.name, &of_b.name));
            service.warn(service.places.name, &what, mend);
        }
    }
}

fn words<N: std::fmt::Display>(
    common: Shared<'_>,
    together: bool,
    (a, b): (N, N),
) -> (String, &'static str) {
    match (common, together) {
        (Shared::Known(on), true) => (
            format!(
                "`{a}` and `{b}` share the substrate `{on}` by the catalogue, and count as one"
            ),
            "they may fail together; for a fallback that does not, add one that shares nothing with them",
        ),
        (Shared::Known(on), false) => (
            format!("`{a}` and `{b}` count as independent, and share `{on}` by the catalogue"),
            "they may fail together, and be taken for two witnesses of a fault of the origin; leave `substrate` \
             out, or add the common one to both",
        ),
        (Shared::Perhaps(on), _) => (
            format!("`{a}` and `{b}` may share `{on}` (unverified)"),
            "if so they fail together; ask them, then say what is true by `substrate` at both",
        ),
    }
}

/// Whether what is to stay in the EU rests on somebody who is there for certain.
fn europe(service: &Service<'_>, places: &Places) {
    let in_eu =
        |id: &&UpstreamId| service.topology.provider_of(**id).jurisdiction == Jurisdiction::Eu;
    let ids = service.pool.upstreams.as_slice();
    let fallbacks = ids.get(1..).unwrap_or_default();
    if let [only] = fallbacks.iter().filter(in_eu).collect::<Vec<_>>().as_slice() {
        let provider = service.topology.upstream(**only).provider;
        let at = places.providers.get(provider.index());
        // Whoever says it in the file has thought of it.
        if at.is_none_or(|places| places.subject_to.is_none()) {
            reach(service, service.topology.provider(provider));
        }
    }
    if service.pool.residency == Residency::Any {
        return;
    }
    for id in ids.iter().filter(in_eu) {
        let upstream = service.topology.upstream(*id);
        let said = places.providers.get(upstream.provider.index()).is_none_or(|p| p.seat.is_some());
        let provider = service.topology.provider(upstream.provider);
        let unverified = known(provider).filter(|k| k.sheet.seat.sure == Sure::Unverified);
        if let Some(known) = unverified.filter(|_| !said) {
            let what = format!(
                "`{}` counts as in the EU by a seat ({}) that the catalogue has not verified",
                provider.name, known.seat
            );
            let mend =
                "residency rests on it; look at who signed your contract, then write its `seat`";
            service.warn(service.places.name, &what, mend);
        }
    }
}

/// The one fallback in the EU, where a law from outside may reach it.
fn reach(service: &Service<'_>, provider: &Provider) {
    let Some(known) = known(provider) else { return };
    let codes = |countries: &[crate::model::place::Country]| {
        countries.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let (whose, how) = match (known.subject_to.as_slice(), known.disputed.as_slice()) {
        ([], []) => return,
        ([], disputed) => (codes(disputed), "may reach"),
        (subject, _) => (codes(subject), "is said to reach"),
    };
    let what = format!(
        "its only EU fallback is `{}`, whose seat is in the EU and whom a law from outside ({whose}) {how} \
         ({}, no legal advice)",
        provider.name,
        known.sheet.reach.sure.as_str()
    );
    let mend = "have it looked at if that matters to you, or add a fallback of which nothing of the kind is known";
    service.warn(service.places.name, &what, mend);
}
