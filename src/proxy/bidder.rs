//! A client that asks for a WebSocket, over HTTP/1.1 or HTTP/2 (RFC 8441).

use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::answer::AnswerBody;
use super::client::Client;
use super::tunnel::Tunnel;
use crate::request::switch::{self, Switch};

/// A client that asks for a WebSocket.
pub(super) enum Bidder {
    /// Its connection becomes one.
    Http1,
    /// A stream of its connection does.
    Http2(OnUpgrade),
}

impl Bidder {
    /// Read off a head. An extended CONNECT becomes the GET that it is to everybody after.
    pub(super) fn of(parts: &mut Parts) -> Option<Self> {
        if switch::asks_for_websocket(parts) {
            return Some(Self::Http1);
        }
        let protocol = parts.extensions.get::<Protocol>().map(Protocol::as_str);
        if parts.method != Method::CONNECT || protocol != Some("websocket") {
            return None;
        }
        let upgrade = parts.extensions.remove::<OnUpgrade>()?;
        parts.method = Method::GET;
        Some(Self::Http2(upgrade))
    }

    /// Asks the upstream for it.
    pub(super) fn ask(&self, headers: &mut HeaderMap) -> Switch {
        let switch = match self {
            Self::Http1 => Switch::WebSocket,
            Self::Http2(_) => Switch::by_us(headers, fastrand::u128(..).to_ne_bytes()),
        };
        switch.announce(headers);
        switch
    }

    /// Tells the client that it is one from now on.
    pub(super) fn accept(
        self,
        mut response: Response<AnswerBody>,
        tunnel: Tunnel,
        client: &Client,
    ) -> Response<AnswerBody> {
        match self {
            Self::Http1 => *client.tunnel.borrow_mut() = Some(tunnel),
            Self::Http2(upgrade) => {
                *response.status_mut() = StatusCode::OK;
                for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT] {
                    response.headers_mut().remove(name);
                }
                tokio::task::spawn_local(async move {
                    // It fails only where the client is gone.
                    if let Ok(stream) = upgrade.await {
                        tunnel.run(TokioIo::new(stream), Bytes::new()).await;
                    }
                });
            }
        }
        response
    }
}
