//! What a process hands to the one that takes its place: listening sockets, and what it knows.
//!
//! ```text
//!  predecessor                               successor (a socket pair is its standard input)
//!      │ starts it ─────────────────────────────▶ reads its file
//!      │ ◀───────────────────────── `P` prepared
//!      │ header, sockets, names, memory ────────▶ serves
//!      │ ◀──────────── `R` ready, or `F` and why not
//!  drains or serves on
//! ```
//!
//! Sockets travel as ancillary data and not as inherited numbers: only so do they arrive with an owner,
//! without `unsafe`. For the kernel it is the same: both processes have the very sockets, with the clients
//! that wait at them, so none is lost. A second socket beside the first one (`SO_REUSEPORT`) would leave
//! those behind that wait at the old one.
//!
//! Blocking, for a thread that may wait. Every wait is bounded by the stream's timeouts.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use super::activation::Activated;

/// Opens the header; another number is another format.
const MAGIC: [u8; 8] = *b"bascule2";
/// Of the header: clients' sockets, whether there is the operator's, a supervisor's, bytes of their names,
/// bytes of what was remembered.
const COUNTS: usize = 2 + 1 + 2 + 4 + 8;
/// Sockets in one message; the kernel takes 253.
const BATCH: usize = 64;
/// Between the names of a supervisor's sockets, as the supervisor has it: none holds one.
const BETWEEN: &str = ":";
/// Bytes of those names, at most; an environment variable holds no more.
const MOST_NAMES: u32 = 128 * 1024;
/// Bytes of what was remembered, at most.
const MOST_MEMORY: u64 = 64 * 1024 * 1024;
/// Bytes of the reason why not, at most.
const MOST_REASON: u64 = 4 * 1024;

const PREPARED: u8 = b'P';
const READY: u8 = b'R';
const FAILED: u8 = b'F';

/// What is handed over.
#[derive(Debug, Default)]
pub struct Estate {
    /// Where clients connect: every worker's socket of every address.
    pub clients: Vec<TcpListener>,
    /// Where the operator connects.
    pub admin: Option<TcpListener>,
    /// From a supervisor, whether or not they are listened on now.
    pub activated: Arc<[Activated]>,
    /// What was remembered; empty: nothing.
    pub memory: Vec<u8>,
}

/// Why the other side did not do its part.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// It ended, or was silent for too long.
    #[error("the other process is silent or gone")]
    Io(#[from] io::Error),
    /// It says why.
    #[error("{0}")]
    Failed(String),
    /// It is of another kind.
    #[error("the other process speaks otherwise")]
    Foreign,
}

/// The end of the process that is replaced.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

/// The end of the process that takes over.
#[derive(Debug)]
pub struct Successor(UnixStream);

/// Two ends; the second one's descriptor becomes the new process's standard input.
///
/// # Errors
/// When the system gives no socket pair.
pub fn pair(patience: Duration) -> io::Result<(Predecessor, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(patience))?;
    ours.set_write_timeout(Some(patience))?;
    Ok((Predecessor(ours), theirs.into()))
}

impl Predecessor {
    /// Waits until the new process has read its configuration.
    ///
    /// # Errors
    /// When it cannot, ends or is silent for too long.
    pub fn prepared(&mut self) -> Result<(), HandoverError> {
        self.expect(PREPARED)
    }

    /// Sends everything, and waits until the new process serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn give(&mut self, estate: &Estate) -> Result<(), HandoverError> {
        let count = |many: usize| u16::try_from(many).map_err(|_| HandoverError::Foreign);
        let names: Vec<&str> = estate.activated.iter().map(|one| one.name.as_str()).collect();
        let names = names.join(BETWEEN);
        let length = u32::try_from(names.len()).ok().filter(|length| *length <= MOST_NAMES);
        let mut header = MAGIC.to_vec();
        header.extend(count(estate.clients.len())?.to_be_bytes());
        header.push(u8::from(estate.admin.is_some()));
        header.extend(count(estate.activated.len())?.to_be_bytes());
        header.extend(length.ok_or(HandoverError::Foreign)?.to_be_bytes());
        header.extend((estate.memory.len() as u64).to_be_bytes());
        self.0.write_all(&header)?;
        let activated = estate.activated.iter().map(|one| &one.socket);
        let sockets = estate.clients.iter().chain(&estate.admin).chain(activated);
        let sockets: Vec<BorrowedFd> = sockets.map(AsFd::as_fd).collect();
        for batch in sockets.chunks(BATCH) {
            send(&self.0, batch)?;
        }
        self.0.write_all(names.as_bytes())?;
        self.0.write_all(&estate.memory)?;
        self.expect(READY)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), HandoverError> {
        let mut said = [0];
        self.0.read_exact(&mut said)?;
        match said[0] {
            said if said == wanted => Ok(()),
            FAILED => {
                let mut reason = Vec::new();
                (&self.0).take(MOST_REASON).read_to_end(&mut reason)?;
                Err(HandoverError::Failed(String::from_utf8_lossy(&reason).into_owned()))
            }
            _ => Err(HandoverError::Foreign),
        }
    }
}

impl Successor {
    /// From the standard input of this process, where its parent has put the other end.
    ///
    /// # Errors
    /// When that is no such thing.
    pub fn from_stdin(patience: Duration) -> io::Result<Self> {
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self(stream))
    }

    /// Says that the configuration is read, and waits for what is handed over.
    ///
    /// # Errors
    /// When it does not come.
    pub fn take(&mut self) -> Result<Estate, HandoverError> {
        self.0.write_all(&[PREPARED])?;
        let mut magic = [0; MAGIC.len()];
        self.0.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(HandoverError::Foreign);
        }
        let mut counts = [0; COUNTS];
        self.0.read_exact(&mut counts)?;
        let [c0, c1, admin, a0, a1, n0, n1, n2, n3, memory @ ..] = counts;
        let clients = usize::from(u16::from_be_bytes([c0, c1]));
        let activated = usize::from(u16::from_be_bytes([a0, a1]));
        let (names, memory) = (u32::from_be_bytes([n0, n1, n2, n3]), u64::from_be_bytes(memory));
        if admin > 1 || names > MOST_NAMES || memory > MOST_MEMORY {
            return Err(HandoverError::Foreign);
        }
        let before = clients + usize::from(admin);
        let mut sockets = Vec::new();
        while sockets.len() < before + activated {
            receive(&self.0, &mut sockets)?;
        }
        let names = self.bytes(u64::from(names))?;
        let names = String::from_utf8(names).map_err(|_| HandoverError::Foreign)?;
        let activated = names.split(BETWEEN).zip(sockets.split_off(before));
        let activated = activated.map(|(name, socket)| Activated::new(name.to_owned(), socket));
        let activated = activated.collect::<io::Result<_>>()?;
        let admin = sockets.split_off(clients).pop();
        Ok(Estate { clients: sockets, admin, activated, memory: self.bytes(memory)? })
    }

    /// So many, and no fewer.
    fn bytes(&self, length: u64) -> Result<Vec<u8>, HandoverError> {
        let mut bytes = Vec::new();
        (&self.0).take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(HandoverError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }

    /// Says that this process serves.
    ///
    /// # Errors
    /// When the other one is gone: then it has not waited, and nobody drains.
    pub fn ready(mut self) -> io::Result<()> {
        self.0.write_all(&[READY])
    }

    /// Says why it does not. The other one serves on or does not, as before.
    ///
    /// # Errors
    /// When the other one is gone: then nobody has heard the reason.
    pub fn failed(mut self, reason: &str) -> io::Result<()> {
        let mut said = vec![FAILED];
        said.extend(reason.bytes().take(MOST_REASON as usize));
        self.0.write_all(&said)
    }
}

/// One byte, since descriptors travel with something only.
fn send(stream: &UnixStream, sockets: &[BorrowedFd]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    rustix::net::sendmsg(stream, &[IoSlice::new(b"s")], &mut control, SendFlags::empty())?;
    Ok(())
}

fn receive(stream: &UnixStream, sockets: &mut Vec<TcpListener>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let came = rustix::net::recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let before = sockets.len();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors.map(TcpListener::from));
        }
    }
    // Without progress nothing would end the caller's loop.
    if came.bytes == 0 || sockets.len() == before {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn both() -> (Predecessor, Successor) {
        let (old, theirs) = pair(PATIENCE).expect("a pair");
        let stream = UnixStream::from(theirs);
        stream.set_read_timeout(Some(PATIENCE)).expect("ours");
        (old, Successor(stream))
    }

    fn listeners(count: usize) -> Vec<TcpListener> {
        let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        (0..count).map(bind).collect()
    }

    fn addresses(sockets: &[TcpListener]) -> Vec<std::net::SocketAddr> {
        sockets.iter().map(|socket| socket.local_addr().expect("address")).collect()
    }

    #[test]
    fn more_sockets_than_one_message_holds_arrive_in_order_with_a_supervisors_last() {
        let (mut old, mut new) = both();
        let admin = listeners(1).pop();
        let named = ["web", "unknown", "web"].into_iter().zip(listeners(3));
        let activated = named.map(|(name, socket)| Activated::new(name.to_owned(), socket));
        let activated = activated.collect::<io::Result<_>>().expect("addresses");
        let clients = listeners(BATCH * 2 + 1);
        let estate = Estate { clients, admin, activated, memory: vec![7; 300_000] };
        let (clients, admin) = (addresses(&estate.clients), estate.admin.as_ref());
        let admin = admin.map(|socket| socket.local_addr().expect("address"));
        let thread = std::thread::spawn(move || {
            let taken = new.take().expect("handed over");
            new.ready().expect("the other end waits");
            taken
        });
        old.prepared().expect("it is");
        old.give(&estate).expect("it serves");
        let taken = thread.join().expect("no panic");
        assert_eq!(addresses(&taken.clients), clients);
        assert_eq!(taken.admin.as_ref().map(|socket| socket.local_addr().expect("address")), admin);
        let told = |one: &Activated| (one.name.clone(), one.address);
        let of = |estate: &Estate| estate.activated.iter().map(told).collect::<Vec<_>>();
        assert_eq!(of(&taken), of(&estate));
        let listens = |one: &Activated| one.socket.local_addr().ok() == Some(one.address);
        assert!(taken.activated.iter().all(listens));
        assert_eq!(taken.memory, estate.memory);
    }

    #[test]
    fn whoever_cannot_take_over_says_why() {
        let (mut old, new) = both();
        new.failed("the file has a mistake").expect("the other one waits");
        let error = old.prepared().expect_err("it cannot");
        assert_eq!(error.to_string(), "the file has a mistake");
    }

    #[test]
    fn one_that_ends_and_one_that_speaks_otherwise_are_told_apart() {
        let (mut old, new) = both();
        drop(new);
        assert!(matches!(old.prepared(), Err(HandoverError::Io(_))));
        let (mut old, mut new) = both();
        new.0.write_all(b"HTTP/1.1 400").expect("ours");
        assert!(matches!(old.prepared(), Err(HandoverError::Foreign)));
        let (mut old, mut new) = both();
        old.0.write_all(b"bascule9...................").expect("ours");
        assert!(matches!(new.take(), Err(HandoverError::Foreign)));
    }
}
