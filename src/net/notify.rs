//! What a supervisor is told of our life, over the datagram socket that it names (`sd_notify(3)`).
//!
//! Without `NOTIFY_SOCKET` nobody is told anything. Sending never waits and never fails the caller: a
//! supervisor that does not listen must not stop a proxy.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where the supervisor listens.
const SOCKET: &str = "NOTIFY_SOCKET";
/// How long it waits for a ping, in microseconds.
const WATCHDOG: &str = "WATCHDOG_USEC";
/// Whom it waits for.
const WATCHED: &str = "WATCHDOG_PID";

/// What is of interest to a supervisor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Every address is listened on.
    Ready,
    /// A new configuration is being loaded; [`Stage::Ready`] follows, also when it was refused.
    Reloading,
    /// No more connections are taken.
    Stopping,
    /// Every thread takes its turns.
    Alive,
    /// This process serves from now on in place of the one that says so.
    Successor(u32),
}

impl Stage {
    fn message(self) -> String {
        match self {
            Self::Ready => "READY=1\nSTATUS=serving".to_owned(),
            // Since version 253 a reload is believed only with its time beside it.
            Self::Reloading => match monotonic() {
                Some(now) => format!("RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=reloading"),
                None => "RELOADING=1\nSTATUS=reloading".to_owned(),
            },
            Self::Stopping => "STOPPING=1\nSTATUS=draining".to_owned(),
            Self::Alive => "WATCHDOG=1".to_owned(),
            Self::Successor(process) => format!("MAINPID={process}"),
        }
    }
}

/// Tells the supervisor, if there is one.
pub fn tell(stage: Stage) {
    let Some(socket) = std::env::var_os(SOCKET).filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, &stage.message()) {
        tracing::debug!(%error, ?stage, "the supervisor was not told");
    }
}

fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    // An `@` stands for the zero byte of an abstract name.
    let address = match socket.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let datagram = UnixDatagram::unbound()?;
    datagram.set_nonblocking(true)?;
    datagram.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}

/// Microseconds of the clock that a supervisor compares with.
fn monotonic() -> Option<u64> {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).ok()?;
    Some(seconds * 1_000_000 + u64::try_from(now.tv_nsec).ok()? / 1_000)
}

/// How often the supervisor wants a sign of life: it ends us after twice that time without one. `None`:
/// it does not ask.
pub fn watchdog() -> Option<Duration> {
    let read = |name| std::env::var(name).ok();
    interval(read(WATCHDOG).as_deref(), read(WATCHED).as_deref(), std::process::id())
}

fn interval(limit: Option<&str>, watched: Option<&str>, own: u32) -> Option<Duration> {
    let is_us = watched.is_none_or(|process| process.parse() == Ok(own));
    let limit = Duration::from_micros(limit?.parse().ok()?);
    (is_us && !limit.is_zero()).then(|| limit / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_process_that_is_watched_pings_at_half_of_the_limit() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(interval(Some("2000000"), None, 7), second);
        assert_eq!(interval(Some("2000000"), Some("7"), 7), second);
        assert_eq!(interval(Some("2000000"), Some("8"), 7), None);
        assert_eq!(interval(Some("0"), None, 7), None);
        assert_eq!(interval(Some("soon"), None, 7), None);
        assert_eq!(interval(None, None, 7), None);
    }

    #[test]
    fn a_supervisor_hears_us_under_a_path_and_under_an_abstract_name() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let file = scratch.path().join("notify");
        let named = format!("@bascule-notify-{}", std::process::id());
        let at = SocketAddr::from_abstract_name(&named[1..]).expect("a name");
        let sockets = [
            (file.as_os_str().to_owned(), UnixDatagram::bind(&file).expect("bind")),
            (named.into(), UnixDatagram::bind_addr(&at).expect("bind")),
        ];
        for (name, socket) in sockets {
            send(&name, &Stage::Ready.message()).expect("sent");
            let mut bytes = [0; 64];
            let length = socket.recv(&mut bytes).expect("received");
            assert_eq!(&bytes[..length], b"READY=1\nSTATUS=serving");
        }
        let missing = send(scratch.path().join("nobody").as_os_str(), "READY=1");
        assert_eq!(missing.expect_err("nobody").kind(), io::ErrorKind::NotFound);
    }
}
