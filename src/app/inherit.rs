//! What a process begins with besides its file: sockets that are listened on already, and what the
//! process before it knew. Each socket is handed to the listener of the file with its address.

use std::net::{SocketAddr, TcpListener};

use crate::net::activation::Activated;
use crate::net::handover::Estate;

/// Nothing, unless there is a predecessor or a supervisor that opens sockets.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// From the process that is replaced: each is taken once.
    handed: Vec<(SocketAddr, TcpListener)>,
    /// From a supervisor, which keeps them for as long as its unit stands: an address that a reload takes
    /// away and another one brings back is found again.
    activated: Vec<Activated>,
    memory: Option<Vec<u8>>,
}

impl Inheritance {
    /// From the process that is replaced.
    pub fn handed(estate: Estate) -> Self {
        let sockets = estate.clients.into_iter().chain(estate.admin);
        let handed = sockets.filter_map(|socket| Some((socket.local_addr().ok()?, socket)));
        let memory = Some(estate.memory).filter(|memory| !memory.is_empty());
        Self { handed: handed.collect(), activated: Vec::new(), memory }
    }

    /// From a supervisor.
    pub fn activated(activated: Vec<Activated>) -> Self {
        Self { activated, ..Self::default() }
    }

    /// What the process before this one remembered, once.
    pub(super) fn take_memory(&mut self) -> Option<Vec<u8>> {
        self.memory.take()
    }

    /// The sockets that listen at an address already; none: it has to be bound. Port 0 stands for
    /// whatever port the predecessor had at this IP address and no listener of the file names.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub(super) fn claim(
        &mut self,
        configured: SocketAddr,
        named: &[SocketAddr],
    ) -> std::io::Result<Vec<TcpListener>> {
        let fits = |(at, _): &(SocketAddr, TcpListener)| {
            *at == configured
                || configured.port() == 0 && at.ip() == configured.ip() && !named.contains(at)
        };
        if let Some(place) = self.handed.iter().position(fits) {
            let address = self.handed[place].0;
            let mine = self.handed.extract_if(.., |(at, _)| *at == address);
            return Ok(mine.map(|(_, socket)| socket).collect());
        }
        let mine = self.activated.iter().filter(|one| one.address == configured);
        mine.map(|one| one.socket.try_clone()).collect()
    }

    /// Lets go of what no listener wanted, and says so: clients that wait there are not served. To be
    /// called once all have claimed theirs.
    pub(super) fn settle(&mut self, in_force: &[SocketAddr]) {
        for (address, _) in self.handed.drain(..) {
            tracing::info!(%address, "no listener of the file takes this socket over: closed");
        }
        for one in self.activated.iter().filter(|one| !in_force.contains(&one.address)) {
            let (name, address) = (&one.name, one.address);
            tracing::warn!(name, %address, "no listener of the file has the address of this socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn socket() -> (SocketAddr, TcpListener) {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        (socket.local_addr().expect("address"), socket)
    }

    #[test]
    fn port_0_takes_what_no_other_listener_names() {
        let ((first, one), (second, other)) = (socket(), socket());
        let estate = Estate { clients: vec![one, other], admin: None, memory: Vec::new() };
        let mut inherited = Inheritance::handed(estate);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let claimed = inherited.claim(any, &[first]).expect("descriptors");
        assert_eq!(claimed[0].local_addr().expect("address"), second);
        assert_eq!(inherited.claim(first, &[first]).expect("descriptors").len(), 1);
        assert!(inherited.claim(any, &[first]).expect("descriptors").is_empty(), "each once");
    }

    #[test]
    fn a_supervisors_socket_can_be_taken_again_after_a_reload_gave_it_up() {
        let (address, socket) = socket();
        let mut inherited =
            Inheritance::activated(vec![Activated { name: "web".to_owned(), address, socket }]);
        for _ in 0..2 {
            assert_eq!(inherited.claim(address, &[address]).expect("descriptors").len(), 1);
        }
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        assert!(inherited.claim(any, &[]).expect("descriptors").is_empty(), "not asked for");
    }
}
