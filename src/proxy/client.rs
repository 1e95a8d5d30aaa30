//! One client's connection: who it is.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::activity::Activity;
use super::tunnel::Tunnel;
use super::worker::Worker;
use crate::exchange::edge::ListenerState;
use crate::exchange::settings::Settings;
use crate::model::listening::Redirect;
use crate::request::headers::{ClientAddress, Proto, Trust, client_address, forwarded_element};

/// What every request of one connection has in common.
pub(super) struct Client {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: Arc<ListenerState>,
    /// Those that hold now, see [`Client::keep_up`].
    pub(super) settings: RefCell<Arc<Settings>>,
    pub(super) peer: IpAddr,
    /// `peer` as a field value, made once.
    pub(super) peer_value: HeaderValue,
    pub(super) trust: Cell<Trust>,
    pub(super) proto: Proto,
    pub(super) redirect: Redirect,
    pub(super) activity: Rc<Activity>,
    /// The last request's host and its element of `Forwarded`: the next one mostly asks the same.
    pub(super) forwarded: RefCell<Option<(HeaderValue, HeaderValue)>>,
    /// Whether it was looked at as what may be a proxy's.
    pub(super) noted: Cell<bool>,
    /// What an HTTP/1.1 connection becomes after a 101.
    pub(super) tunnel: RefCell<Option<Tunnel>>,
}

impl Client {
    /// Takes over what a reload has changed: a connection may be older than the trust in its other end,
    /// and outlive it.
    pub(super) fn keep_up(&self) {
        let newer = self.worker.settings.newer_than(&self.settings.borrow());
        if let Some(settings) = newer {
            self.trust.set(trust(&settings, self.peer));
            self.settings.replace(settings);
        }
    }

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
        match self.trust.get() {
            Trust::Stranger => ClientAddress::Known(self.peer),
            Trust::TrustedProxy => {
                let settings = self.settings.borrow();
                client_address(self.peer, headers, |ip| settings.trusts(ip))
            }
        }
    }
}

/// Whether an end's word is believed.
pub(super) fn trust(settings: &Settings, peer: IpAddr) -> Trust {
    if settings.trusts(peer) { Trust::TrustedProxy } else { Trust::Stranger }
}
