//! A request's first bytes: what the gate lets in has one host and one framing, however they are cut.
#![no_main]

use bascule::request::framing::Framing;
use bascule::request::gate;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use libfuzzer_sys::fuzz_target;

fn followed(bytes: &[u8], cut: usize) -> Vec<u8> {
    let mut framing = Framing::of_requests();
    let mut bytes = bytes.to_vec();
    let (first, rest) = bytes.split_at_mut(cut);
    framing.follow(first);
    framing.follow(rest);
    bytes
}

fuzz_target!(|input: (&[u8], u16)| {
    let (bytes, cut) = input;
    let whole = followed(bytes, 0);
    assert_eq!(whole, followed(bytes, usize::from(cut) % (bytes.len() + 1)), "cut anywhere");
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(_)) = head.parse(&whole) else { return };
    let (Some(method), Some(target)) = (head.method, head.path) else { return };
    let mut request = http::Request::builder().method(method).uri(target);
    for field in head.headers.iter() {
        request = request.header(field.name, field.value);
    }
    let Ok(request) = request.body(()) else { return };
    let (parts, ()) = request.into_parts();
    let Ok(admitted) = gate::admit(&parts) else { return };
    assert!(!admitted.host.is_empty() && !admitted.host.bytes().any(|b| b.is_ascii_uppercase()));
    assert!(parts.uri.path().starts_with('/') || parts.uri.path() == "*");
    let count = |name| parts.headers.get_all(name).iter().count();
    assert!(count(HOST) <= 1 && count(CONTENT_LENGTH) + count(TRANSFER_ENCODING) <= 1);
});
