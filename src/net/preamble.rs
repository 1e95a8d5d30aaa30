//! The PROXY protocol (versions 1 and 2, as HAProxy's `proxy-protocol.txt` describes them): a balancer
//! says at the beginning of a connection who the client is.

use std::io;
use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Longest header: addresses and what balancers add to them in practice, certificates left out.
const MOST: usize = 4 * 1024;
/// Longest header of version 1.
const MOST_V1: usize = 107;

/// Takes the header off a connection, and not a byte more; the caller bounds it in time. `None`: the
/// balancer speaks for itself, as its health checks do.
///
/// # Errors
/// `InvalidData` where there is no header, or one that cannot be read; otherwise as the connection
/// fails.
pub async fn take(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut held = Vec::new();
    loop {
        let known = held.len();
        held.resize(MOST, 0);
        let peeked = stream.peek(&mut held[known..]).await?;
        held.truncate(known + peeked);
        if peeked == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let parsed = parse(&held);
        let length = parsed.as_ref().map_or(held.len(), |parsed| parsed.1);
        // Peeked bytes are there already: what is read is what was looked at.
        stream.read_exact(&mut held[known..length]).await?;
        match parsed {
            Ok((source, _)) => return Ok(source),
            Err(Unread::Incomplete) if held.len() < MOST => {}
            Err(Unread::Incomplete | Unread::Invalid) => {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }
}

/// Why no header was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unread {
    /// It may still come.
    #[error("more of the header is to come")]
    Incomplete,
    /// It will not.
    #[error("no PROXY header")]
    Invalid,
}

/// Who the client is, and the length of the header.
///
/// # Errors
/// When it is not whole, or none.
pub fn parse(bytes: &[u8]) -> Result<(Option<SocketAddr>, usize), Unread> {
    let config = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };
    match ProxyHeader::parse(bytes, config) {
        Ok((_, length)) if bytes[0] == b'P' && length > MOST_V1 => Err(Unread::Invalid),
        Ok((header, length)) => {
            Ok((header.proxied_address().map(|address| address.source), length))
        }
        Err(Error::BufferTooShort) if b"PROXY ".iter().zip(bytes).all(|(a, b)| a == b) => {
            Err(Unread::Incomplete)
        }
        Err(Error::BufferTooShort)
            if b"\r\n\r\n\0\r\nQUIT\n".iter().zip(bytes).all(|(a, b)| a == b) =>
        {
            Err(Unread::Incomplete)
        }
        Err(_) => Err(Unread::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\xc0\0\x02\x01\x30\x39\x01\xbb";

    #[test]
    fn both_versions_say_who_the_client_is() {
        let v1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 12345 443\r\nGET /";
        let client = "203.0.113.9:12345".parse().ok();
        assert_eq!(parse(v1), Ok((client, v1.len() - 5)));
        let v2 = [V2, b"GET /"].concat();
        assert_eq!(parse(&v2), Ok((client, V2.len())));
        let v6 = b"PROXY TCP6 2001:db8::9 2001:db8::1 12345 443\r\n";
        assert_eq!(parse(v6), Ok(("[2001:db8::9]:12345".parse().ok(), v6.len())));
    }

    #[test]
    fn a_balancer_may_speak_for_itself() {
        assert_eq!(parse(b"PROXY UNKNOWN\r\n"), Ok((None, 15)));
        assert_eq!(parse(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"), Ok((None, 16)));
    }

    #[test]
    fn a_part_of_a_header_is_waited_for_and_nothing_else_is() {
        for whole in [&b"PROXY TCP4 203.0.113.9 192.0.2.1 12345 443\r\n"[..], V2] {
            for length in 1..whole.len() {
                assert_eq!(parse(&whole[..length]), Err(Unread::Incomplete), "{length}");
            }
        }
        let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
        let endless = [&long[..], b"\r\n"].concat();
        for bytes in [
            b"GET / HTTP/1.1\r\n",
            &b"\x16\x03\x01"[..],
            b"PRI * HTTP/2.0",
            b"PROXX",
            &long,
            &endless,
        ] {
            assert_eq!(parse(bytes), Err(Unread::Invalid), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        fastrand::seed(7);
        for _ in 0..200_000 {
            let mut bytes = if fastrand::bool() {
                V2.to_vec()
            } else {
                b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n".to_vec()
            };
            for _ in 0..fastrand::usize(1..4) {
                let at = fastrand::usize(..bytes.len());
                bytes[at] = fastrand::u8(..);
            }
            bytes.truncate(fastrand::usize(1..=bytes.len()));
            if let Ok((_, length)) = parse(&bytes) {
                assert!(length <= bytes.len());
            }
        }
    }
}
