//! What one worker holds of answers that clients have not taken yet, and how much it may read for one at
//! once: clients that take nothing must not be able to fill its memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Of large pieces held by one worker, in bytes, beyond which each read is [`LEAST`].
const MOST: usize = 12 * 1024 * 1024;
/// Reads that fit into what is left: so many clients can be given their next piece.
const SHARES: usize = 24;
/// Bytes of the smallest read, which is always allowed and never counted: it is what a connection holds anyway.
pub(super) const LEAST: usize = 8 * 1024;
/// Bytes of the largest read.
const LARGEST: usize = 256 * 1024;

/// A count that all connections to upstreams of a worker share. Atomic since a piece can be let go of anywhere, as
/// far as its type knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Arc<AtomicUsize>);

/// What somebody holds, until that is dropped.
#[derive(Debug)]
pub(super) struct Share {
    bytes: usize,
    held: Held,
}

/// A piece of an answer, counted.
struct Piece {
    data: Bytes,
    _share: Share,
}

impl Held {
    /// Bytes that may be read at once, at most.
    pub(super) fn largest_read(&self) -> usize {
        let left = MOST.saturating_sub(self.0.load(Ordering::Relaxed));
        (left / SHARES).clamp(LEAST, LARGEST)
    }

    /// Whether nothing is left but for the smallest reads.
    pub(super) fn is_full(&self) -> bool {
        self.largest_read() == LEAST
    }

    /// A share of nothing yet.
    pub(super) fn share(&self) -> Share {
        Share { bytes: 0, held: self.clone() }
    }

    /// The same data, counted until the last of it is let go of.
    pub(super) fn keep(&self, data: Bytes) -> Bytes {
        if data.len() <= LEAST {
            return data;
        }
        let mut share = self.share();
        share.is_now(data.len());
        Bytes::from_owner(Piece { data, _share: share })
    }
}

impl Share {
    /// So many bytes are held; up to [`LEAST`] count as none.
    pub(super) fn is_now(&mut self, bytes: usize) {
        let bytes = if bytes <= LEAST { 0 } else { bytes };
        if bytes != self.bytes {
            self.held.0.fetch_add(bytes, Ordering::Relaxed);
            self.held.0.fetch_sub(self.bytes, Ordering::Relaxed);
            self.bytes = bytes;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.is_now(0);
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_makes_reads_smaller_until_it_is_let_go_of() {
        let held = Held::default();
        assert_eq!(held.largest_read(), LARGEST);
        let mut pieces = Vec::new();
        while held.largest_read() > LEAST {
            let size = held.largest_read();
            pieces.push(held.keep(Bytes::from(vec![0; size])));
            assert!(pieces.len() < 1_000, "reads do not become smaller");
        }
        let sum: usize = pieces.iter().map(Bytes::len).sum();
        assert!(sum <= MOST, "{sum} bytes are held");
        let part = pieces[0].slice(..1);
        drop(pieces);
        assert_eq!(held.0.load(Ordering::Relaxed), LARGEST, "a part keeps all of it");
        drop(part);
        assert_eq!((held.0.load(Ordering::Relaxed), held.largest_read()), (0, LARGEST));
    }

    #[test]
    fn small_pieces_are_handed_on_as_they_are() {
        let held = Held::default();
        let data = Bytes::from_static(b"a page");
        assert_eq!(held.keep(data.clone()).as_ptr(), data.as_ptr());
        assert_eq!(held.0.load(Ordering::Relaxed), 0);
    }
}
