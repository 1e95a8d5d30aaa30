//! Keeping a client at one upstream, where its service wants that.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};

use crate::model::client::ClientKey;
use crate::model::topology::Sticky;
use crate::request::headers::Proto;
use crate::request::sticky::{self, Stuck};

/// A client that stays at one upstream.
pub(super) struct Stay<'a> {
    pub(super) client: Stuck,
    /// To be given to it, for it has none yet.
    new: Option<(&'a str, u64)>,
}

impl<'a> Stay<'a> {
    /// Of a request, where its service wants that.
    pub(super) fn of(rule: &'a Sticky, origin: IpAddr, headers: &HeaderMap) -> Option<Self> {
        match rule {
            Sticky::None => None,
            Sticky::ClientIp => {
                let client = Stuck::to_address(ClientKey::of(origin));
                Some(Self { client, new: None })
            }
            Sticky::Cookie(name) => {
                let known = sticky::token(headers, name);
                let token = known.unwrap_or_else(|| fastrand::u64(..));
                let new = known.is_none().then_some((&**name, token));
                Some(Self { client: Stuck::to_token(token), new })
            }
        }
    }

    /// For the answer, if the client has none yet.
    pub(super) fn cookie(&self, proto: Proto) -> Option<HeaderValue> {
        let (name, token) = self.new?;
        sticky::cookie(name, token, proto == Proto::Https)
    }
}
