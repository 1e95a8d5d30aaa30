//! What is done to a stream: single bytes, line ends, lines, blanks, numbers, whole halves.

use std::ops::Range;

use fastrand::Rng;

/// Bytes that readers differ about.
const TELLING: &[u8] = b"\0\t\n\x0b\x0c\r !\"#%&,:;=/\\?@[]\x7f\x85\xa0\xff0159afx";

const ENDS: &[&[u8]] = &[b"\n", b"\r", b"\n\r", b"\r\r\n", b"\r\n\r\n", b"\r\n\n", b" \r\n", b""];

const BLANKS: &[&[u8]] = &[b" ", b"\t", b"\x0b", b"\0", b"\xa0", b"\r\n ", b"  ", b"\r"];

const LINES: &[&[u8]] = &[
    b"Content-Length: 0\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 05\r\n",
    b"Content-Length: 5, 5\r\n",
    b"content-length : 7\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: CHUNKED\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding:\tchunked\t\r\n",
    b"Transfer-Encoding\t: chunked\r\n",
    b"Transfer_Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: Content-Length\r\n",
    b"Connection: Transfer-Encoding, Host\r\n",
    b"Host: other.example\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\n",
    b"Trailer: Content-Length\r\n",
    b": nothing\r\n",
    b"X-Forwarded-For: 127.0.0.9\r\n",
    b" folded\r\n",
    b"\r\n",
    b"0\r\n\r\n",
];

const NUMBERS: &[&[u8]] = &[
    b"0",
    b"00",
    b"1",
    b"7fffffffffffffff",
    b"ffffffffffffffff",
    b"10000000000000000",
    b"18446744073709551616",
    b"9223372036854775808",
    b"4294967296",
    b"-1",
    b"+5",
    b"0x5",
    b"1_0",
    b"5 ",
    b" 5",
    b"5,5",
    b"1e1",
    b"",
];

/// Does one thing to a stream; `other` is what halves may come from.
pub fn mutate(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Rng) {
    let at = dice.usize(..=bytes.len());
    let one = at..(at + 1).min(bytes.len());
    match dice.u32(..16) {
        0 => replace(bytes, one, &[pick(TELLING, dice)]),
        1 => replace(bytes, at..at, &[pick(TELLING, dice)]),
        2 => replace(bytes, one, b""),
        3 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << dice.u32(..8);
            }
        }
        4 | 5 => at_one(bytes, line_ends, pick(ENDS, dice), dice),
        6 => lines_moved(bytes, dice),
        7 | 8 => {
            let starts: Vec<usize> = line_ends(bytes).iter().map(|end| end.end).collect();
            if !starts.is_empty() {
                let start = pick(&starts, dice);
                replace(bytes, start..start, pick(LINES, dice));
            }
        }
        9 => around_a_colon(bytes, dice),
        10 | 11 => at_one(bytes, numbers, pick(NUMBERS, dice), dice),
        12 => near_number(bytes, dice),
        13 => bytes.truncate(at),
        14 => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[dice.usize(..=other.len())..]);
        }
        _ => {
            let end = dice.usize(at..=bytes.len().min(at + 40));
            let piece = bytes[at..end].to_vec();
            let place = dice.usize(..=bytes.len());
            replace(bytes, place..place, &piece);
        }
    }
}

fn pick<T: Copy>(list: &[T], dice: &mut Rng) -> T {
    list[dice.usize(..list.len())]
}

fn replace(bytes: &mut Vec<u8>, place: Range<usize>, by: &[u8]) {
    bytes.splice(place, by.iter().copied());
}

/// Puts this in one of these places.
fn at_one(
    bytes: &mut Vec<u8>,
    places: impl Fn(&[u8]) -> Vec<Range<usize>>,
    by: &[u8],
    dice: &mut Rng,
) {
    let places = places(bytes);
    if !places.is_empty() {
        replace(bytes, places[dice.usize(..places.len())].clone(), by);
    }
}

fn line_ends(bytes: &[u8]) -> Vec<Range<usize>> {
    let pairs = bytes.windows(2).enumerate().filter(|(_, pair)| pair == b"\r\n");
    pairs.map(|(at, _)| at..at + 2).collect()
}

/// Runs of hexadecimal digits that begin a line or follow a blank or a colon.
fn numbers(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = bytes[at..].iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let begins = at == 0 || matches!(bytes[at - 1], b' ' | b':' | b'\n');
        if length > 0 && begins {
            found.push(at..at + length);
        }
        at += length.max(1);
    }
    found
}

/// A number becomes one that is near.
fn near_number(bytes: &mut Vec<u8>, dice: &mut Rng) {
    let places = numbers(bytes);
    if places.is_empty() {
        return;
    }
    let place = places[dice.usize(..places.len())].clone();
    let is_size = place.start > 0 && bytes[place.start - 1] == b'\n';
    let radix = if is_size { 16 } else { 10 };
    let text = String::from_utf8_lossy(&bytes[place.clone()]).into_owned();
    let Ok(number) = u64::from_str_radix(&text, radix) else { return };
    let near = number.wrapping_add_signed(dice.i64(-3..=3));
    let text = if is_size { format!("{near:x}") } else { near.to_string() };
    replace(bytes, place, text.as_bytes());
}

/// A line is doubled, taken away, or changes places with another.
fn lines_moved(bytes: &mut Vec<u8>, dice: &mut Rng) {
    let mut lines: Vec<Vec<u8>> =
        bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    if lines.is_empty() {
        return;
    }
    let (one, other) = (dice.usize(..lines.len()), dice.usize(..lines.len()));
    match dice.u32(..3) {
        0 => lines.insert(other, lines[one].clone()),
        1 => drop(lines.remove(one)),
        _ => lines.swap(one, other),
    }
    *bytes = lines.concat();
}

fn around_a_colon(bytes: &mut Vec<u8>, dice: &mut Rng) {
    let colons = bytes.iter().enumerate().filter(|(_, b)| **b == b':').map(|(at, _)| at);
    let colons: Vec<usize> = colons.collect();
    if !colons.is_empty() {
        let place = pick(&colons, dice) + dice.usize(..2);
        replace(bytes, place..place, pick(BLANKS, dice));
    }
}
