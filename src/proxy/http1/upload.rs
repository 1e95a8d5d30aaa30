//! The sending half of an exchange: head, then body in its framing, as fast as both sides allow.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::Body;
use tokio::io::AsyncWrite;

use super::encode::Sends;
use crate::net::tls_client::Stream;
use crate::proxy::request_body::{AttemptBody, BodyFault};

/// One request's bytes. At most one frame of its body is held.
pub(super) struct Upload {
    /// Head and framing to be written before `data`.
    framing: Vec<u8>,
    framing_sent: usize,
    data: Bytes,
    body: Option<AttemptBody>,
    sends: Sends,
    /// Whether a chunk waits for its end.
    in_chunk: bool,
    state: State,
    is_unsent: bool,
}

enum State {
    Sending,
    Done,
    Failed(Option<io::Error>),
}

/// Why it does not go on. What failed to write says [`Upload::take_error`].
#[derive(Debug)]
pub(super) enum UploadError {
    Write,
    Body(BodyFault),
}

impl Upload {
    /// Of `head` in bytes, and a body framed as it says.
    pub(super) fn new(head: Vec<u8>, sends: Sends, body: AttemptBody) -> Self {
        Self {
            framing: head,
            framing_sent: 0,
            data: Bytes::new(),
            body: (sends != Sends::Nothing).then_some(body),
            sends,
            in_chunk: false,
            state: State::Sending,
            is_unsent: true,
        }
    }

    /// What a connection has between two requests.
    pub(super) const fn nothing() -> Self {
        Self {
            framing: Vec::new(),
            framing_sent: 0,
            data: Bytes::new(),
            body: None,
            sends: Sends::Nothing,
            in_chunk: false,
            state: State::Done,
            is_unsent: true,
        }
    }

    /// Whether not one byte was written.
    pub(super) const fn is_unsent(&self) -> bool {
        self.is_unsent
    }

    /// Whether everything was written, even if the client has not told its body's end yet.
    pub(super) fn is_done(&self) -> bool {
        match self.state {
            State::Sending => self.sends == Sends::Exactly(0) && !self.has_more(),
            State::Done => true,
            State::Failed(_) => false,
        }
    }

    /// Why writing failed, the first time one asks.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        match &mut self.state {
            State::Failed(error) => error.take(),
            State::Sending | State::Done => None,
        }
    }

    /// Writes what it can; ready when there is nothing left to do.
    pub(super) fn poll(
        &mut self,
        stream: &mut Stream,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), UploadError>> {
        match self.state {
            State::Sending => {}
            State::Done => return Poll::Ready(Ok(())),
            State::Failed(_) => return Poll::Ready(Err(UploadError::Write)),
        }
        loop {
            // The next frame first: a small body leaves together with its head.
            let body_waits = match self.poll_body(context) {
                Poll::Ready(Err(fault)) => {
                    self.state = State::Failed(None);
                    return Poll::Ready(Err(UploadError::Body(fault)));
                }
                Poll::Ready(Ok(())) => false,
                Poll::Pending => true,
            };
            if let Err(error) = ready!(self.poll_write(stream, context)) {
                self.state = State::Failed(Some(error));
                return Poll::Ready(Err(UploadError::Write));
            }
            if body_waits {
                return Poll::Pending;
            }
            if self.body.is_none() && !self.has_more() {
                self.state = State::Done;
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn has_more(&self) -> bool {
        self.framing_sent < self.framing.len() || self.data.has_remaining()
    }

    /// Takes a frame of the body, unless one is still to be written; pending while the client is the
    /// one to wait for.
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BodyFault>> {
        while let Some(body) = &mut self.body
            && self.data.is_empty()
        {
            match ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    // Trailers end here: not every HTTP/1.1 server keeps them apart from the head.
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        self.enqueue(data)?;
                    }
                }
                Some(Err(fault)) => return Poll::Ready(Err(fault)),
                None => {
                    self.body = None;
                    self.finish()?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn enqueue(&mut self, data: Bytes) -> Result<(), BodyFault> {
        match &mut self.sends {
            Sends::Chunked => {
                self.end_chunk();
                self.framing.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                self.in_chunk = true;
            }
            Sends::Exactly(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(BodyFault::Client)?;
            }
            Sends::Nothing => return Err(BodyFault::Client),
        }
        self.data = data;
        Ok(())
    }

    fn end_chunk(&mut self) {
        if std::mem::take(&mut self.in_chunk) {
            self.framing.extend_from_slice(b"\r\n");
        }
    }

    fn finish(&mut self) -> Result<(), BodyFault> {
        match self.sends {
            Sends::Chunked => {
                self.end_chunk();
                self.framing.extend_from_slice(b"0\r\n\r\n");
                Ok(())
            }
            Sends::Exactly(0) | Sends::Nothing => Ok(()),
            // Less than was announced: whatever the client meant, this is not it.
            Sends::Exactly(_) => Err(BodyFault::Client),
        }
    }

    /// Writes framing and data, and flushes when all of it is written.
    fn poll_write(
        &mut self,
        stream: &mut Stream,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.has_more() {
            let framing = IoSlice::new(&self.framing[self.framing_sent..]);
            let both = [framing, IoSlice::new(&self.data)];
            let slices = match (both[0].is_empty(), both[1].is_empty()) {
                (_, true) => &both[..1],
                (true, false) => &both[1..],
                (false, false) => &both[..],
            };
            let written = ready!(Pin::new(&mut *stream).poll_write_vectored(context, slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.is_unsent = false;
            let of_framing = written.min(self.framing.len() - self.framing_sent);
            self.framing_sent += of_framing;
            self.data.advance(written - of_framing);
        }
        if !self.framing.is_empty() {
            self.framing.clear();
            self.framing_sent = 0;
        }
        Pin::new(stream).poll_flush(context)
    }
}
