//! How a worker's table finds an upstream by its serial number.

use std::hash::{BuildHasherDefault, Hasher};

/// Serial numbers are our own and count up: they spread well enough without a keyed hash.
pub(super) type BySerial = BuildHasherDefault<SerialHasher>;

#[derive(Default)]
pub(super) struct SerialHasher(u64);

impl Hasher for SerialHasher {
    fn finish(&self) -> u64 {
        // The table goes by the upper bits too.
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, serial: u64) {
        self.0 = serial;
    }
}
