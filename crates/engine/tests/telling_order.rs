//! Checks that a dump for which there is no room has the pages that a higher level keeps.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise as tests do")]

use engine::{Begun, CutShort, Source};
use fixtures::info::UP_TO_6_2;
use fixtures::kernel::{IN_USE, LRU, Page};
use fixtures::{Disk, Memory, kernel};
use kdump::{Codec, Reader, WriteError};
use machine::{OldMemory, PAGE_SIZE, Range};
use vmcore::{CoreHeader, Kernel, Level, Note, Notes, Ram};

const FRAMES: u64 = 0x8000;
/// Cache, then anonymous memory, then pages of the kernel's own, of which no two are alike.
const CACHE: u64 = 0x6000;
const USER: u64 = 0x6800;
const OWN: u64 = 0x7000;
const EACH: u64 = 0x100;

fn machine() -> Memory {
    let mut memory = kernel::machine(1);
    let cache = Page { flags: LRU, ..IN_USE };
    let user = Page { flags: LRU, mapping: 1, ..IN_USE };
    for (first, page) in [(CACHE, cache), (USER, user), (OWN, IN_USE)] {
        kernel::describe(&mut memory, first, &[page; EACH as usize]);
        (first..first + EACH).for_each(|pfn| memory.write_u64(pfn * PAGE_SIZE + 0xff0, pfn));
    }
    memory
}

/// Dumps to a disk of some bytes; returns how that ended, how many passes there were, and how many of the pages of each kind are
/// in the dump.
fn dump(level: u8, bytes: usize) -> (Result<(), CutShort>, usize, [usize; 3]) {
    let memory = machine();
    let mut notes = Notes::read(&memory, &CoreHeader::default()).unwrap();
    let info = kernel::vmcoreinfo(UP_TO_6_2);
    notes.push(&Note { name: b"VMCOREINFO\0", kind: 0, content: info.as_bytes() }).unwrap();
    let kernel = Kernel::new(notes.vmcoreinfo());
    let ram = Ram::from_ranges([Range::from(0..FRAMES * PAGE_SIZE)].into_iter()).unwrap();
    let level = Level::new(level).unwrap();
    let source = Source { memory: &memory, kernel: &kernel, notes: &notes, ram: &ram, level };
    let mut disk = Disk(vec![0xA5; bytes]);
    let Begun { mut pages, .. } = source.begin(&mut disk, Codec::None).unwrap();
    let mut passes = 0;
    let written = engine::in_telling_order(&mut pages, &source, |pages, wanted, _| {
        passes += 1;
        while pages.write_next(&mut *wanted, |pfn, page| memory.read_page(pfn, page))?.is_some() {}
        Ok(())
    });
    let ended = if written.is_ok() { pages.finish() } else { pages.abandon() };
    assert_eq!(ended.error, None);
    let mut dump = Reader::open(disk).unwrap();
    let found = [CACHE, USER, OWN].map(|first| {
        let there = |pfn: &u64| dump.read_page(*pfn, &mut [0; kdump::BLOCK]).is_ok();
        (first..first + EACH).filter(there).count()
    });
    (written, passes, found)
}

#[test]
fn what_tells_least_is_left_out_where_there_is_no_room() {
    let all = EACH as usize;
    // The table of descriptors takes 768 KiB. There is no private cache, which comes before the rest of the cache.
    let (written, _, found) = dump(0, (3 << 20) + (512 << 10));
    assert_eq!(written, Err(CutShort { error: WriteError::Full, reached: Level::new(18) }));
    assert!(found[0] > 0 && found[0] < all, "{found:?}");
    assert_eq!(found[1..], [all, all]);
    let (written, _, found) = dump(0, (1 << 20) + (512 << 10));
    assert_eq!(written, Err(CutShort { error: WriteError::Full, reached: None }));
    assert!(found[2] > 0 && found[..2] == [0, 0], "{found:?}");
}

#[test]
fn a_dump_that_fits_for_sure_and_one_of_the_highest_level_take_no_more_passes() {
    let (written, passes, found) = dump(0, 140 << 20);
    assert_eq!((written, passes, found), (Ok(()), 2, [EACH as usize; 3]));
    let (_, passes, _) = dump(31, 5 << 20);
    assert_eq!(passes, 2);
    let (written, passes, found) = dump(0, 8 << 20);
    assert_eq!((written, passes, found), (Ok(()), 6, [EACH as usize; 3]));
}
