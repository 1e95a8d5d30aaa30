//! Frames as they come, cut anywhere: those of HTTP/2 lose nothing but get a field in front of trailers,
//! those of a WebSocket end where a plain reading of all of them ends.
#![no_main]

use bascule::request::frames::Frames;
use bascule::request::trailers::Trailers;
use libfuzzer_sys::fuzz_target;

/// What is put in front of trailers.
const FIELD: &[u8] = &[0x0f, 0x17, 0x00];

fn passed(bytes: &[u8], cuts: &[u8]) -> Vec<u8> {
    let (mut trailers, mut out) = (Trailers::of_client(), Vec::new());
    let (mut rest, mut cuts) = (bytes, cuts.iter());
    while !rest.is_empty() {
        let step = cuts.next().map_or(rest.len(), |cut| usize::from(*cut).max(1).min(rest.len()));
        let (piece, after) = rest.split_at(step);
        let as_it_is = if trailers.holds() { 0 } else { trailers.pass(piece) };
        out.extend_from_slice(&piece[..as_it_is]);
        if as_it_is < piece.len() {
            trailers.follow(&piece[as_it_is..], &mut out);
        }
        rest = after;
    }
    out.extend(trailers.end());
    out
}

/// Of HTTP/2 frames after the preface: kind, flags, stream and payload; the last one may be half.
fn read(mut bytes: &[u8]) -> Vec<(u8, u8, u32, &[u8])> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let [a, b, c, kind, flags, stream @ ..] = *head;
        let length = (u32::from_be_bytes([0, a, b, c]) as usize).min(rest.len());
        let (payload, after) = rest.split_at(length);
        frames.push((kind, flags, u32::from_be_bytes(stream), payload));
        bytes = after;
    }
    frames
}

fn http2(bytes: &[u8], cuts: &[u8]) {
    let whole = passed(bytes, &[]);
    assert_eq!(whole, passed(bytes, cuts), "cut anywhere");
    let (Some(came), Some(went)) = (bytes.get(24..), whole.get(24..)) else { return };
    assert_eq!(bytes[..24], whole[..24]);
    let (came, went) = (read(came), read(went));
    assert_eq!(came.len(), went.len(), "as many frames");
    for (came, went) in came.iter().zip(&went) {
        assert_eq!((came.0, came.1), (went.0, went.1));
        let is_refused = came.0 == 1 && went.2 == 0;
        assert!(came.2 == went.2 || is_refused, "another stream");
        let is_longer = went.3.len() == came.3.len() + FIELD.len();
        assert!(went.3 == came.3 || came.0 == 1 && is_longer, "another payload");
        if is_longer {
            let place = came.3.iter().zip(went.3).take_while(|(a, b)| a == b).count();
            let at = (0..=place).any(|at| {
                went.3[at..].starts_with(FIELD) && went.3[at + FIELD.len()..] == came.3[at..]
            });
            assert!(at, "nothing but the field was put in");
        }
    }
}

/// A reading of all bytes at once (RFC 6455, section 5.2): is the end between two frames, was there a close?
fn websocket_end(mut bytes: &[u8]) -> (bool, bool) {
    loop {
        let [first, second, rest @ ..] = bytes else { return (bytes.is_empty(), false) };
        let wide = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if rest.len() < wide {
            return (false, false);
        }
        let (length, rest) = rest.split_at(wide);
        let long = length.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
        let payload = if wide == 0 { u64::from(second & 0x7f) } else { long };
        let left = payload.saturating_add(if second & 0x80 == 0 { 0 } else { 4 });
        if (rest.len() as u64) < left {
            return (false, false);
        }
        if first & 0x0f == 8 {
            return (false, true);
        }
        bytes = &rest[left as usize..];
    }
}

fuzz_target!(|input: (&[u8], &[u8])| {
    let (bytes, cuts) = input;
    http2(bytes, cuts);
    let (mut frames, mut rest) = (Frames::default(), bytes);
    for cut in cuts {
        let (piece, after) = rest.split_at(usize::from(*cut).min(rest.len()));
        frames.follow(piece);
        rest = after;
    }
    frames.follow(rest);
    assert_eq!((frames.is_between(), frames.is_closed()), websocket_end(bytes));
});
