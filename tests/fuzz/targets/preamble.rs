//! The header of a balancer: what was read of it does not depend on what follows.
#![no_main]

use bascule::net::preamble::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((client, length)) = parse(bytes) {
        assert!(length <= bytes.len());
        assert_eq!(parse(&bytes[..length]), Ok((client, length)));
        for part in 0..length {
            assert!(parse(&bytes[..part]).is_err(), "{part} bytes of {length} are not enough");
        }
    }
});
