//! Listening sockets: one per worker on the same address (`SO_REUSEPORT`), bound by one thread
//! before any worker starts, so that an address in use is one clear error at the start.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

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
    fn an_address_in_use_is_refused_even_where_ports_can_be_shared() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let taken = listeners(any, 1).expect("bind");
        let again = listeners(taken[0].local_addr().expect("address"), 1);
        assert_eq!(again.expect_err("in use").kind(), io::ErrorKind::AddrInUse);
    }
}
