//! What lies in `state_dir`: any bytes are read without a panic, and what was read is
//! written so that it is read alike.
#![no_main]

use std::sync::OnceLock;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bascule::control::memory::{read, write};
use bascule::control::orders::Moment;
use libfuzzer_sys::fuzz_target;

fn moment() -> Moment {
    static NOW: OnceLock<Instant> = OnceLock::new();
    let now = *NOW.get_or_init(Instant::now);
    Moment { now, wall: UNIX_EPOCH + Duration::from_secs(1_795_701_600) }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(known) = read(bytes, moment()) else { return };
    let written = write(&known, moment()).expect("what was read can be written");
    let again = read(&written, moment()).expect("our own file");
    let twice = write(&again, moment()).expect("what was read can be written");
    assert_eq!(written, twice, "what is written is read alike");
});
