//! What a configuration can and cannot tell apart, in a few lines for people: shown by `check` and
//! at the start.

use super::Config;
use crate::model::id::UpstreamId;
use crate::model::place::Residency;
use crate::model::topology::{MarkerProof, Pool, ProviderKind, Topology};

/// A few lines for each service.
pub fn lines(config: &Config) -> Vec<String> {
    let topology = &config.topology;
    topology.pools().flat_map(|(_, pool)| service(topology, pool)).collect()
}

fn service(topology: &Topology, pool: &Pool) -> Vec<String> {
    let name = &pool.service;
    vec![
        format!("{name}: {}", ways(topology, pool)),
        format!("{name}: {}", fault(topology, pool)),
        format!("{name}: {}", independence(topology, pool)),
    ]
}

/// Through whom, in which order, under which residency.
fn ways(topology: &Topology, pool: &Pool) -> String {
    let ways: Vec<String> = pool.upstreams.iter().map(|id| way(topology, *id)).collect();
    let order = match pool.residency {
        Residency::Any => "in order of preference",
        Residency::PreferEu => "the EU first once the first is left",
        Residency::EuOnly => "never outside the EU",
    };
    let barred: Vec<&str> = pool.barred.iter().map(|barred| barred.provider.as_str()).collect();
    let barred = match barred.as_slice() {
        [] => String::new(),
        barred => format!("; never through {}", barred.join(", ")),
    };
    match ways.as_slice() {
        [] => format!("through nobody ({order}{barred}): every request gets the page"),
        ways => format!("through {} ({order}{barred})", ways.join(", then ")),
    }
}

fn way(topology: &Topology, id: UpstreamId) -> String {
    let provider = topology.provider_of(id);
    let kind = match provider.kind {
        ProviderKind::Edge => "",
        ProviderKind::Origin => ", the origin itself",
        ProviderKind::Source => ", a source of its own",
    };
    format!("{} ({}{kind})", provider.name, provider.seat)
}

/// Whether the origin's fault can be told from a provider's.
fn fault(topology: &Topology, pool: &Pool) -> String {
    let marker = pool.rules.marker.as_ref().map(|marker| match marker.proof {
        MarkerProof::Value(_) => format!("the marker `{}`", marker.header),
        MarkerProof::Signed(_) => format!("the signed marker `{}`", marker.header),
    });
    let probe = pool.rules.probe.origin.as_ref().map(|_| "the origin's own probe".to_owned());
    let direct = |id: &&UpstreamId| topology.provider_of(**id).kind == ProviderKind::Origin;
    let direct = pool.upstreams.iter().find(direct);
    let direct =
        direct.map(|id| format!("`{}`, which asks it directly", topology.provider_of(*id).name));
    let is_source = |id: &UpstreamId| topology.provider_of(*id).kind == ProviderKind::Source;
    if !pool.upstreams.is_empty() && pool.upstreams.iter().all(is_source) {
        return "takes every failure for its provider's own: no origin stands behind".to_owned();
    }
    let means: Vec<String> = [marker, probe, direct].into_iter().flatten().collect();
    let siblings = pool.upstreams.len() > 1;
    match (means.as_slice(), siblings) {
        ([], false) => "cannot tell the origin's fault from the provider's".to_owned(),
        ([], true) => {
            "tells the origin's fault from a provider's only by asking another provider the same"
                .to_owned()
        }
        (means, _) => {
            format!("tells the origin's fault from a provider's by {}", means.join(" and "))
        }
    }
}

/// How many of the ways can fail apart.
fn independence(topology: &Topology, pool: &Pool) -> String {
    let shared: Vec<String> = pairs(&pool.upstreams)
        .filter(|(a, b)| topology.share_fate(*a, *b))
        .map(|(a, b)| {
            format!("{} and {}", topology.provider_of(a).name, topology.provider_of(b).name)
        })
        .collect();
    match (pool.upstreams.len(), shared.as_slice()) {
        (0 | 1, _) => "has nowhere to go when that fails".to_owned(),
        (count, []) => format!("counts its {count} ways as independent of each other"),
        (_, shared) => format!("counts {} as failing together", shared.join(", ")),
    }
}

/// Every two of them, in order.
fn pairs(ids: &[UpstreamId]) -> impl Iterator<Item = (UpstreamId, UpstreamId)> + '_ {
    ids.iter().enumerate().flat_map(|(at, a)| ids[at + 1..].iter().map(|b| (*a, *b)))
}
