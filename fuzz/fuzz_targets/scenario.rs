//! A scenario file: either the parser refuses it and names a line, or the machine that it describes can exist.

#![no_main]

use libfuzzer_sys::fuzz_target;
use simulation::{Error, File, Stage};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(Error { line, .. }) = File::parse(text).and_then(|file| Stage::set(file, text)) {
        assert!((1..=text.split('\n').count()).contains(&line));
    }
});
