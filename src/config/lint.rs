//! What is valid and still probably not meant: each lint says what, why, and how to mend it.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::Method;

use super::complaint::{Complaints, Place};
use super::lower::{Places, ServicePlaces};
use super::values::spelled;
use super::{Config, Listener};
use crate::model::control_target::ControlTarget;
use crate::model::id::{Label, UpstreamId};
use crate::model::place::{Jurisdiction, Residency};
use crate::model::topology::{EndpointHost, HostRule, Pool, ProviderKind, Scheme, Topology};
use crate::model::ways::Ways;

mod credentials;
mod known;
mod spelling;

/// Names of pages that are made to be probed and answer without touching anything that can fail.
const STATIC_NAMES: [&str; 15] = [
    "health",
    "healthz",
    "healthcheck",
    "health-check",
    "_health",
    "ping",
    "status",
    "live",
    "livez",
    "ready",
    "readyz",
    "alive",
    "up",
    "trace",
    "robots",
];
/// Endings of files that a provider answers from its own store.
const STATIC_ENDINGS: [&str; 12] =
    ["txt", "ico", "png", "jpg", "gif", "svg", "css", "js", "woff2", "webp", "xml", "json"];
/// Why nobody else serves, and what to do.
const NOBODY_LEFT: &str =
    "what may carry a service outranks its availability; add an upstream that may";
/// A shorter token can be guessed.
const MIN_TOKEN: usize = 16;
/// A certificate that ends sooner is spoken of.
const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Notes every lint of a valid configuration.
pub(super) fn lint(config: &Config, places: &Places, complaints: &Complaints) {
    front(config, places, complaints);
    admin(config, places, complaints);
    control_targets(config, places, complaints);
    known::seats(&config.topology, places, complaints);
    let ways = Ways::of(&config.topology);
    let divided = ways.divided();
    for ((id, pool), at) in config.topology.pools().zip(&places.services) {
        let service = Service { topology: &config.topology, pool, places: at, complaints };
        service.ways_out();
        service.closed_routes();
        spelling::service(&service, id, &divided);
        service.europe();
        service.substrates();
        known::service(&service, places);
        service.probe();
        service.evidence();
        service.wires();
        service.credentials();
        service.timing();
    }
}

/// Who stands before us, and whether it is believed.
fn front(config: &Config, places: &Places, complaints: &Complaints) {
    if config.trusted_proxies.is_empty() {
        let listeners = config.listeners.iter().zip(&places.listeners);
        for (listener, place) in listeners.filter(|(listener, _)| is_behind(listener)) {
            complaints.warning(
                *place,
                format_args!("`{}` is in cleartext on a private address, and `trusted_proxies` is empty", listener.address),
                "a proxy in front would be taken for the one client, so no two witnesses would differ; name \
                 its network in `trusted_proxies`",
            );
        }
    }
    for (network, place) in config.trusted_proxies.iter().zip(&places.trusted_proxies) {
        if network.prefix_len() == 0 {
            complaints.warning(
                *place,
                format_args!("`{network}` trusts everybody"),
                "any client could invent its own address; name the networks of your proxies only",
            );
        }
    }
}

fn is_behind(listener: &Listener) -> bool {
    let private = match listener.address.ip() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    private && listener.tls.is_none()
}

fn admin(config: &Config, places: &Places, complaints: &Complaints) {
    let (Some(admin), Some(place)) = (&config.admin, places.admin) else { return };
    if !admin.address.ip().is_loopback() {
        complaints.warning(
            place,
            format_args!("`admin` listens on `{}` without TLS", admin.address),
            "its token travels in cleartext; listen on 127.0.0.1 and put a tunnel or a TLS proxy before it",
        );
    }
    if admin.token.as_ref().is_some_and(|token| token.expose().len() < MIN_TOKEN) {
        complaints.warning(
            place,
            format_args!("the token of `admin` is shorter than {MIN_TOKEN} characters"),
            "it can be guessed; `openssl rand -hex 32` makes a better one",
        );
    }
}

/// Who is to tell our own network's fault from others', and whether it can.
fn control_targets(config: &Config, places: &Places, complaints: &Complaints) {
    let warn = |place: Place, target: &ControlTarget, what: &str, mend: &str| {
        let host = match &target.host {
            EndpointHost::Name(name) => name.to_string(),
            EndpointHost::Address(address) => address.to_string(),
        };
        complaints.warning(place, format_args!("the control target `{host}` {what}"), mend);
    };
    for (target, place) in config.control_targets.iter().zip(&places.control_targets) {
        let near = match &target.host {
            EndpointHost::Name(name) => &**name == "localhost",
            EndpointHost::Address(address) => address.is_loopback(),
        };
        let is_host = |id| config.topology.upstream(id).endpoint.host == target.host;
        if near {
            let mend = "it answers, or does not, whatever the network does; name one beyond your own network";
            warn(*place, target, "is this machine itself", mend);
        } else if config.topology.upstreams().any(|(id, _)| is_host(id)) {
            let mend = "it fails with its provider, and would be taken for our own network; name one that has \
                        nothing to do with any";
            warn(*place, target, "is the host of an upstream", mend);
        }
    }
    if let ([target], [place]) = (&*config.control_targets, &*places.control_targets) {
        let mend = "when it fails by itself nobody is left who could prove that the network is there; name two";
        warn(*place, target, "is the only one", mend);
    }
}

/// One service and where its parts stand.
struct Service<'a> {
    topology: &'a Topology,
    pool: &'a Pool,
    places: &'a ServicePlaces,
    complaints: &'a Complaints,
}

impl Service<'_> {
    fn warn(&self, place: Place, what: &str, why_and_mend: &str) {
        let what = format!("service `{}`: {what}", self.pool.service);
        self.complaints.warning(place, what, why_and_mend);
    }

    fn is_eu(&self, id: UpstreamId) -> bool {
        self.topology.provider_of(id).jurisdiction == Jurisdiction::Eu
    }

    fn name(&self, id: UpstreamId) -> &str {
        self.topology.provider_of(id).name.as_str()
    }

    fn ways_out(&self) {
        match self.pool.upstreams.as_slice() {
            [] => {
                let barred = self.pool.barred.iter();
                let barred: Vec<String> =
                    barred.map(|it| format!("{}: {}", it.provider, it.because)).collect();
                let what = format!(
                    "`residency` and `require` leave it no upstream ({}): EVERY REQUEST WILL GET THE PAGE",
                    barred.join("; ")
                );
                self.warn(self.places.name, &what, NOBODY_LEFT);
            }
            [only] => {
                let what = format!("`{}` is its one single provider", self.name(*only));
                let mend = "when it fails there is nowhere to go; add an upstream through another provider";
                self.warn(self.places.name, &what, mend);
            }
            [_, ..] => {}
        }
    }

    /// Routes that permit none of those whom others do.
    fn closed_routes(&self) {
        let all = &self.pool.upstreams;
        let realms = self.pool.realms.narrower().iter();
        for realm in realms.filter(|realm| !all.iter().any(|id| realm.admits(*id))) {
            let charter = realm.charter();
            let require: Vec<&str> = charter.require.iter().map(Label::as_str).collect();
            let what = format!(
                "its routes with `residency: {}` and `require: [{}]` have no upstream left: EVERY REQUEST \
                 THERE WILL GET THE PAGE",
                charter.residency.as_str(),
                require.join(", ")
            );
            self.warn(self.places.name, &what, NOBODY_LEFT);
        }
    }

    fn europe(&self) {
        let Some((first, others)) = self.pool.upstreams.split_first() else { return };
        // One single provider is a lint of its own.
        if others.is_empty() || others.iter().any(|id| self.is_eu(*id)) {
            return;
        }
        let mend = "traffic would stay or go outside the EU in an outage; add one whose provider sits in the EU";
        match (self.is_eu(*first), self.pool.residency) {
            (false, _) => self.warn(self.places.name, "no EU fallback among its upstreams", mend),
            (true, Residency::PreferEu | Residency::EuOnly) => {
                let what = format!("no EU fallback behind `{}`", self.name(*first));
                self.warn(self.places.name, &what, mend);
            }
            // A first choice in the EU with no wish to stay there: as the operator ordered it.
            (true, Residency::Any) => {}
        }
    }

    fn substrates(&self) {
        let Some((first, others)) = self.pool.upstreams.split_first() else { return };
        let shares = |id: &&UpstreamId| self.topology.share_fate(*first, **id);
        if others.is_empty() || !others.iter().all(|id| shares(&id)) {
            return;
        }
        let names: Vec<&str> = others.iter().map(|id| self.name(*id)).collect();
        let what = format!(
            "every fallback ({}) shares a substrate with `{}`",
            names.join(", "),
            self.name(*first)
        );
        let mend = "they would fail together; add one that shares nothing with it";
        self.warn(self.places.name, &what, mend);
    }

    fn probe(&self) {
        let place = self.places.probe.unwrap_or(self.places.name);
        let rule = &self.pool.rules.probe;
        if is_static(&rule.path) {
            let what = format!(
                "the probe asks for `{}`, which looks like a static health file",
                rule.path
            );
            let mend = "such a file stays green in real outages; ask for a real page that needs the origin";
            self.warn(place, &what, mend);
        }
        let asks_public =
            |id: &&UpstreamId| self.topology.upstream(**id).endpoint.host_rule == HostRule::Public;
        if rule.host.is_none() && self.pool.upstreams.iter().any(|id| asks_public(&id)) {
            self.warn(
                self.places.name,
                "its routes name no whole host that a probe could ask for",
                "probes ask for the upstream's own host instead, which may answer while the public one does \
                 not; add a route with an exact host",
            );
        }
    }

    fn evidence(&self) {
        let rules = &self.pool.rules;
        let is_source =
            |id: &UpstreamId| self.topology.provider_of(*id).kind == ProviderKind::Source;
        // Nobody at all, or nobody behind whom an origin stands.
        if self.pool.upstreams.iter().all(is_source) {
            return;
        }
        if rules.marker.is_none() {
            self.warn(
                self.places.name,
                "no `origin_marker`",
                "an error of the origin looks like one of the provider's; let the origin add a header of its own \
                 to every answer, errors too, and name it",
            );
        }
        let asks_origin =
            |id: &UpstreamId| self.topology.provider_of(*id).kind == ProviderKind::Origin;
        if rules.probe.origin.is_none() && !self.pool.upstreams.iter().any(asks_origin) {
            self.warn(
                self.places.name,
                "no `probe.origin`",
                "when every provider fails nobody can say whether the origin does; give the URL of the origin \
                 itself, it is only ever probed",
            );
        }
    }

    fn wires(&self) {
        for (id, place) in self.pool.upstreams.iter().zip(&self.places.upstreams) {
            let endpoint = &self.topology.upstream(*id).endpoint;
            let public = match &endpoint.host {
                EndpointHost::Name(name) => is_public_name(name),
                EndpointHost::Address(address) => is_public_address(*address),
            };
            if endpoint.scheme == Scheme::Http && public {
                let what =
                    format!("`{}` is reached in cleartext over the public net", self.name(*id));
                let mend = "anybody on the way can read and change it; write `https://`";
                self.warn(*place, &what, mend);
            }
        }
    }

    fn credentials(&self) {
        for (id, field) in credentials::leaks(self.topology, self.pool) {
            let place = self.pool.upstreams.iter().position(|known| *known == id);
            let place = place.and_then(|place| self.places.upstreams.get(place));
            let what = format!(
                "`{}` is sent the client's own `{field}`, and others are not",
                self.name(id)
            );
            let mend = "what is meant for one company would be told to another; `set` one of its own there, or \
                        `remove` it";
            self.warn(*place.unwrap_or(&self.places.name), &what, mend);
        }
    }

    fn timing(&self) {
        let rules = &self.pool.rules;
        let place = self.places.failover.unwrap_or(self.places.name);
        let timing = &rules.failover;
        if timing.min_stay < timing.hold {
            let what = format!(
                "`min_stay` ({}) is shorter than `hold` ({})",
                spelled(timing.min_stay),
                spelled(timing.hold)
            );
            let mend = "the hold decides alone, and an outage in waves is met at each wave; make it longer";
            self.warn(place, &what, mend);
        }
        if timing.hold < Duration::from_secs(5) {
            let what = format!("`hold` is only {}", spelled(timing.hold));
            let mend = "a provider that is still failing is tried again at once, with real requests; 30s is the default";
            self.warn(place, &what, mend);
        }
        let acting = |method: &&Method| !method.is_safe();
        if let Some(method) = rules.retry.methods.iter().find(acting) {
            let what = format!("`retry.methods` holds {method}");
            let mend = "two upstreams may both carry it out; keep it only where a second execution does no harm";
            self.warn(self.places.methods.unwrap_or(self.places.name), &what, mend);
        }
    }
}

/// Whether a path looks like a page that is made to be probed.
fn is_static(url_path: &str) -> bool {
    let path_only = url_path.split('?').next().unwrap_or_default();
    let last = path_only.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let last = last.to_ascii_lowercase();
    let (stem, ending) = last.rsplit_once('.').unwrap_or((&last, ""));
    STATIC_NAMES.contains(&stem) || STATIC_ENDINGS.contains(&ending)
}

fn is_public_name(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    name.contains('.')
        && !matches!(last, "local" | "internal" | "lan" | "localhost" | "test" | "svc")
}

fn is_public_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_loopback() || v4.is_private() || v4.is_link_local()),
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()),
    }
}

/// Certificates that clients refuse or soon will, one line each; `now` is the caller's.
pub fn expiring(config: &Config, now: SystemTime) -> Vec<String> {
    let line = |certificate: &super::Certificate| {
        let said = match certificate.not_after.duration_since(now) {
            _ if now < certificate.not_before => {
                "is not valid yet: clients will refuse it; look at the clock, or at the file"
                    .to_owned()
            }
            Err(_) => "has expired: clients will refuse it; renew it".to_owned(),
            Ok(left) if left < EXPIRY_WARNING => {
                let days = left.as_secs() / 86_400;
                format!("ends in {days} days: clients will refuse it then; renew it")
            }
            Ok(_) => return None,
        };
        let subject = certificate.names.first().map_or("without a name", |name| name);
        Some(format!("the certificate of `{subject}` {said}"))
    };
    let shown = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    shown.flat_map(|tls| &tls.certificates).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_health_file_is_known_by_its_name() {
        for found in [
            "/health",
            "/healthz",
            "/api/health/",
            "/health.html",
            "/cdn-cgi/trace",
            "/robots.txt",
            "/favicon.ico?x",
            "/Ping",
            "/status.json",
        ] {
            assert!(is_static(found), "{found}");
        }
        for real in ["/", "/index.html", "/login", "/api/v1/items?page=1", "/status/reports"] {
            assert!(!is_static(real), "{real}");
        }
    }
}
