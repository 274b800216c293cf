//! Tests of dumps on a disk that fills: what fits is readable, and the vital pages are the first to fit.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use fixtures::info::UP_TO_6_2;
use fixtures::{Memory, kernel};
use kdump::{BLOCK, Codec, Page};
use machine::{ByteOffset, OldMemory, PAGE_SIZE, Range};
use tempfile::NamedTempFile;
use vmcore::{CoreHeader, Kernel, Level, Note, Notes, Ram};

use super::*;
use crate::IfExists;

/// Page frames of the kernel's own. Few are vital: tables, and what they map. Most are full of zeros.
const OWN: u64 = 0x110;
/// Page frames far from these: their descriptors have three windows of the table. Those in the first window are full of zeros.
/// The others are full of noise. The kernel has mapped the very last one as a stack, which makes it vital; those in the second
/// window are not.
const OTHERS: u64 = 1 << 20;
const NOISE: u64 = OTHERS + WINDOW - OWN;
const STACK: u64 = NOISE + WINDOW;
const END: u64 = STACK + 1;
/// Descriptors in a window.
const WINDOW: u64 = 2560;
/// Blocks of the disk.
const BLOCKS: usize = 700;
/// Where the bitmaps, the descriptors and the pages' data begin in the file, in blocks.
const BITMAPS: u64 = 3;
const DESCRIPTORS: u64 = BITMAPS + 2 * END.div_ceil(8 * BLOCK as u64);
const DATA: u64 = DESCRIPTORS + ((OWN + END - OTHERS) * 24).div_ceil(BLOCK as u64);
/// Pages that a thread may lose: those of the piece of the file that does not fit whole, and those of a batch that begins in the
/// piece before.
const LOST: usize = chunk::SIZE / BLOCK + batch::PAGES;

/// A file on a disk of 700 blocks.
#[derive(Debug, Default)]
struct FullDisk {
    content: Mutex<Content>,
    mapped_holes_take_room: bool,
    /// The next long write waits until the disk is full.
    delays: AtomicBool,
}

#[derive(Debug, Default)]
struct Content {
    len: u64,
    blocks: BTreeMap<u64, Page>,
}

impl Content {
    /// Takes the room of a block unless it has it.
    fn block(&mut self, index: u64) -> io::Result<&mut Page> {
        if self.blocks.len() == BLOCKS && !self.blocks.contains_key(&index) {
            return Err(ErrorKind::StorageFull.into());
        }
        self.len = self.len.max((index + 1) * BLOCK as u64);
        Ok(self.blocks.entry(index).or_insert([0; BLOCK]))
    }
}

impl HostFile for FullDisk {
    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let content = self.content.lock().unwrap();
        for (at, byte) in (offset..).zip(into) {
            let block = content.blocks.get(&(at / BLOCK as u64));
            *byte = block.map_or(0, |block| block[at as usize % BLOCK]);
        }
        Ok(())
    }

    fn write_all_at(&self, from: &[u8], offset: u64) -> io::Result<()> {
        if from.len() > chunk::SIZE / 2 && self.delays.swap(false, Ordering::Relaxed) {
            self.wait_until_full();
        }
        let mut content = self.content.lock().unwrap();
        for (at, byte) in (offset..).zip(from) {
            content.block(at / BLOCK as u64)?[at as usize % BLOCK] = *byte;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.content.lock().unwrap().len = len;
        Ok(())
    }

    fn next_data(&self, offset: u64) -> u64 {
        let content = self.content.lock().unwrap();
        let next = content.blocks.range(offset / BLOCK as u64..).next();
        next.map_or(u64::MAX, |(index, _)| offset.max(index * BLOCK as u64))
    }

    fn reserve(&self, range: Range<ByteOffset>) -> io::Result<()> {
        let mut content = self.content.lock().unwrap();
        let blocks = range.start.get() / BLOCK as u64..range.end.get().div_ceil(BLOCK as u64);
        blocks.into_iter().try_for_each(|index| content.block(index).map(|_| ()))
    }

    fn mapped_holes_take_room(&self) -> bool {
        self.mapped_holes_take_room
    }

    fn bring(&self, _: u64, _: NonZero<u64>) {}
}

impl FullDisk {
    /// The dump on it, copied to a larger disk.
    fn dump(&self) -> Dump {
        let (file, content) = (NamedTempFile::new().unwrap(), self.content.lock().unwrap());
        for (index, block) in &content.blocks {
            file.as_file().write_all_at(block, index * BLOCK as u64).unwrap();
        }
        file.as_file().set_len(content.len).unwrap();
        Dump::open(file.path()).unwrap()
    }

    fn wait_until_full(&self) {
        let start = Instant::now();
        while self.blocks_in(0..u64::MAX) < BLOCKS as u64 {
            assert!(start.elapsed() < Duration::from_secs(60), "nobody else writes");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn blocks_in(&self, range: std::ops::Range<u64>) -> u64 {
        self.content.lock().unwrap().blocks.range(range).count() as u64
    }
}

/// A dead machine.
fn memory() -> Memory {
    let mut memory = kernel::machine(33);
    kernel::map_stack(&mut memory, STACK);
    let mut state = 1u64;
    for pfn in NOISE..END {
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        });
        memory.write(pfn * PAGE_SIZE, &noise.take(BLOCK).collect::<Vec<_>>());
    }
    memory
}

fn ram() -> Ram {
    let ranges = [0..OWN, OTHERS..END].map(|frames| Range::<Pfn>::from(frames).memory());
    Ram::from_ranges(ranges.into_iter()).unwrap()
}

/// A dump of all its pages, on a disk that is large enough.
fn whole_dump(memory: &Memory) -> Dump {
    let mut notes = Notes::read(memory, &CoreHeader::default()).unwrap();
    let info = kernel::vmcoreinfo(UP_TO_6_2);
    notes.push(&Note { name: b"VMCOREINFO\0", kind: 0, content: info.as_bytes() }).unwrap();
    let (kernel, ram) = (Kernel::new(notes.vmcoreinfo()), ram());
    let source = Source { memory, kernel: &kernel, notes: &notes, ram: &ram, level: Level::NOTHING };
    let file = NamedTempFile::new().unwrap();
    let output = Output::new(file.as_file(), 0);
    let mut device = &output;
    let mut pages = source.begin(&mut device, Codec::None).unwrap().pages;
    let read = |pfn, page: &mut Page| memory.read_page(pfn, page);
    while pages.write_next(|_| true, read).unwrap().is_some() {}
    let ended = pages.finish();
    assert_eq!(ended.error, None);
    output.set_len(ended.statistics.file_bytes).unwrap();
    Dump::open(file.path()).unwrap()
}

/// Makes a dump of that dump until the disk is full.
fn fill(disk: &FullDisk, dump: &Dump, threads: usize) {
    let request = MakedumpRequest {
        input: PathBuf::new(),
        out: PathBuf::new(),
        if_exists: IfExists::Refuse,
        level: Level::NOTHING,
        form: DumpForm::Compressed(Codec::None),
        threads: NonZero::new(threads),
    };
    let (kernel, ram) = (Kernel::new(dump.vmcoreinfo()), dump.ram().unwrap());
    let (notes, level) = (dump.notes(), request.level);
    let source = Source { memory: dump, kernel: &kernel, notes, ram: &ram, level };
    let making = Making { source, request: &request, lacks: Vec::new(), progress: &() };
    match making.write_compressed(disk, Codec::None) {
        Err(MakingError::File(error)) => assert_eq!(error.kind(), ErrorKind::StorageFull),
        _ => panic!("the disk did not fill"),
    }
}

/// Checks that nearly everything can be read that was written: all vital pages, and all others but so many for each thread.
fn check_written(disk: &FullDisk, memory: &Memory, threads: usize) {
    let dump = disk.dump();
    assert!(!dump.is_complete());
    let right = |pfn: &u64| content(memory, *pfn).filter(|page| content(&dump, *pfn) == Some(*page));
    let (kernel, ram) = (Kernel::new(dump.vmcoreinfo()), ram());
    let mut vital = Vital::new(memory, &kernel, &ram).unwrap();
    let all = || (0..OWN).chain(OTHERS..END);
    let vital: Vec<_> = all().filter(|pfn| vital.contains(*pfn)).collect();
    let lost: Vec<_> = vital.iter().filter(|pfn| right(pfn).is_none()).collect();
    assert!(vital.contains(&STACK) && lost.is_empty(), "{threads} threads lost {lost:x?} of {vital:x?}");
    let stored = all().filter_map(|pfn| right(&pfn)).filter(|page| !kdump::is_zero(page)).count();
    let written = disk.blocks_in(DATA..u64::MAX) as usize;
    assert!(stored + threads * LOST >= written, "{threads} threads: only {stored} pages of {written}");
}

#[test]
fn all_vital_pages_and_all_others_that_were_written_can_be_read() {
    let memory = memory();
    let whole = whole_dump(&memory);
    for threads in [1, 4] {
        let disk = FullDisk::default();
        fill(&disk, &whole, threads);
        check_written(&disk, &memory, threads);
    }
}

#[test]
fn pages_that_were_written_before_earlier_ones_failed_can_be_read_too() {
    let memory = memory();
    let disk = FullDisk { delays: true.into(), ..FullDisk::default() };
    fill(&disk, &whole_dump(&memory), 2);
    check_written(&disk, &memory, 2);
}

/// Where a mapped hole takes room, `crash` dies of the bitmaps' holes. Elsewhere that room is better used for pages.
#[test]
fn bitmaps_have_holes_only_where_readers_can_map_them() {
    let whole = whole_dump(&memory());
    for mapped_holes_take_room in [false, true] {
        let disk = FullDisk { mapped_holes_take_room, ..FullDisk::default() };
        fill(&disk, &whole, 1);
        let holes = DESCRIPTORS - BITMAPS - disk.blocks_in(BITMAPS..DESCRIPTORS);
        assert_eq!(holes == 0, mapped_holes_take_room, "{holes} holes");
        assert_eq!(disk.blocks_in(0..BITMAPS), BITMAPS);
    }
}

fn content(memory: &impl OldMemory, pfn: u64) -> Option<Page> {
    let mut page = [0; BLOCK];
    memory.read_page(pfn, &mut page).ok().map(|()| page)
}
