//! Listening sockets that a supervisor opened for us (`sd_listen_fds(3)`): `LISTEN_FDS` of them from
//! descriptor 3 on, meant for `LISTEN_PID`, named in `LISTEN_FDNAMES`.
//!
//! Not here: which listener of the file each one belongs to.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::SockRef;

/// Colons between the names.
const NAMES: &str = "LISTEN_FDNAMES";

/// A socket of the supervisor's.
#[derive(Debug)]
pub struct Activated {
    /// As its unit calls it, for messages; systemd says `unknown` where the unit does not.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Listening already, so that clients wait while nobody serves.
    pub socket: TcpListener,
}

impl Activated {
    /// A socket that listens, by its name.
    ///
    /// # Errors
    /// When it has no address.
    pub fn new(name: String, socket: TcpListener) -> io::Result<Self> {
        Ok(Self { name, address: socket.local_addr()?, socket })
    }
}

/// Takes what was given to this process; nothing when there is no such supervisor. To be called once,
/// before there is any other thread: it clears the variables, so that no child takes them for its own.
///
/// # Errors
/// The one that is no listening TCP socket, by its place. A mistake of the unit: serving without it
/// would leave clients waiting at it.
pub fn take() -> Result<Vec<Activated>, (usize, io::Error)> {
    let names = std::env::var(NAMES).unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let mut given = ListenFd::from_env();
    let mut taken = Vec::new();
    for place in 0..given.len() {
        let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown".to_owned());
        let one = given.take_tcp_listener(place).and_then(|socket| match socket {
            Some(socket) => checked(name, socket),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        });
        taken.push(one.map_err(|error| (place, error))?);
    }
    Ok(taken)
}

fn checked(name: String, socket: TcpListener) -> io::Result<Activated> {
    if !SockRef::from(&socket).is_listener()? {
        let what =
            "is no listening socket: `Accept=no` and `ListenStream=` of its unit are what serves";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Activated::new(name, socket)
}
