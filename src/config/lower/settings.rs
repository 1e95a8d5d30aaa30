//! Limits, names, trust and workers.

use ipnet::IpNet;

use super::context::{Bounds, Context};
use crate::config::Resolver;
use crate::config::complaint::Place;
use crate::config::raw::{RawLimits, RawResolver};
use crate::config::tree::At;
use crate::config::values;
use crate::model::limits::Limits;

/// Networks of trusted proxies that one file may name.
const MAX_TRUSTED: usize = 1_000;
/// Name servers that are asked.
const MAX_SERVERS: usize = 8;

pub(super) fn limits(context: &Context<'_>, raw: Option<At<RawLimits>>) -> Limits {
    let base = Limits::default();
    let Some(RawLimits {
        max_connections,
        header_read_timeout,
        max_header_bytes,
        max_request_body,
        idle_timeout,
        drain,
    }) = raw.and_then(|raw| raw.value)
    else {
        return base;
    };
    let max_connections = context.number(
        "max_connections",
        max_connections,
        Bounds { least: 1, most: 1_000_000, why: "none would serve nobody, and memory has an end" },
        base.max_connections as u32,
    );
    let max_header_bytes = context.size(
        "max_header_bytes",
        max_header_bytes,
        Bounds {
            least: "8KiB",
            most: "1MiB",
            why: "ordinary requests need 8KiB, and each connection may hold this much",
        },
        base.max_header_bytes as u64,
    );
    Limits {
        max_connections: max_connections as usize,
        header_read_timeout: context.duration(
            "header_read_timeout",
            header_read_timeout,
            Bounds {
                least: "100ms",
                most: "10m",
                why: "clients need some time, and a slow one must not stay for ever",
            },
            base.header_read_timeout,
        ),
        max_header_bytes: max_header_bytes as usize,
        max_request_body: context.size(
            "max_request_body",
            max_request_body,
            Bounds {
                least: "0B",
                most: "1TiB",
                why: "a body without an end holds an upstream for ever",
            },
            base.max_request_body,
        ),
        idle_timeout: context.duration(
            "idle_timeout",
            idle_timeout,
            Bounds {
                least: "1s",
                most: "1h",
                why: "a connection needs time for its next request, and an idle one costs memory",
            },
            base.idle_timeout,
        ),
        drain: context.duration(
            "drain",
            drain,
            Bounds { least: "0s", most: "1h", why: "a shutdown has to end" },
            base.drain,
        ),
    }
}

pub(super) fn resolver(context: &Context<'_>, raw: Option<At<RawResolver>>) -> Resolver {
    let default = Resolver::default();
    let Some(RawResolver { servers, stale }) = raw.and_then(|raw| raw.value) else {
        return default;
    };
    let stale = context.duration(
        "stale",
        stale,
        Bounds { least: "0s", most: "720h", why: "an address older than a month is a guess" },
        default.stale,
    );
    let Some(listed) = servers else { return Resolver { stale, ..default } };
    let entries = listed.value.unwrap_or_default();
    let is_system = |entry: &At<String>| entry.value.as_deref() == Some("system");
    if entries.len() > 1 && entries.iter().any(is_system) {
        context.complaints.error(
            listed.place,
            "`system` stands beside other servers",
            "the system has servers of its own; name `system` alone or servers alone",
        );
    }
    if entries.len() > MAX_SERVERS {
        let mend = format!("more than {MAX_SERVERS} would only be asked in vain; name fewer");
        context.complaints.error(listed.place, "too many name servers", &mend);
    }
    let named = entries.iter().filter(|entry| !is_system(entry));
    let servers = named.filter_map(|at| context.parsed("servers", at, values::name_server));
    Resolver { servers: servers.collect(), stale }
}

pub(super) fn trusted(
    context: &Context<'_>,
    raw: Option<At<Vec<At<String>>>>,
    places: &mut Vec<Place>,
) -> Vec<IpNet> {
    let Some(raw) = raw else { return Vec::new() };
    let entries = raw.value.unwrap_or_default();
    if entries.len() > MAX_TRUSTED {
        let mend =
            format!("at most {MAX_TRUSTED} are looked through for each connection; join some");
        context.complaints.error(raw.place, "too many trusted proxies", &mend);
    }
    let mut networks = Vec::with_capacity(entries.len());
    for at in &entries {
        if let Some(network) = context.parsed("trusted_proxies", at, values::network) {
            networks.push(network);
            places.push(at.place);
        }
    }
    networks
}

/// At least one; `cores` for 0.
pub(super) fn workers(context: &Context<'_>, raw: Option<At<u16>>, cores: usize) -> usize {
    let bounds =
        Bounds { least: 0, most: 256, why: "each is a thread with connections of its own" };
    match context.number("workers", raw, bounds, 0) {
        0 => cores.max(1),
        workers => workers.into(),
    }
}
