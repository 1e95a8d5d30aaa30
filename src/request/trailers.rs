//! Follows the bytes of one HTTP/2 connection of a client from frame to frame and makes sure that
//! pseudo-header fields in trailers are refused (RFC 9113, section 8.1).
//!
//! h2 drops them without a word, and nobody after it can see that there were any. What it does refuse
//! is a pseudo-header field after an ordinary one. So each block of trailers gets an ordinary field in
//! front, in a representation that leaves the state of HPACK alone (RFC 7541, section 6.2.2): h2 then
//! resets the stream by itself, and where there is no pseudo-header field nothing has changed but for a
//! `host` without a value, which [`clean`] takes out like any that a client sends there.
//!
//! In: bytes as they come, cut anywhere. Out: how many of them can be passed on as they are, and the
//! rest, made ready. Trailers that do not fit one frame with that field are refused with their
//! connection: nobody sends 16 KiB of them, and half a block could hide what it begins with.

use http::HeaderMap;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE, EXPECT,
    FORWARDED, HOST, HeaderName, MAX_FORWARDS, PROXY_AUTHORIZATION, SET_COOKIE, VIA,
};

use super::headers;

/// How a client begins (RFC 9113, section 3.4).
const PREFACE: u32 = 24;
/// The head of a frame (section 4.1).
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 0x01;
const END_HEADERS: u8 = 0x04;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;
/// `host` with an empty value: literal without indexing, name 38 of the static table.
const FIELD: [u8; 3] = [0x0f, 0x17, 0x00];
/// Changes of the table's size may stand before the first field, two at most (RFC 7541, section
/// 4.2), of at most so many bytes each.
const UPDATES: usize = 2 * 6;
/// Payload of a frame that we let clients send (RFC 9113, section 4.2).
const MOST: usize = 16 * 1024;
/// Looked at of a frame before it is passed on, at most.
const LOOKED_AT: usize = HEAD + 1 + 5 + UPDATES;

/// Streams remembered of those that a client may still send on: more than are served at a time. Those that we reset
/// stay among them.
const MOST_OPEN: usize = 256;

/// Where a connection's bytes have come to.
#[derive(Clone, Debug)]
pub struct Trailers {
    /// Bytes to come before the next frame begins.
    left: u32,
    /// The highest stream that has begun.
    highest: u32,
    open: Open,
    /// The beginning of a frame that cannot be judged yet: fewer than [`LOOKED_AT`] bytes.
    held: Vec<u8>,
}

/// On which streams trailers can come. What comes on any other is an error, whose kind is its reader's to tell.
#[derive(Clone, Debug)]
enum Open {
    /// On these: begun, and not ended by the client.
    These(Vec<u32>),
    /// There were more than [`MOST_OPEN`]: on any that has begun.
    Any,
}

impl Open {
    fn begins(&mut self, stream: u32) {
        match self {
            Self::These(streams) if streams.len() < MOST_OPEN => streams.push(stream),
            Self::These(_) => *self = Self::Any,
            Self::Any => {}
        }
    }

    fn ends(&mut self, stream: u32) {
        if let Self::These(streams) = self
            && let Some(place) = streams.iter().position(|open| *open == stream)
        {
            streams.swap_remove(place);
        }
    }

    fn has(&self, stream: u32) -> bool {
        match self {
            Self::These(streams) => streams.contains(&stream),
            Self::Any => true,
        }
    }
}

/// What a frame is, as far as it has come.
enum Sight {
    /// Nothing to change: so many bytes, its head included.
    Plain(u32),
    /// Trailers, whose first field belongs before this place.
    Trailers(u32, usize),
    /// Trailers that are to be refused.
    Refused(u32),
    /// Too little of it has come.
    Cut,
}

impl Trailers {
    /// Of a connection that begins with the preface.
    pub fn of_client() -> Self {
        let open = Open::These(Vec::new());
        Self { left: PREFACE, highest: 0, open, held: Vec::new() }
    }

    /// Whether the next bytes have to be [`follow`](Self::follow)ed with what was kept back.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// How many of these bytes can be passed on as they are, where nothing is held; the rest is to be
    /// [`follow`](Self::follow)ed. Mostly all of them.
    pub fn pass(&mut self, bytes: &[u8]) -> usize {
        debug_assert!(self.held.is_empty(), "what is held comes first");
        let mut at = 0;
        loop {
            at += self.skip(bytes.len() - at);
            if at == bytes.len() {
                return at;
            }
            match self.look(&bytes[at..]) {
                Sight::Plain(length) => self.left = length,
                Sight::Trailers(..) | Sight::Refused(_) | Sight::Cut => return at,
            }
        }
    }

    /// The next bytes and what was kept back before, made ready to be passed on.
    pub fn follow(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let mut at = 0;
        while at < held.len() {
            let skipped = self.skip(held.len() - at);
            out.extend_from_slice(&held[at..at + skipped]);
            at += skipped;
            if at == held.len() {
                return;
            }
            match self.look(&held[at..]) {
                Sight::Plain(length) => self.left = length,
                Sight::Trailers(length, place) => {
                    if let [_, _, _, _, flags, a, b, c, d, ..] = held[at..]
                        && flags & END_STREAM != 0
                    {
                        self.open.ends(u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff);
                    }
                    let payload = length + FIELD.len() as u32 - HEAD as u32;
                    out.extend_from_slice(&payload.to_be_bytes()[1..]);
                    out.extend_from_slice(&held[at + 3..at + place]);
                    out.extend_from_slice(&FIELD);
                    self.left = length - place as u32;
                    at += place;
                }
                Sight::Refused(length) => {
                    // On stream 0, where there are no headers (RFC 9113, section 6.2).
                    out.extend_from_slice(&held[at..at + 5]);
                    out.extend_from_slice(&[0; 4]);
                    self.left = length - HEAD as u32;
                    at += HEAD;
                }
                Sight::Cut => {
                    self.held = held.split_off(at);
                    return;
                }
            }
        }
    }

    /// What was kept back when the connection ends: half a frame, which its reader has to see as such.
    pub fn end(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// How many of so many bytes belong to what is being passed on.
    fn skip(&mut self, bytes: usize) -> usize {
        let skipped = self.left.min(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.left -= skipped;
        skipped as usize
    }

    /// Judges the frame that begins here.
    fn look(&mut self, bytes: &[u8]) -> Sight {
        let [a, b, c, kind, flags, stream @ ..] = bytes else { return Sight::Cut };
        let Some(stream) = stream.first_chunk::<4>() else { return Sight::Cut };
        let length = u32::from_be_bytes([0, *a, *b, *c]) + HEAD as u32;
        let stream = u32::from_be_bytes(*stream) & 0x7fff_ffff;
        let is_last = matches!(*kind, DATA | HEADERS) && flags & END_STREAM != 0;
        if *kind != HEADERS {
            if is_last || *kind == RST_STREAM {
                self.open.ends(stream);
            }
            return Sight::Plain(length);
        }
        if stream > self.highest {
            self.highest = stream;
            if !is_last {
                self.open.begins(stream);
            }
            return Sight::Plain(length);
        }
        if !self.open.has(stream) {
            return Sight::Plain(length);
        }
        let whole = length as usize;
        if flags & END_HEADERS == 0 || whole - HEAD + FIELD.len() > MOST {
            return Sight::Refused(length);
        }
        if bytes.len() < whole.min(LOOKED_AT) {
            return Sight::Cut;
        }
        let is_padded = flags & PADDED != 0;
        let padding =
            if is_padded { bytes.get(HEAD).map_or(0, |byte| usize::from(*byte)) } else { 0 };
        let before = HEAD + usize::from(is_padded) + 5 * usize::from(flags & PRIORITY != 0);
        if before + padding > whole {
            // Shorter than it says itself: refused by whoever reads it.
            return Sight::Plain(length);
        }
        let block = &bytes[before..bytes.len().min(whole - padding)];
        Sight::Trailers(length, before + updates(block))
    }
}

/// Length of the size updates that a block begins with (RFC 7541, section 6.3). What is no whole one is
/// left to its reader, which refuses a field before it.
fn updates(block: &[u8]) -> usize {
    let mut length = 0;
    while let Some(update) = update(&block[length..])
        && length + update <= UPDATES
    {
        length += update;
    }
    length
}

fn update(block: &[u8]) -> Option<usize> {
    match block {
        [first, ..] if first & 0xe0 != 0x20 => None,
        [first, ..] if first & 0x1f != 0x1f => Some(1),
        [_, rest @ ..] => Some(rest.iter().position(|byte| byte & 0x80 == 0)? + 2),
        [] => None,
    }
}

/// Takes out of trailers what only a head may say: framing, routing, what the content is, who asks and who vouches for
/// it (RFC 9110, section 6.5.1).
pub fn clean(trailers: &mut HeaderMap) {
    const OF_HEADS: [HeaderName; 13] = [
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        EXPECT,
        MAX_FORWARDS,
        HOST,
        AUTHORIZATION,
        PROXY_AUTHORIZATION,
        COOKIE,
        SET_COOKIE,
        FORWARDED,
        VIA,
    ];
    headers::strip_hop_by_hop(trailers);
    for name in OF_HEADS.iter().chain(&headers::OURS) {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u8 = 0x05;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        [&head, payload].concat()
    }

    fn preface() -> Vec<u8> {
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()
    }

    /// What is passed on of bytes that come in pieces of this size.
    fn passed(bytes: &[u8], piece: usize) -> Vec<u8> {
        let (mut trailers, mut out) = (Trailers::of_client(), Vec::new());
        for piece in bytes.chunks(piece) {
            let passed = if trailers.holds() { 0 } else { trailers.pass(piece) };
            out.extend_from_slice(&piece[..passed]);
            if passed < piece.len() {
                trailers.follow(&piece[passed..], &mut out);
            }
            assert!(trailers.held.len() < LOOKED_AT, "only so much is held");
        }
        out.extend(trailers.end());
        out
    }

    #[test]
    fn trailers_get_a_field_in_front_wherever_the_bytes_are_cut() {
        let head =
            [frame(4, 0, 0, &[]), frame(HEADERS, 4, 1, b"\x83\x87"), frame(0, 0, 1, b"hello")];
        let before = [preface(), head.concat()].concat();
        let after = [frame(HEADERS, END, 3, b"\x82"), frame(0, 1, 5, &[0; 40])].concat();
        let long = [b"\x3f\xe1\x1f".as_slice(), b"\x00\x01a\x01b"].concat();
        #[rustfmt::skip]
        let table = [
            ("plain",              END,            b"\x00\x01a\x01b".to_vec(),                  0),
            ("empty",              END,            Vec::new(),                                  0),
            ("with a padding",     END | PADDED,   b"\x02\x00\x01a\x01b\0\0".to_vec(),          1),
            ("with a priority",    END | PRIORITY, b"\0\0\0\0\x10\x00\x01a\x01b".to_vec(),      5),
            ("with both",          END | 0x28,     b"\x01\0\0\0\0\x10\x00\x01a\x01b\0".to_vec(), 6),
            ("after a size",       END,            b"\x20\x00\x01a\x01b".to_vec(),              1),
            ("after two sizes",    END,            [b"\x20".as_slice(), &long].concat(),        4),
            ("half a size",        END,            b"\x3f\xff".to_vec(),                        0),
("padding like sizes", END | PADDED,   b"\x04\x20\x20\x20\x20".to_vec(),            1),
        ];
        for (shows, flags, block, place) in table {
            let changed = [&block[..place], &FIELD, &block[place..]].concat();
            let whole = |block: &[u8]| {
                [before.clone(), frame(HEADERS, flags, 1, block), after.clone()].concat()
            };
            for piece in 1..=whole(&block).len() {
                assert_eq!(passed(&whole(&block), piece), whole(&changed), "{shows}, in {piece}");
            }
        }
    }

    #[test]
    fn nothing_else_is_touched() {
        let frames = [
            preface(),
            frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]),
            frame(HEADERS, END, 1, b"\x82\x87\x84"),
            frame(HEADERS, 1, 3, b"\x82"),
            frame(9, 4, 3, b"\x87\x84"),
            frame(0, 1, 5, &frame(HEADERS, END, 1, b"\x84")),
            frame(HEADERS, END | 0x28, 5, b"\0\0\0\0\0\0\x82"),
            frame(HEADERS, 4, 7, b"\x83"),
            frame(HEADERS, 0x2c, 7, b"\0\0"),
            frame(HEADERS, END | PADDED, 7, b"\x03\0"),
            frame(6, 0, 0, &[0; 8]),
        ];
        let bytes = frames.concat();
        for piece in 1..=bytes.len() {
            assert_eq!(passed(&bytes, piece), bytes, "in pieces of {piece}");
        }
        let half = &bytes[..bytes.len() - 3];
        assert_eq!(passed(half, 4), half, "half a frame is its reader's to refuse");
    }

    #[test]
    fn what_comes_on_a_stream_that_is_over_is_left_to_its_reader() {
        let begun = |stream| frame(HEADERS, 4, stream, b"\x83");
        let late = |stream| frame(HEADERS, END, stream, b"\x00\x01a\x01b");
        for end in [frame(DATA, 1, 5, b"x"), late(5), frame(RST_STREAM, 0, 5, &[0, 0, 0, 8])] {
            let before = passed(&[preface(), begun(5), end.clone()].concat(), 7);
            let bytes = [preface(), begun(5), end, late(5), late(3)].concat();
            let expected = [before, late(5), late(3)].concat();
            for piece in [1, 9, bytes.len()] {
                assert_eq!(passed(&bytes, piece), expected, "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn where_more_streams_are_open_than_remembered_none_escapes() {
        let begun: Vec<u8> =
            (0..=MOST_OPEN as u32).flat_map(|n| frame(HEADERS, 4, 2 * n + 1, b"\x83")).collect();
        let before = [preface(), begun].concat();
        let bytes = [before.clone(), frame(HEADERS, END, 1, b"\x84")].concat();
        let expected = [before, frame(HEADERS, END, 1, &[&FIELD, b"\x84".as_slice()].concat())];
        assert_eq!(passed(&bytes, 4096), expected.concat());
    }

    #[test]
    fn trailers_that_do_not_fit_one_frame_go_to_a_stream_that_has_none() {
        let large = [0x20; MOST - 2];
        for (flags, block) in [(1, b"\x04\x09/smuggled\x00".as_slice()), (END, &large)] {
            let before = [preface(), frame(HEADERS, 4, 1, b"\x83")].concat();
            let bytes = [before.clone(), frame(HEADERS, flags, 1, block)].concat();
            let expected = [before, frame(HEADERS, flags, 0, block)].concat();
            for piece in [1, 5, 9, 24, 100, bytes.len()] {
                assert_eq!(passed(&bytes, piece), expected, "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn trailers_say_nothing_that_only_a_head_may() {
        let mut trailers = HeaderMap::new();
        let names = ["host", "content-length", "x-forwarded-for", "authorization", "te", "x-sum"];
        for name in names {
            trailers.insert(name, http::HeaderValue::from_static("1"));
        }
        clean(&mut trailers);
        assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-sum"]);
    }
}
