//! Whether what a client proves itself with is told to more than one.

use crate::model::id::UpstreamId;
use crate::model::topology::{HeaderRule, Pool, Topology};

/// Fields that prove who asks.
const CREDENTIALS: [&str; 7] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "api-key",
    "x-auth-token",
    "x-goog-api-key",
];

/// Upstreams that are sent a client's own credential where others of the pool are not, with its name.
/// The first choice is whom the client means; whoever comes after it may be another company.
pub(super) fn leaks<'a>(topology: &'a Topology, pool: &Pool) -> Vec<(UpstreamId, &'a str)> {
    let rule = |id: &UpstreamId| &topology.upstream(*id).endpoint.headers;
    let mut found = Vec::new();
    for name in CREDENTIALS {
        if !pool.upstreams.iter().any(|id| changes(rule(id), name)) {
            continue;
        }
        let fallbacks = pool.upstreams.iter().skip(1);
        let told = fallbacks.filter(|id| !changes(rule(id), name));
        found.extend(told.map(|id| (*id, name)));
    }
    found
}

fn changes(rule: &HeaderRule, name: &str) -> bool {
    let set = rule.set.iter().map(|(set, _)| set);
    set.chain(&rule.remove).any(|changed| changed.as_str() == name)
}
