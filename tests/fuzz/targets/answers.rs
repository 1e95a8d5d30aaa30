//! An upstream's bytes: read alike however they are cut, framed in one way, and nothing of what follows an answer is
//! taken for a part of it.
#![no_main]

use bascule::proxy::answered;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, StatusCode};
use libfuzzer_sys::fuzz_target;

const NEXT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fuzz_target!(|input: (&[u8], u8, bool)| {
    let (bytes, piece, is_head) = input;
    let asked = if is_head { Method::HEAD } else { Method::GET };
    let whole = answered(bytes, bytes.len(), &asked);
    let cut = answered(bytes, usize::from(piece), &asked);
    // What is wrong is told by where it was seen first.
    assert_eq!(whole.is_ok(), cut.is_ok(), "cut into {piece}: {whole:?}, {cut:?}");
    let Ok(answer) = whole else { return };
    assert_eq!(answer, cut.expect("as just seen"));
    let lengths = answer.headers.get_all(CONTENT_LENGTH).iter();
    let lengths: Vec<u64> = lengths.filter_map(|line| line.to_str().ok()?.parse().ok()).collect();
    let is_chunked = answer.headers.contains_key(TRANSFER_ENCODING);
    assert!(lengths.is_empty() || !is_chunked, "framed twice");
    assert!(lengths.windows(2).all(|two| two[0] == two[1]), "two lengths");
    let is_bodiless = is_head
        || answer.status.is_informational()
        || matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match lengths.first() {
        _ if is_bodiless => assert!(answer.body.is_empty()),
        Some(length) => assert_eq!(answer.body.len() as u64, *length),
        None if !is_chunked => assert!(!answer.is_kept && answer.rest.is_empty()),
        None => {}
    }
    for fields in std::iter::once(&answer.headers).chain(&answer.trailers) {
        for value in fields.values() {
            assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        }
    }
    if answer.is_kept && answer.rest.is_empty() {
        let two = [bytes, NEXT].concat();
        let first = answered(&two, usize::from(piece), &asked).expect("the same answer");
        assert_eq!(first.rest, NEXT, "its end is where it was");
    }
});
