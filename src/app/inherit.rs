//! What a process begins with besides its file: sockets that are listened on already, and what the
//! process before it knew. Each socket is handed to the listener of the file with its address.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use crate::net::activation::Activated;
use crate::net::handover::Estate;

/// Nothing, unless there is a predecessor or a supervisor that opens sockets.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// From the process that is replaced: each is taken once.
    handed: Vec<Handed>,
    /// From a supervisor, which keeps them for as long as its unit stands: an address that a reload takes
    /// away and another one brings back is found again, by every process that takes over too.
    activated: Arc<[Activated]>,
    memory: Option<Vec<u8>>,
}

/// A socket of the process that is replaced.
#[derive(Debug)]
struct Handed {
    role: Role,
    address: SocketAddr,
    socket: TcpListener,
}

/// Who connects to a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// Clients do.
    Clients,
    /// The operator does.
    Admin,
}

impl Inheritance {
    /// From the process that is replaced.
    pub fn handed(estate: Estate) -> Self {
        let clients = estate.clients.into_iter().map(|socket| (Role::Clients, socket));
        let admin = estate.admin.into_iter().map(|socket| (Role::Admin, socket));
        let handed = clients.chain(admin).filter_map(|(role, socket)| {
            Some(Handed { role, address: socket.local_addr().ok()?, socket })
        });
        let memory = Some(estate.memory).filter(|memory| !memory.is_empty());
        Self { handed: handed.collect(), activated: estate.activated, memory }
    }

    /// From a supervisor.
    pub fn activated(activated: Vec<Activated>) -> Self {
        Self { activated: activated.into(), ..Self::default() }
    }

    /// A supervisor's sockets once more, for a process that takes over.
    pub(super) fn lend(&self) -> Arc<[Activated]> {
        Arc::clone(&self.activated)
    }

    /// What the process before this one remembered, once.
    pub(super) fn take_memory(&mut self) -> Option<Vec<u8>> {
        self.memory.take()
    }

    /// The sockets that listen at an address already; none: it has to be bound. Port 0 stands for
    /// whatever port the predecessor had at this IP address for the same role and no listener of the file
    /// names. One that is named is taken over whatever it was for: it could not be bound anew.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub(super) fn claim(
        &mut self,
        role: Role,
        configured: SocketAddr,
        named: &[SocketAddr],
    ) -> std::io::Result<Vec<TcpListener>> {
        let fits = |one: &Handed| {
            one.address == configured
                || configured.port() == 0
                    && one.role == role
                    && one.address.ip() == configured.ip()
                    && !named.contains(&one.address)
        };
        if let Some(place) = self.handed.iter().position(fits) {
            let address = self.handed[place].address;
            let mine = self.handed.extract_if(.., |one| one.address == address);
            return Ok(mine.map(|one| one.socket).collect());
        }
        let mine = self.activated.iter().filter(|one| one.address == configured);
        mine.map(|one| one.socket.try_clone()).collect()
    }

    /// Lets go of what no listener wanted, and says so: clients that wait there are not served. To be
    /// called once all have claimed theirs.
    pub(super) fn settle(&mut self, in_force: &[SocketAddr]) {
        let is_kept = |at: SocketAddr| self.activated.iter().any(|one| one.address == at);
        for Handed { address, .. } in self.handed.drain(..).filter(|one| !is_kept(one.address)) {
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
        let estate = Estate { clients: vec![one, other], admin: None, ..Estate::default() };
        let mut inherited = Inheritance::handed(estate);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let claimed = inherited.claim(Role::Clients, any, &[first]).expect("descriptors");
        assert_eq!(claimed[0].local_addr().expect("address"), second);
        assert_eq!(inherited.claim(Role::Clients, first, &[first]).expect("descriptors").len(), 1);
        assert!(
            inherited.claim(Role::Clients, any, &[first]).expect("descriptors").is_empty(),
            "each once"
        );
    }

    #[test]
    fn port_0_takes_nothing_that_was_for_somebody_else() {
        let ((clients, one), (operator, other)) = (socket(), socket());
        let estate = Estate { clients: vec![one], admin: Some(other), ..Estate::default() };
        let mut inherited = Inheritance::handed(estate);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let port = |sockets: Vec<TcpListener>| {
            let addresses = sockets.iter().map(|it| it.local_addr().expect("address"));
            addresses.collect::<Vec<_>>()
        };
        let named = [operator];
        let none = inherited.claim(Role::Admin, any, &named).expect("descriptors");
        assert!(none.is_empty(), "a listener of the file names the only one it could be");
        let mine = inherited.claim(Role::Admin, any, &[]).expect("descriptors");
        assert_eq!(port(mine), [operator]);
        assert!(inherited.claim(Role::Admin, any, &[]).expect("descriptors").is_empty());
        let theirs = inherited.claim(Role::Clients, any, &[]).expect("descriptors");
        assert_eq!(port(theirs), [clients]);
    }

    #[test]
    fn an_address_that_is_named_is_taken_over_whatever_it_was_for() {
        let (address, socket) = socket();
        let estate = Estate { clients: vec![socket], admin: None, ..Estate::default() };
        let mut inherited = Inheritance::handed(estate);
        assert_eq!(inherited.claim(Role::Admin, address, &[]).expect("descriptors").len(), 1);
    }

    #[test]
    fn a_supervisors_socket_can_be_taken_again_after_a_reload_gave_it_up() {
        let (address, socket) = socket();
        let web = Activated::new("web".to_owned(), socket).expect("an address");
        let mut inherited = Inheritance::activated(vec![web]);
        let mut claim = |at| inherited.claim(Role::Clients, at, &[address]).expect("descriptors");
        for _ in 0..2 {
            assert_eq!(claim(address).len(), 1);
        }
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        assert!(claim(any).is_empty(), "not asked for");
    }

    #[test]
    fn and_by_the_process_that_takes_over_too_which_hands_it_on() {
        let (address, socket) = socket();
        let served = socket.try_clone().expect("descriptors");
        let web = Activated::new("web".to_owned(), socket).expect("an address");
        let activated = Inheritance::activated(vec![web]).lend();
        let estate = Estate { clients: vec![served], activated, ..Estate::default() };
        let mut inherited = Inheritance::handed(estate);
        for _ in 0..3 {
            let claimed = inherited.claim(Role::Clients, address, &[address]);
            assert_eq!(claimed.expect("descriptors").len(), 1);
        }
        assert_eq!(inherited.lend()[0].address, address);
    }
}
