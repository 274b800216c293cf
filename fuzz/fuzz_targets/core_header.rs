//! The core header and a copy of it, the notes it points to, their VMCOREINFO, and the selection of pages by it. The fuzzer's bytes
//! are the dead kernel's memory.

#![no_main]

use holdover_fuzz::Memory;
use libfuzzer_sys::fuzz_target;
use vmcore::{CoreHeader, Kernel, Level, Note, Notes, Ram, Selection, with_note};

/// Bytes of a bitmap that are filled at a time.
const CHUNK: usize = 64;
/// How many page frames are chosen from: the dead kernel may say that it had 2^52.
const FRAMES: u64 = 1 << 12;

fuzz_target!(|bytes: &[u8]| {
    let memory = Memory::new(bytes);
    let Ok(header) = CoreHeader::read(&memory, 0) else { return };
    copy(&memory, &header);
    let Ok(notes) = Notes::read(&memory, &header) else { return };
    let kernel = Kernel::new(notes.vmcoreinfo());
    let _ = (kernel.utsname(&memory), kernel.unknown().count(), kernel.kaslr_offset());
    for level in [0, 1, 31].into_iter().filter_map(Level::new) {
        select(&memory, &kernel, header.ram(), level);
    }
});

/// Copies the header with one more note: the copy leads to the same memory.
fn copy(memory: &Memory, header: &CoreHeader) {
    let note = Note { name: b"HOLDOVER\0", kind: 1, content: b"record" };
    let Ok(copy) = with_note(memory, 0, &note, |_| 0) else { return };
    let read = CoreHeader::read(&Memory::new(&copy), 0).expect("it was written just now");
    assert_eq!((read.segments(), read.ram()), (header.segments(), header.ram()));
    assert_eq!(read.notes()[1..], *header.notes());
}

/// Chooses pages, first from front to back, then once more somewhere else.
fn select(memory: &Memory, kernel: &Kernel, ram: &Ram, level: Level) {
    let Ok(mut selection) = Selection::new(memory, kernel, ram, level) else { return };
    for first in (0..FRAMES).step_by(CHUNK * 8).chain([0, u64::from(u32::MAX)]) {
        let mut bitmap = [0; CHUNK];
        let counts = selection.fill(first, &mut bitmap);
        let kept: u32 = bitmap.iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(counts.kept(), u64::from(kept), "{counts:?}");
    }
}
