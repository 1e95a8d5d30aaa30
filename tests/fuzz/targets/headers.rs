//! A client's fields on their way to an upstream: nothing about the connection is left, and nothing a
//! stranger says of itself.
#![no_main]

use bascule::request::headers::{self, Facts, Proto, Trust};
use http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

fn fields(text: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n').take(100) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let pair = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
        if let (Ok(name), Ok(value)) = pair {
            map.append(name, value);
        }
    }
    map
}

fuzz_target!(|input: (&[u8], bool)| {
    let (text, trusted) = input;
    let mut map = fields(text);
    let authority = HeaderValue::from_static("www.portal.example");
    let peer = HeaderValue::from_static("192.0.2.7");
    let address = "192.0.2.7".parse().expect("an address");
    let client = headers::client_address(address, &map, |ip| ip == address);
    let facts = Facts {
        peer: &peer,
        trust: if trusted { Trust::TrustedProxy } else { Trust::Stranger },
        proto: Proto::Https,
        authority: &authority,
        forwarded: headers::forwarded_element(client.last_known(), &authority, Proto::Https),
        request_id: HeaderValue::from_static("ours"),
    };
    headers::towards_upstream(&mut map, facts);
    for name in [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        assert!(!map.contains_key(&name), "{name} is left");
    }
    let lines: Vec<_> = map.get_all("x-forwarded-for").iter().collect();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].as_bytes().ends_with(b"192.0.2.7"));
    if !trusted {
        assert_eq!(lines[0], "192.0.2.7");
        assert_eq!(map["x-request-id"], "ours");
    }
});
