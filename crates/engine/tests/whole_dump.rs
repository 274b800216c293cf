//! A made-up kernel's memory goes into a dump and comes back.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise as tests do")]

use engine::{Begun, Source};
use fixtures::Disk;
use kdump::{Bitmap, Codec, Reader};
use machine::{OldMemory, PAGE_SIZE, Pfn, PhysicalAddress, Range, Table, Unreadable};
use vmcore::{CoreHeader, Kernel, Level, Note, Notes, Ram};

const INFO: &[u8] = b"OSRELEASE=6.1.0-test\nCRASHTIME=1795330431\n";
const PRSTATUS: Note<'_> = Note { name: b"CORE\0", kind: 1, content: &[0; 336] };
/// Page frames of RAM: more than one piece of bitmap.
const FRAMES: u64 = 40_000;
/// The only page frame that cannot be read.
const BROKEN: u64 = 20;

/// Memory in which every byte of a page says which page it is.
struct Memory;

impl OldMemory for Memory {
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
        into.fill((address.pfn().get() % 251) as u8);
        let readable = address.pfn() != Pfn::new(BROKEN);
        readable.then_some(()).ok_or(Unreadable { address, len: into.len() as u64 })
    }

    fn read_table(&self, address: PhysicalAddress, _: &mut Table) -> Result<(), Unreadable> {
        Err(Unreadable { address, len: PAGE_SIZE })
    }
}

/// Notes as a kernel on two processors would leave them.
fn notes() -> Notes {
    let mut notes = Notes::read(&Memory, &CoreHeader::default()).unwrap();
    for note in [PRSTATUS, PRSTATUS, Note { name: b"VMCOREINFO\0", kind: 0, content: INFO }] {
        notes.push(&note).unwrap();
    }
    notes
}

#[test]
fn what_is_known_of_a_kernel_is_what_the_dump_says_of_it() {
    let (notes, mut disk) = (notes(), Disk(vec![0xA5; 8 << 20]));
    let kernel = Kernel::new(notes.vmcoreinfo());
    let ranges = [Range::from(0x3000..0x20_0000), Range::from(0x800_0000..FRAMES * PAGE_SIZE)];
    let ram = Ram::from_ranges(ranges.into_iter()).unwrap();
    let source = Source { memory: &Memory, kernel: &kernel, notes: &notes, ram: &ram, level: Level::ALL };
    let Begun { mut pages, counts } = source.begin(&mut disk, Codec::Zlib).unwrap();
    assert_eq!((counts.ram, counts.kept(), counts.unknown), (ram.pages(), ram.pages(), ram.pages()));
    let written = engine::in_passes(&mut pages, source.vital(), |pages, wanted| {
        while pages.write_next(&mut *wanted, |pfn, page| Memory.read_page(pfn, page))?.is_some() {}
        Ok(())
    });
    assert_eq!(written, Ok(()));
    let ended = pages.finish();
    assert_eq!((ended.error, ended.statistics.missing), (None, 1));

    let mut dump = Reader::open(disk).unwrap();
    let header = dump.header().clone();
    assert_eq!(header.utsname.release.as_str(), "6.1.0-test");
    assert_eq!((header.cpus, header.frames, header.crashed_at), (2, FRAMES, 1_795_330_431));
    assert_eq!(dump.vmcoreinfo().unwrap(), INFO);
    let mut page = [0; kdump::BLOCK];
    for pfn in 0..FRAMES {
        let kept = dump.next_set(Bitmap::Kept, pfn) == Ok(Some(pfn));
        assert_eq!(kept, ram.contains(pfn));
        if kept && pfn != BROKEN {
            dump.read_page(pfn, &mut page).unwrap();
            assert_eq!(page[99], (pfn % 251) as u8);
        }
    }
}
