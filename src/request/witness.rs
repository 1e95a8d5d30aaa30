//! Who saw a failure: client prefix and URL template, hashed. Two failures of one witness may have
//! one cause that is nobody else's: a crashing page, a broken client.

use std::net::IpAddr;
use std::num::NonZeroU64;

use http::Method;

use crate::model::signal::Witness;

/// Longest path segment that is taken as it is; a longer one is an identifier.
const LONGEST_WORD: usize = 20;

/// Of a client and what it asked: its /24 or /48, the method, and the path with every segment that
/// holds a digit or is longer than 20 bytes taken as the same.
pub fn witness(client: IpAddr, method: &Method, url_path: &str) -> Witness {
    let mut hash = Fnv::of(client);
    hash.write(method.as_str().as_bytes());
    for segment in url_path.as_bytes().split(|byte| *byte == b'/') {
        let is_word = segment.len() <= LONGEST_WORD && !segment.iter().any(u8::is_ascii_digit);
        hash.write(if is_word { segment } else { b"*" });
        hash.write(b"/");
    }
    Witness(hash.folded())
}

/// Of a client alone: its /24 or /48. Never zero.
pub fn client_prefix(client: IpAddr) -> NonZeroU64 {
    NonZeroU64::MIN.saturating_add(Fnv::of(client).0 >> 1)
}

/// FNV-1a (RFC 9923), 64 bits folded to 32. A client that finds collisions on purpose only makes
/// its own failures count less.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn of(client: IpAddr) -> Self {
        let mut hash = Self::default();
        match client.to_canonical() {
            IpAddr::V4(v4) => hash.write(&v4.octets()[..3]),
            IpAddr::V6(v6) => hash.write(&v6.octets()[..6]),
        }
        hash
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn folded(&self) -> u32 {
        (self.0 ^ (self.0 >> 32)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(client: &str, method: &Method, url_path: &str) -> Witness {
        witness(client.parse().expect("address"), method, url_path)
    }

    #[test]
    fn neighbours_and_identifiers_make_one_witness() {
        let one = seen("192.0.2.7", &Method::GET, "/order/1234/edit");
        assert_eq!(one, seen("192.0.2.99", &Method::GET, "/order/98/edit"));
        assert_eq!(one, seen("::ffff:192.0.2.1", &Method::GET, "/order/a1/edit"));
        assert_eq!(one, seen("192.0.2.7", &Method::GET, "/order/abcdefghijklmnopqrstuvwxyz/edit"));
    }

    #[test]
    fn other_networks_methods_and_pages_make_others() {
        let one = seen("192.0.2.7", &Method::GET, "/order/1/edit");
        for other in [
            seen("192.0.3.7", &Method::GET, "/order/1/edit"),
            seen("192.0.2.7", &Method::POST, "/order/1/edit"),
            seen("192.0.2.7", &Method::GET, "/order/1/show"),
            seen("192.0.2.7", &Method::GET, "/order/edit"),
        ] {
            assert_ne!(one, other);
        }
    }
}
