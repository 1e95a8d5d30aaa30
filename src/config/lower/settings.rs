//! Limits, names, control targets, trust and workers.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::context::{Bounds, Context};
use super::upstream;
use crate::config::Resolver;
use crate::config::complaint::Place;
use crate::config::raw::{RawAccessLog, RawLimits, RawLineFormat, RawResolver, RawShare};
use crate::config::tree::At;
use crate::config::{server, values};
use crate::model::access_log::{AccessLog, LineFormat, Target};
use crate::model::control_target::ControlTarget;
use crate::model::limits::{Limits, PerClient};
use crate::model::name_server::NameServer;
use crate::model::topology::EndpointHost;
use crate::model::unit::Permille;

/// Networks of trusted proxies that one file may name.
const MAX_TRUSTED: usize = 1_000;
/// Control targets: all are asked every few seconds, and a few prove as much as many.
const MAX_TARGETS: usize = 16;
/// Name servers that are asked.
const MAX_SERVERS: usize = 8;

const CONNECTIONS: Bounds<u32> =
    Bounds { least: 1, most: 1_000_000, why: "none would serve nobody, and memory has an end" };
const PER_CLIENT: Bounds<u32> = Bounds {
    least: 1,
    most: 1_000_000,
    why: "none would serve nobody; many clients may stand behind one address",
};
const HEADER_READ: Bounds<&str> = Bounds {
    least: "100ms",
    most: "10m",
    why: "clients need some time, and a slow one must not stay for ever",
};
const HEADER: Bounds<&str> = Bounds {
    least: "8KiB",
    most: "1MiB",
    why: "ordinary requests need 8KiB, and each connection may hold this much",
};
const BODY: Bounds<&str> =
    Bounds { least: "0B", most: "1TiB", why: "a body without an end holds an upstream for ever" };
const IDLE: Bounds<&str> = Bounds {
    least: "1s",
    most: "1h",
    why: "a connection needs time for its next request, and an idle one costs memory",
};
const DRAIN: Bounds<&str> = Bounds { least: "0s", most: "1h", why: "a shutdown has to end" };

pub(super) fn limits(context: &Context<'_>, raw: Option<At<RawLimits>>) -> Limits {
    let base = Limits::default();
    let Some(RawLimits {
        max_connections: connections,
        max_connections_per_client: per_client,
        header_read_timeout: header_read,
        max_header_bytes: header,
        max_request_body: body,
        idle_timeout: idle,
        drain,
    }) = raw.and_then(|raw| raw.value)
    else {
        return base;
    };
    let (base_connections, base_header) =
        (base.max_connections as u32, base.max_header_bytes as u64);
    let connections = context.number("max_connections", connections, CONNECTIONS, base_connections);
    let header = context.size("max_header_bytes", header, HEADER, base_header);
    let body = context.size("max_request_body", body, BODY, base.max_request_body);
    Limits {
        max_connections: connections as usize,
        max_connections_per_client: per_client.map_or(base.max_connections_per_client, |at| {
            PerClient::Most(context.number("max_connections_per_client", Some(at), PER_CLIENT, 200))
        }),
        header_read_timeout: context.duration(
            "header_read_timeout",
            header_read,
            HEADER_READ,
            base.header_read_timeout,
        ),
        max_header_bytes: header as usize,
        max_request_body: body,
        idle_timeout: context.duration("idle_timeout", idle, IDLE, base.idle_timeout),
        drain: context.duration("drain", drain, DRAIN, base.drain),
    }
}

pub(super) fn resolver(context: &Context<'_>, raw: Option<At<RawResolver>>) -> Resolver {
    let default = Resolver::default();
    let Some(RawResolver { servers, ca_file, stale }) = raw.and_then(|raw| raw.value) else {
        return default;
    };
    let stale = context.duration(
        "stale",
        stale,
        Bounds { least: "0s", most: "720h", why: "an address older than a month is a guess" },
        default.stale,
    );
    let ca = ca_file.and_then(|at| upstream::ca(context, &at));
    let Some(listed) = servers else { return Resolver { ca, stale, ..default } };
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
    let servers = named.filter_map(|at| context.parsed("servers", at, server::name_server));
    Resolver { servers: servers.collect(), ca, stale }
}

/// Those of the file, with a place for each, for lints; the resolver's servers where it names none.
pub(super) fn control_targets(
    context: &Context<'_>,
    raw: Option<At<Vec<At<String>>>>,
    resolver: &Resolver,
    places: &mut Vec<Place>,
) -> Vec<ControlTarget> {
    named_targets(context, raw, places).unwrap_or_else(|| far_servers(resolver))
}

/// `None`: the file names none.
fn named_targets(
    context: &Context<'_>,
    raw: Option<At<Vec<At<String>>>>,
    places: &mut Vec<Place>,
) -> Option<Vec<ControlTarget>> {
    let listed = raw?;
    let entries = listed.value.filter(|entries| !entries.is_empty())?;
    if entries.len() > MAX_TARGETS {
        let mend = format!("a few prove as much as many; name at most {MAX_TARGETS}");
        context.complaints.error(listed.place, "too many control targets", &mend);
    }
    let mut targets = Vec::with_capacity(entries.len());
    for at in &entries {
        if let Some(target) = context.parsed("control_targets", at, values::control_target) {
            targets.push(target);
            places.push(at.place);
        }
    }
    Some(targets)
}

/// The resolver's servers that may serve as control targets: one on loopback answers whatever the network
/// does, and one that is known by name is found by others.
fn far_servers(resolver: &Resolver) -> Vec<ControlTarget> {
    let addresses = resolver.servers.iter().filter_map(NameServer::address);
    let far = addresses.filter(|address| !address.ip().is_loopback());
    let target = |address: SocketAddr| ControlTarget {
        host: EndpointHost::Address(address.ip()),
        port: address.port(),
    };
    far.map(target).collect()
}

pub(super) fn access_log(
    context: &Context<'_>,
    raw: Option<At<RawAccessLog>>,
) -> Option<AccessLog> {
    let RawAccessLog { target, format, sample } = raw?.value?;
    let target = target.and_then(|at| {
        let written = at.value.as_deref()?;
        if written.is_empty() || written.contains('\0') {
            let mend = "name `stdout` or a file that bascule may write to, as `access.log`";
            context.complaints.error(at.place, "`target` names no file", mend);
            return None;
        }
        Some(match written {
            "stdout" => Target::Stdout,
            file => Target::File(context.files.beside(at.place.file, file)),
        })
    });
    let format = match format.and_then(|at| at.value) {
        None | Some(RawLineFormat::Json) => LineFormat::Json,
        Some(RawLineFormat::Text) => LineFormat::Text,
    };
    let sample = sample.and_then(|at| {
        let RawShare(text) = at.value.as_ref()?;
        context.sound("sample", &at, values::share(text))
    });
    let sample = sample.unwrap_or(Permille::ALL);
    Some(AccessLog { target: target.unwrap_or_default(), format, sample })
}

/// Beside the file that names it, unless it is named from the root.
pub(super) fn state_dir(context: &Context<'_>, raw: Option<At<String>>) -> Option<PathBuf> {
    let at = raw?;
    let written = at.value.as_deref()?;
    if written.is_empty() || written.contains('\0') {
        context.complaints.error(
            at.place,
            "`state_dir` names no folder",
            "name one that bascule may write to, as `state`, or leave the key out",
        );
        return None;
    }
    Some(context.files.beside(at.place.file, written))
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
