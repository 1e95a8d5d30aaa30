//! What an answer's body is: whole, or events as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::mpsc;

/// A body of the admin API.
#[derive(Debug)]
pub enum AdminBody {
    /// All of it.
    Whole(Full<Bytes>),
    /// Until the other end is gone.
    Stream(mpsc::Receiver<Bytes>),
}

impl From<Vec<u8>> for AdminBody {
    fn from(body: Vec<u8>) -> Self {
        Self::Whole(Full::new(Bytes::from(body)))
    }
}

impl From<&'static str> for AdminBody {
    fn from(body: &'static str) -> Self {
        Self::Whole(Full::new(Bytes::from_static(body.as_bytes())))
    }
}

impl Body for AdminBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(whole) => Pin::new(whole).poll_frame(context),
            Self::Stream(events) => {
                events.poll_recv(context).map(|next| Some(Ok(Frame::data(next?))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
