//! The configuration file of a test: one service, `portal`, behind a cleartext and a TLS listener,
//! with whatever the test adds.

use super::upstream::FakeUpstream;
use super::{PORTAL, PROBE};

/// What a test's file says; [`Recipe::yaml`] writes it.
#[derive(Clone, Debug)]
pub struct Recipe {
    top: Vec<String>,
    providers: Vec<(String, String)>,
    routes: String,
    service: Vec<String>,
    probe: String,
    upstreams: Vec<String>,
    beside: String,
}

impl Recipe {
    /// A service with the portal's host and no upstream yet, probed every half second.
    pub fn portal() -> Self {
        Self {
            top: Vec::new(),
            providers: Vec::new(),
            routes: format!("{{ host: {PORTAL} }}"),
            service: Vec::new(),
            probe: format!("{{ path: {PROBE}, interval: 500ms, timeout: 400ms }}"),
            upstreams: Vec::new(),
            beside: String::new(),
        }
    }

    /// Adds an upstream of a provider that is named as the stand-in and sits in this country.
    #[must_use]
    pub fn upstream(self, upstream: &FakeUpstream, seat: &str) -> Self {
        self.upstream_with(upstream, seat, "")
    }

    /// The same with further keys: `, preference: 1`.
    #[must_use]
    pub fn upstream_with(self, upstream: &FakeUpstream, seat: &str, keys: &str) -> Self {
        self.reached(upstream, seat, &upstream.url(), keys)
    }

    /// The same under another URL: with a name instead of its address.
    #[must_use]
    pub fn upstream_at(self, upstream: &FakeUpstream, seat: &str, url: &str) -> Self {
        self.reached(upstream, seat, url, "")
    }

    /// Adds an upstream that is no stand-in of the harness, in cleartext.
    #[must_use]
    pub fn provider(mut self, name: &str, seat: &str, url: &str) -> Self {
        self.providers.push((name.to_owned(), seat.to_owned()));
        self.upstreams.push(format!("{{ provider: {name}, url: \"{url}\" }}"));
        self
    }

    fn reached(mut self, upstream: &FakeUpstream, seat: &str, url: &str, keys: &str) -> Self {
        let (name, http) = (upstream.name(), upstream.http_rule());
        let trust = if url.starts_with("https:") { ", ca_file: ca.pem" } else { "" };
        self.providers.push((name.to_owned(), seat.to_owned()));
        self.upstreams
            .push(format!("{{ provider: {name}, url: \"{url}\", http: {http}{trust}{keys} }}"));
        self
    }

    /// Adds a line at the top level.
    #[must_use]
    pub fn top(mut self, line: &str) -> Self {
        self.top.push(line.to_owned());
        self
    }

    /// Adds a route to the service.
    #[must_use]
    pub fn route(mut self, route: &str) -> Self {
        self.routes.push_str(&format!(", {route}"));
        self
    }

    /// Adds a line to the service.
    #[must_use]
    pub fn service(mut self, line: &str) -> Self {
        self.service.push(line.to_owned());
        self
    }

    /// Replaces the probe.
    #[must_use]
    pub fn probe(mut self, probe: &str) -> Self {
        self.probe = probe.to_owned();
        self
    }

    /// Adds another service with one route and one upstream, in the EU.
    #[must_use]
    pub fn beside(mut self, service: &str, upstream: &FakeUpstream, route: &str) -> Self {
        let (name, url) = (upstream.name(), upstream.url());
        self.providers.push((name.to_owned(), "SI".to_owned()));
        self.beside.push_str(&format!(
            "  {service}:\n    routes: [{route}]\n    probe: {}\n    upstreams:\n      \
             - {{ provider: {name}, url: \"{url}\" }}\n",
            self.probe
        ));
        self
    }

    /// As the binary reads it.
    pub fn yaml(&self) -> String {
        let mut text = String::from(
            "workers: 2\n\
             listeners:\n\
             \x20 - address: 127.0.0.1:0\n\
             \x20 - address: 127.0.0.2:0\n\
             \x20   tls:\n\
             \x20     certificates:\n\
             \x20       - { certificate: portal.pem, key: portal.key }\n\
             \x20       - { certificate: api.pem, key: api.key }\n\
             admin: { address: 127.0.0.3:0 }\n",
        );
        for line in &self.top {
            text.push_str(&format!("{line}\n"));
        }
        // A test says who is asked; whoever wants a trickle says so.
        if !self.top.iter().any(|line| line.starts_with("defaults:")) {
            text.push_str("defaults: { failover: { standby_trickle: 0 } }\n");
        }
        text.push_str("providers:\n");
        for (name, seat) in &self.providers {
            text.push_str(&format!("  {name}: {{ seat: {seat} }}\n"));
        }
        text.push_str(&format!("services:\n  portal:\n    routes: [{}]\n", self.routes));
        for line in &self.service {
            text.push_str(&format!("    {line}\n"));
        }
        text.push_str(&format!("    probe: {}\n", self.probe));
        text.push_str("    upstreams:\n");
        for upstream in &self.upstreams {
            text.push_str(&format!("      - {upstream}\n"));
        }
        text.push_str(&self.beside);
        text
    }
}
