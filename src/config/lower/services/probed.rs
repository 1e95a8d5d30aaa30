//! Upstreams that the probes of their service could not ask, or must not.

use super::Builder;
use crate::config::complaint::Place;
use crate::model::topology::{Asks, Endpoint, HttpRule, Pool, Scheme};

impl Builder<'_> {
    /// gRPC is spoken over HTTP/2 only.
    pub(super) fn refuse_grpc_over_http1(&self, pool: &Pool, endpoint: &Endpoint, place: Place) {
        let is_http1 = match (endpoint.http, endpoint.scheme) {
            (HttpRule::Http1, _) | (HttpRule::Auto, Scheme::Http) => true,
            (HttpRule::Http2, _) | (HttpRule::Auto, Scheme::Https) => false,
        };
        if is_http1 && pool.rules.probe.asks != Asks::Page {
            let what = format!(
                "the probes of service `{}` cannot ask here for the health of a gRPC server",
                pool.service
            );
            let mend = "gRPC is spoken over HTTP/2; write `http: 2`, or `probe: { grpc: off }`";
            self.context.complaints.error(place, what, mend);
        }
    }

    /// A barred upstream must not be reached as the origin either: not even by a probe.
    pub(super) fn refuse_probe_of_barred(&self, pool: &Pool, barred: &Endpoint, place: Place) {
        let origin = pool.rules.probe.origin.as_ref().map(|origin| &origin.endpoint);
        let is_same =
            |origin: &Endpoint| (&origin.host, origin.port) == (&barred.host, barred.port);
        if origin.is_some_and(is_same) {
            let what = format!("`probe.origin` of service `{}` leads here", pool.service);
            let mend = "none of the service's routes may use this upstream, so not even a probe may go there; \
                        name the origin itself";
            self.context.complaints.error(place, what, mend);
        }
    }
}
