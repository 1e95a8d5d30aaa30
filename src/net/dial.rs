//! Addresses to one TCP connection: staggered attempts, the first that connects wins
//! (RFC 8305, "happy eyeballs", section 5, on addresses that are already resolved).

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::clock;

/// Head start of the first address over the next (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);
/// Of each later one, and the least that the same section advises: a few silent addresses in a row
/// must leave time for a good one behind them.
const LATER_STAGGER: Duration = Duration::from_millis(100);
/// Addresses tried for one connection: all that an address book keeps.
const MAX_ADDRESSES: usize = 32;

/// [`connect_noting`], for somebody who keeps no book.
///
/// # Errors
/// As there.
pub async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    connect_noting(addresses, &|_| {}).await
}

/// Connects to the first address that answers, in the given order, IPv6 and IPv4 in turn. The
/// caller bounds the whole by a timeout; dropping the future closes every half-made connection.
/// `failed` is told of each address that refused, or came to nothing in spite of its head start.
///
/// # Errors
/// The last attempt's error when all failed; [`io::ErrorKind::NotFound`] without an address.
pub async fn connect_noting(
    addresses: &[SocketAddr],
    failed: &impl Fn(SocketAddr),
) -> io::Result<TcpStream> {
    let mut waiting = interleaved(addresses);
    let mut running = Running { attempts: Vec::new(), failed };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    let mut head_start = STAGGER;
    loop {
        if let Some(address) = waiting.pop_front() {
            running.begin(address);
        } else if running.attempts.is_empty() {
            return Err(last);
        }
        let more = !waiting.is_empty();
        let mut stagger =
            pin!(tokio::time::sleep(std::mem::replace(&mut head_start, LATER_STAGGER)));
        let round = std::future::poll_fn(|context| {
            if let Poll::Ready(done) = running.poll_any(context) {
                return Poll::Ready(Some(done));
            }
            if more && stagger.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            Poll::Pending
        });
        match round.await {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => last = error,
            None => {}
        }
    }
}

/// Whether a connection could not even be begun, for want of something of our own: a descriptor, a
/// port, memory. It says nothing of the other end.
pub fn is_our_own_lack(error: &io::Error) -> bool {
    // ENOMEM, ENFILE, EMFILE, EADDRNOTAVAIL and ENOBUFS of errno(3) on Linux; std has no names for
    // half of them.
    matches!(error.raw_os_error(), Some(12 | 23 | 24 | 99 | 105))
}

async fn connected(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

struct Attempt {
    address: SocketAddr,
    began: Instant,
    connecting: Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>,
}

/// Attempts under way.
struct Running<'a, F: Fn(SocketAddr)> {
    attempts: Vec<Attempt>,
    failed: &'a F,
}

impl<F: Fn(SocketAddr)> Running<'_, F> {
    fn begin(&mut self, address: SocketAddr) {
        let connecting = Box::pin(connected(address));
        self.attempts.push(Attempt { address, began: clock::now(), connecting });
    }

    /// The first of them to end; it is removed.
    fn poll_any(&mut self, context: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        for place in 0..self.attempts.len() {
            if let Poll::Ready(done) = self.attempts[place].connecting.as_mut().poll(context) {
                let attempt = self.attempts.swap_remove(place);
                if done.as_ref().is_err_and(|error| !is_our_own_lack(error)) {
                    (self.failed)(attempt.address);
                }
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    }
}

impl<F: Fn(SocketAddr)> Drop for Running<'_, F> {
    /// Another one was faster, or the caller's patience is over.
    fn drop(&mut self) {
        let now = clock::now();
        for attempt in &self.attempts {
            if now.saturating_duration_since(attempt.began) >= LATER_STAGGER {
                (self.failed)(attempt.address);
            }
        }
    }
}

/// One of each family in turn, beginning with the family of the first, as RFC 8305, section 4.
fn interleaved(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (same, other): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv6() == first_is_v6);
    let mut mixed = VecDeque::with_capacity(addresses.len());
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    while mixed.len() < MAX_ADDRESSES {
        match (same.next(), other.next()) {
            (None, None) => break,
            (a, b) => mixed.extend(a.into_iter().chain(b)),
        }
    }
    mixed.truncate(MAX_ADDRESSES);
    mixed
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("address")
    }

    #[test]
    fn families_take_turns() {
        let mixed = interleaved(&[
            address("[::1]:1"),
            address("[::1]:2"),
            address("127.0.0.1:3"),
            address("127.0.0.1:4"),
        ]);
        let ports: Vec<_> = mixed.iter().map(SocketAddr::port).collect();
        assert_eq!(ports, [1, 3, 2, 4]);
    }

    #[tokio::test]
    async fn a_dead_address_does_not_keep_a_live_one_from_serving() {
        let live = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let dead = {
            let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
            closed.local_addr().expect("address")
        };
        let live = live.local_addr().expect("address");
        let stream = connect(&[dead, live]).await.expect("the live one");
        assert_eq!(stream.peer_addr().expect("peer"), live);
    }

    #[tokio::test]
    async fn many_dead_addresses_do_not_keep_a_live_one_from_serving_and_are_told_of() {
        let listening = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let live = listening.local_addr().expect("address");
        // Nobody listens there: the whole of 127.0.0.0/8 is this machine.
        let dead: Vec<_> =
            (1..20).map(|n| SocketAddr::from(([127, 9, 9, n], live.port()))).collect();
        let told = RefCell::new(Vec::new());
        let note = |address| told.borrow_mut().push(address);
        let all: Vec<_> = dead.iter().copied().chain([live]).collect();
        let stream = connect_noting(&all, &note).await.expect("the live one");
        assert_eq!(stream.peer_addr().expect("peer"), live);
        let mut told: Vec<SocketAddr> = told.into_inner();
        told.sort_unstable();
        assert_eq!(told, dead);
    }

    #[tokio::test]
    async fn a_silent_ipv6_address_does_not_make_the_ipv4_one_wait() {
        // Its backlog is full: what comes then gets no answer at all, as from a black hole.
        let silent = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None);
        let silent = silent.expect("IPv6");
        silent.bind(&address("[::1]:0").into()).expect("bind");
        silent.listen(0).expect("listen");
        let dead = silent.local_addr().expect("address").as_socket().expect("IPv6");
        let mut held = Vec::new();
        let patience = 2 * STAGGER;
        while let Ok(stream) = tokio::time::timeout(patience, TcpStream::connect(dead)).await {
            held.push(stream.expect("a place in the backlog"));
        }
        let live = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let live = live.local_addr().expect("address");
        let connected = tokio::time::timeout(8 * STAGGER, connect(&[dead, live])).await;
        let stream = connected.expect("long before any connect timeout").expect("the live one");
        assert_eq!(stream.peer_addr().expect("peer"), live);
    }

    #[test]
    fn what_we_lack_is_told_from_what_the_other_end_does() {
        let too_many = io::Error::from_raw_os_error(24);
        assert!(too_many.to_string().contains("Too many open files"), "{too_many}");
        assert!(is_our_own_lack(&too_many));
        assert!(!is_our_own_lack(&io::ErrorKind::ConnectionRefused.into()));
        assert!(!is_our_own_lack(&io::ErrorKind::TimedOut.into()));
    }

    #[tokio::test]
    async fn without_an_address_there_is_an_error_at_once() {
        assert_eq!(connect(&[]).await.expect_err("none").kind(), io::ErrorKind::NotFound);
    }
}
