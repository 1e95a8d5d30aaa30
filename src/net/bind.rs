//! Listening sockets: one per worker on the same address (`SO_REUSEPORT`), bound by one thread
//! before any worker starts, so that an address in use is one clear error at the start.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections the kernel keeps for a worker that is busy; beyond it clients' SYNs are retried.
const BACKLOG: i32 = 4096;

/// `count` sockets listening on one address. Port 0 becomes one free port for all of them.
///
/// # Errors
/// When the address is in use, also by another process that shares its port, is not ours, or is
/// not permitted.
pub fn listeners(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // With SO_REUSEPORT a second process of the same user would get half of the connections
    // without anybody noticing. A socket without it is refused while somebody listens.
    if address.port() != 0 {
        drop(socket(address, Sharing::Exclusive)?);
    }
    let first: TcpListener = listening(socket(address, Sharing::Shared)?)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    while listeners.len() < count.max(1) {
        listeners.push(listening(socket(address, Sharing::Shared)?)?);
    }
    Ok(listeners)
}

/// Sockets that somebody else opened at one address, dealt to `workers` workers. All are served: clients
/// may be waiting at any of them. Where there are too few, a socket joins them if they share their port;
/// else several workers accept at one, which is as right and a little less even.
///
/// # Errors
/// When there is no descriptor left, or a socket that cannot be watched. None at all is an error too.
pub fn dealt(sockets: Vec<TcpListener>, workers: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let Some(first) = sockets.first() else { return Err(io::ErrorKind::NotFound.into()) };
    let address = first.local_addr()?;
    let first = first.try_clone()?;
    let is_shared = SockRef::from(&first).reuse_port()?;
    let mut dealt: Vec<Vec<TcpListener>> = (0..workers.max(1)).map(|_| Vec::new()).collect();
    let mut places = (0..dealt.len()).cycle();
    for (socket, place) in sockets.into_iter().zip(&mut places) {
        socket.set_nonblocking(true)?;
        SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT)?;
        dealt[place].push(socket);
    }
    for hand in dealt.iter_mut().filter(|hand| hand.is_empty()) {
        let joined = is_shared.then(|| socket(address, Sharing::Shared).and_then(listening));
        hand.push(match joined {
            Some(Ok(joined)) => joined,
            Some(Err(_)) | None => first.try_clone()?,
        });
    }
    Ok(dealt)
}

/// Bytes that the kernel takes for a client before it has sent any of them. Beyond it would take megabytes from a
/// client that takes them slowly, and nobody could tell it from one that takes nothing.
const UNSENT: u32 = 128 * 1024;

#[derive(Clone, Copy, Eq, PartialEq)]
enum Sharing {
    Exclusive,
    Shared,
}

fn socket(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if sharing == Sharing::Shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` takes IPv4 too, whatever the system's default.
        socket.set_only_v6(false)?;
    }
    // Accepted sockets inherit it.
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn listening(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn every_worker_gets_a_socket_on_the_same_port() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let sockets = listeners(any, 2).expect("bind");
        let ports: Vec<_> =
            sockets.iter().map(|s| s.local_addr().expect("address").port()).collect();
        assert_eq!(ports.len(), 2);
        assert_eq!(ports[0], ports[1]);
    }

    #[test]
    fn every_inherited_socket_is_served_and_every_worker_has_one() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        for (given, workers) in [(3, 2), (2, 2), (1, 3), (2, 1)] {
            let sockets = listeners(any, given).expect("bind");
            let address = sockets[0].local_addr().expect("address");
            let dealt = dealt(sockets, workers).expect("dealt");
            assert_eq!(dealt.len(), workers);
            assert!(dealt.iter().all(|hand| !hand.is_empty()), "{given} for {workers}");
            assert_eq!(dealt.iter().flatten().count(), given.max(workers));
            let mut all = dealt.iter().flatten();
            assert!(all.all(|socket| socket.local_addr().expect("address") == address));
        }
        let alone = vec![TcpListener::bind(any).expect("bind")];
        let shared = dealt(alone, 3).expect("several accept at one that does not share its port");
        assert_eq!(shared.len(), 3);
        assert!(dealt(Vec::new(), 2).is_err());
    }

    #[test]
    fn an_address_in_use_is_refused_even_where_ports_can_be_shared() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let taken = listeners(any, 1).expect("bind");
        let again = listeners(taken[0].local_addr().expect("address"), 1);
        assert_eq!(again.expect_err("in use").kind(), io::ErrorKind::AddrInUse);
    }
}
