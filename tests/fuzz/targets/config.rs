//! A configuration of any bytes: an answer, never a panic, and mistakes that say where they are.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use bascule::config;
use libfuzzer_sys::fuzz_target;

fn file() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder").keep();
        folder.join("bascule.yaml")
    })
}

fuzz_target!(|bytes: &[u8]| {
    fs::write(file(), bytes).expect("our own folder");
    if let Err(refused) = config::load(file(), 2) {
        assert!(!refused.complaints().is_empty());
        assert!(!refused.to_string().is_empty());
    }
});
