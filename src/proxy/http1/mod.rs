//! HTTP/1.1 towards an upstream (RFC 9112): one connection, one request at a time, driven by whoever
//! waits for the answer. Nothing runs for a connection that nobody waits for.
//!
//! Stricter than it must be with answers: an upstream that can be read in two ways is a broken one,
//! and its answer an error here rather than somebody else's request later. What is only bytes and
//! rules is in [`answer`], [`body`] and [`encode`]; each bound is a constant beside its rule.

mod answer;
mod body;
mod encode;
mod upload;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::io::AsyncReadExt;

use self::answer::{Afterwards, AnswerHead, Brings, Finder, HeadError};
use self::body::{DecodeError, Decoder, Piece};
pub(super) use self::encode::{RequestHead, Sends};
use self::upload::{Upload, UploadError};
use super::held::{self, Held, Share};
use super::request_body::{AttemptBody, BodyFault};
use crate::net::tls_client::Stream;

/// Interim answers (1xx) before the answer itself; they are dropped (RFC 9110, section 15.2).
const MAX_INTERIM: u32 = 16;

/// A connection, and the request and answer on it. Dropping it closes the connection.
pub(super) struct Http1 {
    stream: Stream,
    /// Read, and not yet taken.
    input: BytesMut,
    /// The next read's room. Doubles when filled, halves when three quarters stay empty.
    read_size: usize,
    held: Held,
    /// Counts what is left of `input` while the client has to take something before.
    unread: Share,
    upload: Upload,
    decoder: Decoder,
    afterwards: Afterwards,
}

/// What went wrong on a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Http1Error {
    #[error("reading the answer")]
    Read(#[source] io::Error),
    #[error("writing the request")]
    Write(#[source] io::Error),
    #[error("the connection ended before the answer's head")]
    Ended,
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error("more than {MAX_INTERIM} interim answers")]
    Interim,
    #[error(transparent)]
    Body(#[from] DecodeError),
    #[error("the request's own body failed")]
    Upload(#[source] BodyFault),
}

impl Http1Error {
    /// Whether the connection ended, as opposed to bringing nonsense.
    pub(super) const fn is_end(&self) -> bool {
        match self {
            Self::Read(_) | Self::Write(_) | Self::Ended => true,
            Self::Head(_) | Self::Interim | Self::Body(_) | Self::Upload(_) => false,
        }
    }
}

/// What is sent.
pub(super) struct Outgoing {
    /// In bytes.
    pub(super) head: Vec<u8>,
    pub(super) method: Method,
    pub(super) sends: Sends,
    pub(super) body: AttemptBody,
}

impl Http1 {
    /// On a stream that has just been connected; `held` counts what it has brought.
    pub(super) fn new(stream: Stream, held: Held) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            read_size: held::LEAST,
            unread: held.share(),
            held,
            upload: Upload::nothing(),
            decoder: Decoder::new(Brings::Nothing),
            afterwards: Afterwards::Kept,
        }
    }

    /// Whether an idle connection is as it was left: neither ended nor brought anything.
    pub(super) fn is_quiet(&mut self) -> bool {
        // Nobody is to be woken: whoever takes it up asks again.
        self.poll_read(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Sends a request, waits for the answer's head. The error says too whether not one byte of the
    /// request was written.
    pub(super) async fn send(
        &mut self,
        outgoing: Outgoing,
    ) -> Result<AnswerHead, (Http1Error, bool)> {
        let Outgoing { head, method, sends, body } = outgoing;
        self.upload = Upload::new(head, sends, body);
        let (mut finder, mut interim) = (Finder::default(), 0);
        let outcome =
            poll_fn(|context| self.poll_head(&mut finder, &mut interim, &method, context)).await;
        let head = outcome.map_err(|error| (error, self.upload.is_unsent()))?;
        self.decoder = Decoder::new(head.brings);
        self.afterwards = head.afterwards;
        Ok(head)
    }

    /// Reads once; 0 at the end.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.stream.poll_readable(context))?;
        // While something is still to be sent, hyper's buffer must not fill: it would ask no more, and with that
        // nobody would send.
        let is_sent = self.upload.is_done();
        let most = if is_sent { self.held.largest_read() } else { held::LEAST };
        self.read_size = self.read_size.min(most);
        // What is left of the last read's room is used up first: it is kept alive by what was taken of it.
        if self.input.capacity() - self.input.len() < (self.read_size / 4).max(held::LEAST) {
            self.input.reserve(self.read_size);
        }
        let room = self.input.capacity() - self.input.len();
        let Poll::Ready(read) = pin!(self.stream.read_buf(&mut self.input)).poll(context) else {
            if self.input.is_empty() {
                // A wait can be long: it holds no memory.
                self.input = BytesMut::new();
            }
            return Poll::Pending;
        };
        let read = read?;
        self.read_size = match read {
            all if all == room => self.read_size.max(room) * 2,
            few if few < room.min(self.read_size) / 4 => (self.read_size / 2).max(held::LEAST),
            _ => self.read_size,
        };
        Poll::Ready(Ok(read))
    }

    fn poll_head(
        &mut self,
        finder: &mut Finder,
        interim: &mut u32,
        method: &Method,
        context: &mut Context<'_>,
    ) -> Poll<Result<AnswerHead, Http1Error>> {
        match self.upload.poll(&mut self.stream, context) {
            Poll::Ready(Err(UploadError::Body(fault))) => {
                return Poll::Ready(Err(Http1Error::Upload(fault)));
            }
            // An answer may have come before the upstream stopped listening.
            Poll::Ready(Err(UploadError::Write) | Ok(())) | Poll::Pending => {}
        }
        loop {
            while let Some(length) = finder.find(&self.input)? {
                *finder = Finder::default();
                let head = answer::take(&mut self.input, length, method)?;
                if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
                {
                    return Poll::Ready(Ok(head));
                }
                *interim += 1;
                if *interim > MAX_INTERIM {
                    return Poll::Ready(Err(Http1Error::Interim));
                }
            }
            let read = ready!(self.poll_read(context));
            match (read, self.upload.take_error()) {
                (Ok(0) | Err(_), Some(error)) => {
                    return Poll::Ready(Err(Http1Error::Write(error)));
                }
                (Ok(0), None) => return Poll::Ready(Err(Http1Error::Ended)),
                (Err(error), None) => return Poll::Ready(Err(Http1Error::Read(error))),
                (Ok(_), _) => {}
            }
        }
    }

    /// Goes on with what is still to be sent of the request.
    pub(super) fn send_on(&mut self, context: &mut Context<'_>) {
        // Should it fail, the answer is still worth having; the connection is not used again.
        let _upload = self.upload.poll(&mut self.stream, context);
    }

    /// The next frame of the answer's body. What is still to be sent of the request goes on.
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Http1Error>>> {
        self.send_on(context);
        loop {
            match self.decoder.take(&mut self.input) {
                Ok(Piece::Data(data)) => {
                    self.unread.is_now(self.input.len());
                    return Poll::Ready(Some(Ok(Frame::data(self.held.keep(data)))));
                }
                Ok(Piece::Trailers(fields)) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(fields))));
                }
                Ok(Piece::End) => return Poll::Ready(None),
                Ok(Piece::More) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
            match ready!(self.poll_read(context)) {
                Ok(0) => match self.decoder.end() {
                    Ok(()) => return Poll::Ready(None),
                    Err(error) => return Poll::Ready(Some(Err(error.into()))),
                },
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(Http1Error::Read(error)))),
            }
        }
    }

    /// Whether all of the body was taken.
    pub(super) const fn is_over(&self) -> bool {
        self.decoder.is_done()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.decoder.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// Whether it can carry another request: both sides of this one are over, and nothing came that
    /// nobody asked for.
    pub(super) fn is_free(&self) -> bool {
        self.afterwards == Afterwards::Kept
            && self.decoder.is_done()
            && self.upload.is_done()
            && self.input.is_empty()
    }

    /// What it is made of, for those who have agreed to speak something else: with what has come
    /// after the head already.
    pub(super) fn into_parts(self) -> (Stream, Bytes) {
        (self.stream, self.input.freeze())
    }

    /// Lets go of what only a request needs.
    pub(super) fn rest(&mut self) {
        self.input = BytesMut::new();
        self.unread.is_now(0);
        self.upload = Upload::nothing();
    }
}

/// An upstream's answer, read to its end.
#[cfg(fuzzing)]
#[derive(Debug, PartialEq)]
pub struct Answered {
    /// Of its head.
    pub status: StatusCode,
    /// Of its head.
    pub headers: http::HeaderMap,
    /// Whole.
    pub body: Vec<u8>,
    /// After it.
    pub trailers: Option<http::HeaderMap>,
    /// What came behind its end.
    pub rest: Vec<u8>,
    /// Whether the connection could carry another request.
    pub is_kept: bool,
}

/// What these bytes of an upstream say when they come in pieces of this length, and then the connection ends: for
/// the fuzzer, that reads them cut anywhere.
///
/// # Errors
/// When they are no whole answer, or none that can be read in one way only.
#[cfg(fuzzing)]
pub fn answered(bytes: &[u8], piece: usize, asked: &Method) -> Result<Answered, String> {
    let said = |error: &dyn std::error::Error| error.to_string();
    let (mut input, mut finder, mut pieces) =
        (BytesMut::new(), Finder::default(), bytes.chunks(piece.max(1)));
    let head = loop {
        match finder.find(&input).map_err(|error| said(&error))? {
            Some(length) => {
                break answer::take(&mut input, length, asked).map_err(|error| said(&error))?;
            }
            None => input.extend_from_slice(pieces.next().ok_or("it ended in its head")?),
        }
    };
    let (mut decoder, mut body, mut trailers) = (Decoder::new(head.brings), Vec::new(), None);
    loop {
        match decoder.take(&mut input).map_err(|error| said(&error))? {
            Piece::Data(data) => body.extend_from_slice(&data),
            Piece::Trailers(fields) => trailers = Some(fields),
            Piece::End => break,
            Piece::More => match pieces.next() {
                Some(more) => input.extend_from_slice(more),
                None => {
                    decoder.end().map_err(|error| said(&error))?;
                    break;
                }
            },
        }
    }
    let is_kept = head.afterwards == Afterwards::Kept;
    let rest = pieces.fold(input.to_vec(), |rest, more| [rest.as_slice(), more].concat());
    Ok(Answered { status: head.status, headers: head.headers, body, trailers, rest, is_kept })
}
