//! Resets the machine, or cuts its power, at any moment while it writes its dump.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise as tests do")]

use area::{Area, Completeness, Label, Seal, SealState};
use engine::{Begun, Source};
use fixtures::info::UP_TO_6_2;
use fixtures::{CachedDisk, Memory, kernel};
use kdump::{BLOCK, Codec, ReadError, Reader};
use machine::{BlockDevice, OldMemory, PAGE_SIZE, Range};
use uuid::Uuid;
use vmcore::{CoreHeader, Kernel, Level, Note, Notes, Ram};

const UUID: Uuid = Uuid::from_u128(7);
const SIZE: u64 = 7 << 20;
/// Page frames from here on are not the kernel's own, except for the last one, a stack.
const OTHERS: u64 = 0x4000;
const END: u64 = 0x4400;
const STACK: u64 = END - 1;
/// The number of pages after which the stored pages are made durable.
const SAVED: u64 = 150;

/// A dead machine. Pages that are not the kernel's own hold their number, and `seed`.
fn machine(seed: u64) -> Memory {
    let mut memory = kernel::machine(1);
    kernel::map_stack(&mut memory, STACK);
    let mut random = fastrand::Rng::with_seed(seed);
    for pfn in OTHERS..END {
        // Some pages are stored as they are: these have no checksum of their own.
        let len = if pfn.is_multiple_of(8) { BLOCK } else { 8 };
        let bytes: Vec<u8> = core::iter::repeat_with(|| random.u8(..)).take(len).collect();
        memory.write(pfn * PAGE_SIZE, &bytes);
    }
    memory
}

fn ram() -> Ram {
    let ranges = [Range::from(0..0x11 << 16), Range::from(OTHERS * PAGE_SIZE..END * PAGE_SIZE)];
    Ram::from_ranges(ranges.into_iter()).unwrap()
}

/// A dump that was written to the end, step by step.
struct Written {
    disk: CachedDisk,
    /// After how many steps the first page was written.
    begun: usize,
    /// After how many steps how many pages were said to be safe.
    saved: Vec<(usize, u64)>,
    memory: Memory,
}

/// Writes the dump of a machine over the content of `platter`, and makes pages durable now and then.
fn write(platter: Vec<u8>, seed: u64) -> Written {
    let (mut disk, memory) = (CachedDisk::holding(platter), machine(seed));
    let steps = disk.count.clone();
    let (mut begun, mut saved) = (None, Vec::new());
    let mut notes = Notes::read(&memory, &CoreHeader::default()).unwrap();
    let info = kernel::vmcoreinfo(UP_TO_6_2);
    notes.push(&Note { name: b"VMCOREINFO\0", kind: 0, content: info.as_bytes() }).unwrap();
    let (kernel, ram) = (Kernel::new(notes.vmcoreinfo()), ram());
    let source = Source { memory: &memory, kernel: &kernel, notes: &notes, ram: &ram, level: Level::NOTHING };
    let mut dump = Area::open(&mut disk, 0, UUID).unwrap().begin().unwrap();
    let Begun { mut pages, .. } = source.begin(&mut dump, Codec::Zlib).unwrap();
    let written = engine::in_passes(&mut pages, source.vital(), |pages, wanted| {
        begun.get_or_insert(steps.get());
        // What earlier passes stored.
        saved.push((steps.get(), pages.statistics().done));
        while pages.write_next(&mut *wanted, |pfn, page| memory.read_page(pfn, page))?.is_some() {
            if pages.statistics().done.is_multiple_of(SAVED) {
                pages.save()?;
                saved.push((steps.get(), pages.statistics().done));
            }
        }
        Ok(())
    });
    assert_eq!(written, Ok(()));
    let ended = pages.finish();
    assert_eq!(ended.error, None);
    let seal = dump.seal(Completeness::Complete, ended.statistics.file_bytes).unwrap();
    assert_eq!(seal.state, SealState::Complete);
    Written { disk, begun: begun.unwrap(), saved, memory }
}

/// A dump as it is found after the power went.
struct Found {
    seal: Seal,
    reader: Reader<fixtures::Disk>,
}

/// Collects from the area what a person would get; `None` if that is nothing.
fn collect(platter: Vec<u8>) -> Option<Found> {
    let mut area = Area::open(fixtures::Disk(platter), 0, UUID).unwrap();
    let seal = area.read_seal().unwrap();
    let mut file = fixtures::Disk(vec![0; seal.dump_len as usize]);
    let read = area.read_dump(&seal, |offset, bytes| file.write(offset, bytes));
    if seal.dump_len == 0 {
        assert_eq!((seal.state, read), (SealState::InProgress, Ok(())));
        return None;
    }
    if seal.state == SealState::InProgress {
        kdump::name_missing(&mut file, |data| seal.holds(data)).unwrap();
    } else {
        assert_eq!((seal.state, read), (SealState::Complete, Ok(())));
    }
    Some(Found { seal, reader: Reader::open(file).unwrap() })
}

impl Found {
    /// How many pages are there, each of them as it was in memory.
    fn check(&mut self, memory: &Memory) -> u64 {
        assert_eq!(self.reader.is_complete(), self.seal.state == SealState::Complete);
        let (mut pages, mut page, mut expected) = (0, [0; BLOCK], [0; BLOCK]);
        for pfn in (0..END).filter(|pfn| ram().contains(*pfn)) {
            match self.reader.read_page(pfn, &mut page) {
                Ok(()) => pages += 1,
                Err(missing) => {
                    assert_eq!(missing, ReadError::Missing(pfn));
                    continue;
                }
            }
            memory.read_page(pfn, &mut expected).unwrap();
            assert!(page == expected, "page {pfn:#x}");
        }
        pages
    }
}

/// The area holds an older dump of the same machine, none of whose pages may appear in the new one.
#[test]
fn whenever_the_power_goes_the_dump_has_what_was_said_to_be_safe_and_nothing_wrong() {
    let mut disk = fixtures::Disk(vec![0; SIZE as usize]);
    Area::format(&mut disk, 0, Label { uuid: UUID, length: SIZE, created: 0 }).unwrap();
    let older = write(disk.0, 1);
    let older_steps = older.disk.count.get();
    let Written { disk, begun, saved, memory } = write(older.disk.after_power_loss(older_steps, || false), 2);
    let mut random = fastrand::Rng::with_seed(3);
    // The older dump is declared void by a write and a flush.
    for steps in 2..=disk.count.get() {
        let chance = random.f32();
        let found = collect(disk.after_power_loss(steps, || random.f32() < chance));
        assert!(steps < begun || found.is_some(), "after {steps} steps there are no bitmaps");
        let safe = saved.iter().rev().find(|(at, _)| *at <= steps).map_or(0, |(_, pages)| *pages);
        let there = found.map_or(0, |mut found| found.check(&memory));
        assert!(there >= safe, "after {steps} steps {there} pages of {safe}");
    }
}
