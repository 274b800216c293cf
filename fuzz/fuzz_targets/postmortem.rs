//! A dead kernel that is damaged in many places, read without debug symbols.
//!
//! The first byte says how the kernel stores addresses; what follows are words that are written into its memory: four bytes of
//! address, one of length, eight of content.

#![no_main]

use fixtures::legible::{self, Addresses};
use libfuzzer_sys::fuzz_target;
use postmortem::Postmortem;
use vmcore::{Note, Notes};

/// Bytes of a word with its place.
const WORD: usize = 13;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, words)) = bytes.split_first() else { return };
    let addresses = match first % 3 {
        0 => Addresses::BelowBase,
        1 => Addresses::AboveBase,
        _ => Addresses::FromPlace,
    };
    let mut memory = legible::kernel(addresses);
    for word in words.as_chunks::<WORD>().0 {
        let [a, b, c, d, len, content @ ..] = *word;
        let at = u64::from(u32::from_le_bytes([a, b, c, d])) % (legible::SIZE - 8);
        memory.write(at, &content[..usize::from(len % 8) + 1]);
    }
    let info = legible::vmcoreinfo(addresses);
    let mut notes = Notes::default();
    notes.push(&Note { name: b"VMCOREINFO\0", kind: 0, content: info.as_bytes() }).expect("there is memory");
    let read = Postmortem::read(&memory, &notes);
    assert!(read.cpus.len() <= 513 && read.modules.listed.len() <= 1024);
    assert!(read.cpus.iter().all(|cpu| cpu.backtrace.frames.len() <= 128));
    let is_printable = |text: &String| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    assert!(read.modules.listed.iter().all(|module| is_printable(&module.name)));
});
