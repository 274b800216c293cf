//! An ELF core as a file of a host: whatever its headers say, each page is either read or reported as missing.

#![no_main]

use holdover_fuzz::Memory;
use libfuzzer_sys::fuzz_target;
use machine::{OldMemory, PAGE_SIZE};
use vmcore::{CoreFile, CoreHeader};

/// Most pages that are read of each range: a header may name 2^52.
const PAGES: u64 = 8;

fuzz_target!(|bytes: &[u8]| {
    let file = Memory::new(bytes);
    let Ok(header) = CoreHeader::read(&file, 0) else { return };
    let Ok(core) = CoreFile::new(Memory::new(bytes), &header) else { return };
    let _ = core.expected_len();
    for segment in header.segments() {
        let first = segment.physical.start.align_down(PAGE_SIZE).get();
        for page in 0..PAGES {
            let Some(address) = first.checked_add(page * PAGE_SIZE) else { break };
            let mut content = [0; PAGE_SIZE as usize];
            let _ = core.read_page(address >> 12, &mut content);
            // One byte past the middle of a page and on: it may end in another range.
            let _ = core.read(address.saturating_add(PAGE_SIZE / 2 + 1).into(), &mut content);
        }
    }
});
