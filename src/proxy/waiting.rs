//! A client's connection between two requests: it waits for its next head here, outside of hyper, and
//! holds nothing but what has come of that head.
//!
//! hyper has 16 KiB of buffers for a connection from its first moment to its last. Most connections wait
//! most of the time, some attackers' always; so hyper gets a connection when a whole head is there, or
//! something that will never be one and is hyper's to refuse. After [`REST`](super::attend::REST)
//! without a request it comes back.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::io::{AsyncRead, ReadBuf};

use super::activity::{Activity, Patience};
use super::attend::{GOODBYE, poll_due};
use super::worker::{Stage, Worker};
use crate::clock;
use crate::model::limits::Limits;

/// Read at once into the worker's own buffer: an everyday head with all its cookies.
pub(super) const READ: usize = 8 * 1024;
/// Fields of a head at a look; hyper judges one with more.
const FIELDS: usize = 100;

/// How the wait ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Waited {
    /// With a head, or with what cannot be one.
    Head,
    /// The client is gone, was idle for too long, or the process ends.
    Over,
    SlowHead,
}

/// Waits until a head has come; `came` holds what has.
pub(super) async fn for_head<S: AsyncRead + Unpin>(
    worker: &Worker,
    limits: &Limits,
    activity: &Activity,
    (stream, came): (&mut S, &mut Vec<u8>),
) -> Waited {
    let mut last_call = None;
    let mut draining = pin!(worker.draining.notified());
    let first = match activity.patience(limits) {
        Patience::Head(until) | Patience::Idle(until) => until,
        Patience::Served => clock::now() + limits.idle_timeout,
    };
    let mut timer = pin!(tokio::time::sleep_until(first.into()));
    let mut look = Look::default();
    poll_fn(|context| {
        loop {
            if look.is_enough(came, limits.max_header_bytes) {
                return Poll::Ready(Waited::Head);
            }
            let mut room = worker.room.borrow_mut();
            let mut buffer = ReadBuf::new(&mut room[..]);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    activity.bytes_came();
                    came.extend_from_slice(buffer.filled());
                }
                Poll::Ready(Ok(()) | Err(_)) => return Poll::Ready(Waited::Over),
                Poll::Pending => break,
            }
        }
        // A request may be on its way, sent before anybody knew of a drain. Half a head is somebody's
        // request: it has its time.
        let ends = || worker.stage.get() != Stage::Serving;
        if last_call.is_none() && (ends() || draining.as_mut().poll(context).is_ready()) {
            last_call = Some(clock::now() + GOODBYE);
        }
        let last_call = last_call.filter(|_| came.is_empty());
        poll_due(timer.as_mut(), context, |now| match activity.patience(limits) {
            _ if last_call.is_some_and(|until| until <= now) => Ok(Waited::Over),
            Patience::Head(until) if until <= now => Ok(Waited::SlowHead),
            Patience::Idle(until) if until <= now => Ok(Waited::Over),
            Patience::Head(until) | Patience::Idle(until) => {
                Err(last_call.map_or(until, |last_call| last_call.min(until)))
            }
            Patience::Served => Err(now + limits.idle_timeout),
        })
    })
    .await
}

/// How far what has come was looked at.
#[derive(Default)]
struct Look {
    /// For the end of a head.
    at: usize,
    /// By the parser, which begins anew each time: at twice as much as the last time.
    parsed: usize,
}

impl Look {
    /// Whether a head has come, or what will never be one.
    fn is_enough(&mut self, came: &[u8], most: usize) -> bool {
        if came.is_empty() {
            return false;
        }
        let from = self.at.saturating_sub(3);
        self.at = came.len();
        if came.len() > most || ends_or_breaks(&came[from..]) {
            return true;
        }
        if came.len() < self.parsed * 2 {
            return false;
        }
        self.parsed = came.len();
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
        let mut head = httparse::Request::new(&mut []);
        !matches!(head.parse_with_uninit_headers(came, &mut fields), Ok(httparse::Status::Partial))
    }
}

/// Whether there is the end of a head, or a line that ends as no line may.
fn ends_or_breaks(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|feed| match &bytes[..feed] {
        [.., b'\r', b'\n', b'\r'] => true,
        [.., b'\r'] => false,
        // Cut off in the middle of a line end, or nothing before it.
        [] => false,
        [..] => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many of these bytes, coming one at a time, it is enough.
    fn enough_after(bytes: &[u8]) -> Option<usize> {
        let mut look = Look::default();
        (1..=bytes.len()).find(|came| look.is_enough(&bytes[..*came], 1000))
    }

    #[test]
    fn a_head_is_waited_for_to_its_end_and_nonsense_is_not() {
        let head = b"GET /page HTTP/1.1\r\nHost: a.example\r\nCookie: b\r\n\r\n";
        #[rustfmt::skip]
        let table: [(&str, &[u8], Option<usize>); 8] = [
            ("a whole head",        head,                                 Some(head.len())),
            ("half a head",         &head[..head.len() - 1],              None),
            ("a bare line feed",    b"GET / HTTP/1.1\nHost: a\n",         Some(15)),
            ("its last line bare",  b"GET / HTTP/1.1\r\nHost: a\r\n\n",   Some(26)),
            ("a TLS hello",         b"\x16\x03\x01\x02\x00",              Some(1)),
            ("no version of ours",  b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",  Some(16)),
            ("a preface's start",   b"PRI * HTT",                         None),
            ("an endless line",     &[b'x'; 2000],                        Some(1001)),
        ];
        for (shows, bytes, expected) in table {
            assert_eq!(enough_after(bytes), expected, "{shows}");
        }
    }

    #[test]
    fn how_often_it_is_parsed_does_not_grow_with_its_pieces() {
        let mut look = Look::default();
        let bytes = [b"GET /".as_slice(), &[b'x'; 60_000]].concat();
        let mut parsed = Vec::new();
        for came in 1..=bytes.len() {
            assert!(!look.is_enough(&bytes[..came], 64 * 1024));
            parsed.push(look.parsed);
        }
        parsed.dedup();
        assert!(parsed.len() <= 17, "{parsed:?}");
    }
}
