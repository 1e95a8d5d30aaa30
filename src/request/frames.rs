//! Where a WebSocket may be ended with a word: between two frames, of which the last was no close.
//!
//! In: one direction's bytes, as they went out, cut anywhere. Out: whether a frame may follow. Nothing
//! is judged: what is no WebSocket at all only has no end that we could put there (RFC 6455, section 5.2).
//!
//! Not here: what is in the frames.

/// How far one direction has come. 24 bytes, whatever passes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames(Place);

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    /// The next byte begins a frame.
    #[default]
    Between,
    /// After the first byte of one.
    Begun { is_close: bool },
    /// Before the last `left` bytes of a length of two or eight.
    Length { left: u8, known: u64, is_close: bool, is_masked: bool },
    /// Before its last bytes: mask and payload.
    Rest { left: u64, is_close: bool },
    /// After a close, which nothing may follow (section 5.5.1).
    Closed,
}

/// The opcode that ends a WebSocket.
const CLOSE: u8 = 0x8;
const MASKED: u8 = 0x80;
/// "Going away" (section 7.4.1).
const GOING_AWAY: [u8; 2] = 1001_u16.to_be_bytes();
/// The last frame of a message, and the only one: a control frame is never cut.
const FINAL: u8 = 0x80;

impl Frames {
    /// Takes in what went out.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        while let Some((first, others)) = bytes.split_first() {
            bytes = match self.0 {
                Place::Rest { left, is_close } => {
                    let now = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.0 = rest(left - now as u64, is_close);
                    &bytes[now..]
                }
                place => {
                    self.0 = after(place, *first);
                    others
                }
            };
        }
    }

    /// Whether a frame may follow.
    pub fn is_between(self) -> bool {
        matches!(self.0, Place::Between)
    }

    /// Whether the last word was said already.
    pub fn is_closed(self) -> bool {
        matches!(self.0, Place::Closed)
    }
}

fn after(place: Place, byte: u8) -> Place {
    match place {
        Place::Between => Place::Begun { is_close: byte & 0x0f == CLOSE },
        Place::Begun { is_close } => {
            let is_masked = byte & MASKED != 0;
            let length = |left| Place::Length { left, known: 0, is_close, is_masked };
            match byte & !MASKED {
                126 => length(2),
                127 => length(8),
                short => rest(u64::from(short) + mask(is_masked), is_close),
            }
        }
        Place::Length { left, known, is_close, is_masked } => {
            let known = known << 8 | u64::from(byte);
            match left {
                0 | 1 => rest(known.saturating_add(mask(is_masked)), is_close),
                _ => Place::Length { left: left - 1, known, is_close, is_masked },
            }
        }
        Place::Rest { left, is_close } => rest(left.saturating_sub(1), is_close),
        Place::Closed => Place::Closed,
    }
}

/// Bytes of the key before a masked payload.
const fn mask(is_masked: bool) -> u64 {
    if is_masked { 4 } else { 0 }
}

const fn rest(left: u64, is_close: bool) -> Place {
    match (left, is_close) {
        (0, true) => Place::Closed,
        (0, false) => Place::Between,
        (left, is_close) => Place::Rest { left, is_close },
    }
}

/// The frame by which a server says that it goes away.
pub fn going_away() -> [u8; 4] {
    let [high, low] = GOING_AWAY;
    [FINAL | CLOSE, 2, high, low]
}

/// The same by a client, which has to mask what it says with a key that nobody can foresee (section 5.3).
pub fn going_away_masked(key: [u8; 4]) -> [u8; 8] {
    let [high, low] = GOING_AWAY;
    let [a, b, c, d] = key;
    [FINAL | CLOSE, MASKED | 2, a, b, c, d, high ^ a, low ^ b]
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    /// One frame of this opcode.
    fn frame(opcode: u8, is_masked: bool, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![FINAL | opcode];
        let masked = if is_masked { MASKED } else { 0 };
        match payload.len() {
            short @ 0..=125 => frame.push(masked | short as u8),
            middle @ 126..=65535 => {
                frame.push(masked | 126);
                frame.extend((middle as u16).to_be_bytes());
            }
            long => {
                frame.push(masked | 127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        if is_masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend(payload);
        frame
    }

    #[test]
    fn a_frame_may_follow_a_whole_one_of_any_length_and_nothing_else() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
            for is_masked in [false, true] {
                let whole = frame(2, is_masked, &vec![0x88; length]);
                for cut in (1..whole.len()).step_by(1 + length / 50) {
                    let mut frames = Frames::default();
                    frames.follow(&whole[..cut]);
                    assert!(!frames.is_between(), "{cut} bytes of a frame of {length}");
                    frames.follow(&whole[cut..]);
                    assert!(frames.is_between(), "a frame of {length}, {is_masked}");
                }
            }
        }
    }

    #[test]
    fn nothing_follows_a_close() {
        let closes =
            [going_away().to_vec(), going_away_masked([7; 4]).to_vec(), frame(8, false, b"")];
        for close in closes {
            let mut frames = Frames::default();
            frames.follow(&close);
            assert!(frames.is_closed());
            frames.follow(&frame(1, false, b"more"));
            assert!(frames.is_closed() && !frames.is_between());
        }
    }

    #[test]
    fn a_length_that_nobody_sends_is_waited_for() {
        let mut frames = Frames::default();
        frames.follow(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        frames.follow(&[0; 1000]);
        assert!(!frames.is_between() && !frames.is_closed());
    }

    #[test]
    fn what_is_masked_is_the_same_word() {
        let [_, _, a, b, _, _, high, low] = going_away_masked([9, 200, 3, 4]);
        assert_eq!(u16::from_be_bytes([high ^ a, low ^ b]), 1001);
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_makes_no_difference(
            bytes in vec(any::<u8>(), 0..400), cut in 0..400_usize,
        ) {
            let cut = cut.min(bytes.len());
            let (mut at_once, mut in_two) = (Frames::default(), Frames::default());
            at_once.follow(&bytes);
            in_two.follow(&bytes[..cut]);
            in_two.follow(&bytes[cut..]);
            prop_assert_eq!(at_once.is_between(), in_two.is_between());
            prop_assert_eq!(at_once.is_closed(), in_two.is_closed());
        }
    }
}
