//! Whether it hangs on the spelling of a path who may carry a request, where no request can be refused for it.

use super::Service;
use crate::model::id::PoolId;
use crate::model::topology::{Route, Topology};
use crate::model::ways::Divided;

/// Routes named in one complaint.
const MOST_NAMED: usize = 3;

/// What of a service another spelling would let out.
pub(super) fn service(service: &Service<'_>, id: PoolId, divided: &Divided<'_>) {
    if let Some(loose) = loose(service.topology, divided, id) {
        let what = format!("the spelling of a path decides who may carry {loose}");
        let mend = "to a server that ignores capitals, or a last slash, another spelling is the same, and other \
                    routes of the host would let others carry it; give it a host of its own";
        service.warn(service.places.name, &what, mend);
    }
}

/// Routes of a service that keep providers out whom another spelling would let in, as `host/prefix`.
fn loose(topology: &Topology, divided: &Divided<'_>, pool: PoolId) -> Option<String> {
    if divided.is_empty() {
        return None;
    }
    let is_loose = |route: &&Route| {
        let Some(own) = topology.charter_of(route) else { return false };
        let is_spelt = route.prefix.contains(|it: char| it.is_ascii_alphabetic());
        is_spelt && divided.beside(route).iter().any(|other| !other.keeps_out_at_least(own))
    };
    let loose = topology.routes.iter().filter(|route| route.pool == pool).filter(is_loose);
    let names: Vec<String> =
        loose.map(|route| format!("`{}{}`", route.host, route.prefix)).collect();
    let rest = names.len().saturating_sub(MOST_NAMED);
    let named = names.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    match rest {
        _ if names.is_empty() => None,
        0 => Some(named),
        _ => Some(format!("{named} and {rest} more")),
    }
}
