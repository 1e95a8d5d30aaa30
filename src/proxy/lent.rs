//! A connection in use: lent to one request, sent through, given back.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};

use super::connections::{Idle, UpstreamConnections};
use super::request_body::AttemptBody;
use crate::clock;

/// Whether a connection has carried a request before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Age {
    Fresh,
    Reused,
}

/// A connection lent to one request. Given back by [`Lent::give_back`], else closed (HTTP/1.1) or
/// merely released (HTTP/2).
pub(super) struct Lent {
    pub(super) connection: Connection,
    pub(super) age: Age,
}

/// By protocol.
pub(super) enum Connection {
    Http1 {
        sender: http1::SendRequest<AttemptBody>,
        name: Option<Box<str>>,
        idle_timeout: Duration,
        home: Rc<UpstreamConnections>,
    },
    Http2(Stream),
}

/// An HTTP/2 connection and the requests on it.
pub(super) struct Multiplexed {
    pub(super) name: Option<Box<str>>,
    pub(super) sender: http2::SendRequest<AttemptBody>,
    pub(super) streams: Cell<u32>,
}

/// One place on a multiplexed connection; dropping it frees the place.
pub(super) struct Stream(Rc<Multiplexed>);

impl Stream {
    pub(super) fn on(connection: &Rc<Multiplexed>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self(Rc::clone(connection))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
    }
}

/// Why a request that was sent brought no head.
#[derive(Debug)]
pub(super) struct SendError {
    pub(super) error: hyper::Error,
    /// Whether not one byte of it was written.
    pub(super) unsent: bool,
}

impl Lent {
    /// Whether the request must be in HTTP/2's form.
    pub(super) const fn is_http2(&self) -> bool {
        matches!(self.connection, Connection::Http2(_))
    }

    /// Sends a request, waits for the answer's head.
    pub(super) async fn send(
        &mut self,
        request: http::Request<AttemptBody>,
    ) -> Result<http::Response<hyper::body::Incoming>, SendError> {
        let sent = match &mut self.connection {
            Connection::Http1 { sender, .. } => sender.try_send_request(request).await,
            Connection::Http2(stream) => stream.0.sender.clone().try_send_request(request).await,
        };
        sent.map_err(|mut error| {
            let unsent = error.take_message().is_some();
            SendError { error: error.into_error(), unsent }
        })
    }

    /// After the whole answer was read: keeps the connection for the next request.
    pub(super) fn give_back(self) {
        match self.connection {
            Connection::Http1 { sender, name, idle_timeout, home } => {
                let since = clock::now();
                home.keep(Idle { name, sender, since, until: since + idle_timeout });
            }
            Connection::Http2(stream) => drop(stream),
        }
    }
}
