//! Checks that a truncated dump has the pages without which no reader opens it.

use engine::{Begun, Source};
use fixtures::info::UP_TO_6_2;
use fixtures::{Disk, Memory, kernel};
use kdump::{Codec, ReadError, Reader, WriteError};
use machine::{OldMemory, PAGE_SIZE, Range};
use vmcore::{CoreHeader, Kernel, Level, Note, Notes, Ram};

/// A frame at the end of memory that the kernel maps where vmalloc's areas are.
const STACK: u64 = 0x7fff;
const FRAMES: u64 = 0x8000;

fn machine_with_a_stack() -> Memory {
    let mut memory = kernel::machine(1);
    kernel::map_stack(&mut memory, STACK);
    // No two pages are alike, so that none costs less room than another.
    (0x1000..FRAMES).for_each(|pfn| memory.write_u64(pfn * PAGE_SIZE + 0xff0, pfn));
    memory
}

#[test]
fn a_page_that_readers_need_is_there_though_the_device_ends_long_before_it() {
    let memory = machine_with_a_stack();
    let mut notes = Notes::read(&memory, &CoreHeader::default()).unwrap();
    let info = kernel::vmcoreinfo(UP_TO_6_2);
    notes.push(&Note { name: b"VMCOREINFO\0", kind: 0, content: info.as_bytes() }).unwrap();
    let kernel = Kernel::new(notes.vmcoreinfo());
    let ram = Ram::from_ranges([Range::from(0..FRAMES * PAGE_SIZE)].into_iter()).unwrap();
    let source = Source { memory: &memory, kernel: &kernel, notes: &notes, ram: &ram, level: Level::NOTHING };
    let mut disk = Disk(vec![0xA5; 2 << 20]);
    let Begun { mut pages, .. } = source.begin(&mut disk, Codec::None).unwrap();
    let written = engine::in_passes(&mut pages, source.vital(), |pages, wanted| {
        while pages.write_next(&mut *wanted, |pfn, page| memory.read_page(pfn, page))?.is_some() {}
        Ok(())
    });
    assert_eq!(written, Err(WriteError::Full));
    pages.abandon();

    let (mut dump, mut page) = (Reader::open(disk).unwrap(), [0; kdump::BLOCK]);
    assert_eq!(dump.read_page(STACK, &mut page), Ok(()));
    assert_eq!(page[0xff0..0xff2], [0xff, 0x7f]);
    assert_eq!(dump.read_page(STACK - 1, &mut page), Err(ReadError::Missing(STACK - 1)));
}
