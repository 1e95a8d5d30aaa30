//! A connection in use: lent to one request, sent through, given back.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2;

use super::connections::{Idle, UpstreamConnections};
use super::http1::{Http1, Http1Error, Outgoing};
use super::request_body::{AttemptBody, BodyFault};
use crate::clock;
use crate::net::tls_client;
use crate::request::trailers;

/// Whether a connection has carried a request before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Age {
    Fresh,
    Reused,
}

/// A connection lent to one request. Given back by [`Reply::give_back`], else closed (HTTP/1.1) or
/// merely released (HTTP/2).
pub(super) struct Lent {
    pub(super) connection: Connection,
    pub(super) age: Age,
}

/// By protocol.
pub(super) enum Connection {
    /// Boxed: it is passed from hand to hand for every request.
    Http1(Box<Http1>, Home),
    Http2(Stream),
}

/// Where an HTTP/1.1 connection is kept between two requests.
pub(super) struct Home {
    pub(super) connections: Rc<UpstreamConnections>,
    /// Host for SNI and the certificate; none in cleartext.
    pub(super) name: Option<Box<str>>,
    pub(super) address: SocketAddr,
    pub(super) idle_timeout: Duration,
}

/// An HTTP/2 connection and the requests on it.
pub(super) struct Multiplexed {
    pub(super) name: Option<Box<str>>,
    pub(super) address: SocketAddr,
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

/// What went wrong on a connection, by its protocol.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error(transparent)]
    Http1(#[from] Http1Error),
    #[error(transparent)]
    Http2(#[from] hyper::Error),
    #[error("the stream was reset before its end")]
    Reset,
}

impl WireError {
    /// Whether the connection ended, as opposed to bringing nonsense or nothing.
    pub(super) fn is_end(&self) -> bool {
        match self {
            Self::Http1(error) => error.is_end(),
            Self::Http2(error) => !error.is_parse() && !error.is_timeout(),
            Self::Reset => true,
        }
    }

    /// The request's own body, if that is what failed.
    pub(super) const fn body_fault(&self) -> Option<BodyFault> {
        match self {
            Self::Http1(Http1Error::Upload(fault)) => Some(*fault),
            Self::Http1(_) | Self::Http2(_) | Self::Reset => None,
        }
    }
}

/// Why a request that was sent brought no head.
#[derive(Debug)]
pub(super) struct SendError {
    pub(super) error: WireError,
    /// Whether not one byte of it was written.
    pub(super) unsent: bool,
}

/// An answer's body, and the connection that brings it.
pub(super) enum Reply {
    Http1(Box<Http1>, Home),
    Http2(Incoming, Stream),
}

/// Sends a request over HTTP/1.1, waits for the answer's head.
pub(super) async fn send_http1(
    mut connection: Box<Http1>,
    home: Home,
    outgoing: Outgoing,
) -> Result<(response::Parts, Reply), SendError> {
    let head = connection
        .send(outgoing)
        .await
        .map_err(|(error, unsent)| SendError { error: error.into(), unsent })?;
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    Ok((response.into_parts().0, Reply::Http1(connection, home)))
}

/// Sends a request over HTTP/2, waits for the answer's head.
pub(super) async fn send_http2(
    stream: Stream,
    request: Request<AttemptBody>,
) -> Result<(response::Parts, Reply), SendError> {
    match stream.0.sender.clone().try_send_request(request).await {
        Ok(response) => {
            let (parts, incoming) = response.into_parts();
            Ok((parts, Reply::Http2(incoming, stream)))
        }
        Err(mut error) => {
            let unsent = error.take_message().is_some();
            Err(SendError { error: error.into_error().into(), unsent })
        }
    }
}

impl Reply {
    /// The connection itself, after a 101; HTTP/2 has none.
    pub(super) fn into_stream(self) -> Option<(tls_client::Stream, Bytes)> {
        match self {
            Self::Http1(connection, _) => Some(connection.into_parts()),
            Self::Http2(..) => None,
        }
    }

    /// The next frame of the body.
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WireError>>> {
        match self {
            Self::Http1(connection, _) => connection
                .poll_frame(context)
                .map(|frame| frame.map(|it| it.map_err(WireError::from))),
            Self::Http2(incoming, _) => {
                let frame =
                    std::task::ready!(std::pin::Pin::new(&mut *incoming).poll_frame(context));
                Poll::Ready(match frame {
                    // hyper takes a reset without an error for an end (RFC 9113, section 8.1, has it after one).
                    None if !incoming.is_end_stream() => Some(Err(WireError::Reset)),
                    frame => frame.map(|it| it.map(cleaned).map_err(WireError::from)),
                })
            }
        }
    }

    /// Goes on with what is still to be sent of the request, and reads nothing.
    pub(super) fn send_on(&mut self, context: &mut Context<'_>) {
        match self {
            Self::Http1(connection, _) => connection.send_on(context),
            // hyper does so by itself.
            Self::Http2(..) => {}
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(connection, _) => connection.is_over(),
            Self::Http2(incoming, _) => incoming.is_end_stream(),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(connection, _) => connection.size_hint(),
            Self::Http2(incoming, _) => incoming.size_hint(),
        }
    }

    /// After the whole answer was read: keeps the connection for the next request.
    pub(super) fn give_back(self) {
        match self {
            Self::Http1(mut connection, Home { connections, name, address, idle_timeout }) => {
                if connection.is_free() {
                    connection.rest();
                    let since = clock::now();
                    let until = since + idle_timeout;
                    connections.keep(Idle { name, address, connection, since, until });
                }
            }
            Self::Http2(_, stream) => drop(stream),
        }
    }
}

/// Without what only a head may say, if these are trailers.
fn cleaned(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut fields) => {
            trailers::clean(&mut fields);
            Frame::trailers(fields)
        }
        Err(frame) => frame,
    }
}
