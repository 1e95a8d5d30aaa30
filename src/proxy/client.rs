//! One client's connection: who it is.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::activity::Activity;
use super::tunnel::Tunnel;
use super::worker::Worker;
use crate::exchange::edge::ListenerState;
use crate::exchange::settings::Settings;
use crate::model::client::prefix;
use crate::model::listening::Redirect;
use crate::request::headers::{
    ClientAddress, Proto, Trust, X_FORWARDED_FOR, client_address, forwarded_element,
};
use crate::request::witness::client_prefix;

/// What every request of one connection has in common.
pub(super) struct Client {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: Arc<ListenerState>,
    pub(super) settings: Arc<Settings>,
    pub(super) peer: IpAddr,
    /// `peer` as a field value, made once.
    pub(super) peer_value: HeaderValue,
    pub(super) trust: Trust,
    pub(super) proto: Proto,
    pub(super) redirect: Redirect,
    pub(super) activity: Rc<Activity>,
    /// The last request's host and its element of `Forwarded`: the next one mostly asks the same.
    pub(super) forwarded: RefCell<Option<(HeaderValue, HeaderValue)>>,
    /// What an HTTP/1.1 connection becomes after a 101.
    pub(super) tunnel: RefCell<Option<Tunnel>>,
}

impl Client {
    /// The element of `Forwarded` for a request to this host.
    pub(super) fn forwarded(&self, authority: &HeaderValue) -> HeaderValue {
        let mut last = self.forwarded.borrow_mut();
        match &*last {
            Some((host, element)) if host == authority => element.clone(),
            Some(_) | None => {
                let element = forwarded_element(self.peer, authority, self.proto);
                // A copy of its own: the field's bytes are a slice of all that was read with it.
                let host = HeaderValue::from_bytes(authority.as_bytes());
                *last = host.ok().map(|host| (host, element.clone()));
                element
            }
        }
    }

    /// Who asks: the other end, or whom trusted proxies name.
    pub(super) fn origin(&self, headers: &HeaderMap) -> ClientAddress {
        match self.trust {
            Trust::Stranger => ClientAddress::Known(self.peer),
            Trust::TrustedProxy => client_address(self.peer, headers, |ip| self.is_trusted(ip)),
        }
    }

    /// Looks, at a connection's first request, whether it seems to be a proxy's.
    pub(super) fn note_forwarding(&self, headers: &HeaderMap) {
        if self.forwarded.borrow().is_some() {
            return;
        }
        let claims = self.trust == Trust::Stranger && headers.contains_key(X_FORWARDED_FOR);
        let network = claims.then(|| client_prefix(self.peer).get());
        if self.listener.rows[self.worker.index].forwarded.note(network) {
            tracing::warn!(
                network = %prefix(self.peer),
                listener = %self.listener.address,
                "nearly all connections come from a proxy that is not in `trusted_proxies`: its \
                 clients are taken for one"
            );
        }
    }

    /// Whether an address is one of `trusted_proxies`.
    fn is_trusted(&self, address: IpAddr) -> bool {
        is_trusted(&self.settings, address)
    }
}

/// Whether an address is one of `trusted_proxies`.
pub(super) fn is_trusted(settings: &Settings, address: IpAddr) -> bool {
    settings.trusted_proxies.iter().any(|range| range.contains(&address))
}
