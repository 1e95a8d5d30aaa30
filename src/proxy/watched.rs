//! The bytes of a client that speaks HTTP/1.1, between hyper and its stream.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use crate::request::framing::Framing;

/// A client's bytes, with an eye on when they come and on how they are framed. hyper flushes when it
/// has nothing more to write, and only then gets as far as the stream's own flush.
pub(super) struct Watched<S> {
    pub(super) stream: S,
    activity: Rc<Activity>,
    framing: Framing,
}

impl<S> Watched<S> {
    /// Of a client that speaks HTTP/1.1.
    pub(super) fn new(stream: S, activity: &Rc<Activity>) -> Self {
        activity.leaves_in_order();
        Self { stream, activity: Rc::clone(activity), framing: Framing::of_requests() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let known = buffer.filled().len();
        if self.framing.is_over() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = result {
            if buffer.filled().len() == known
                && buffer.remaining() > 0
                && self.activity.closes_its_half()
            {
                // Whoever drives the connection wakes it.
                return Poll::Pending;
            }
            self.activity.bytes_came();
            self.framing.follow(&mut buffer.filled_mut()[known..]);
            self.activity.read_out.set(self.framing.is_between());
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.activity.flushed(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.activity.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
