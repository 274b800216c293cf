//! Dumps a machine of any size, and measures the memory and time that this takes.

mod disk;
mod machine;

use std::time::{Duration, Instant};

use ::machine::{OldMemory, PAGE_SIZE, Range};
use disk::Disk;
use engine::{Begun, Source};
use fixtures::info::UP_TO_6_2;
use fixtures::kernel::vmcoreinfo;
use kdump::{Codec, Ended};
pub(crate) use machine::{Array, Machine};
use peak_alloc::PeakAlloc;
use vmcore::{CoreHeader, Kernel, Level, Note, Notes, Ram};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// How a dump went.
pub(crate) struct Dumped {
    /// How it ended.
    pub(crate) ended: Ended,
    /// Bytes allocated at most at any time, beyond what was allocated before.
    pub(crate) peak: usize,
    /// How long it took to choose pages.
    pub(crate) choosing: Duration,
    /// How long the vital pages took.
    pub(crate) vital: Duration,
    /// How long it took altogether.
    pub(crate) took: Duration,
}

/// Dumps a machine at level 31.
pub(crate) fn dump(machine: &Machine, codec: Codec) -> Dumped {
    // Two bitmaps, 24 bytes for each page, and what comes before.
    let mut disk = Disk::new(machine.frames / 4 + machine.kept() * 24 + (1 << 20));
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let start = Instant::now();
    let mut notes = Notes::read(machine, &CoreHeader::default()).unwrap();
    let info = vmcoreinfo(UP_TO_6_2);
    notes.push(&Note { name: b"VMCOREINFO\0", kind: 0, content: info.as_bytes() }).unwrap();
    let kernel = Kernel::new(notes.vmcoreinfo());
    let ram = Ram::from_ranges([Range::from(0..machine.frames * PAGE_SIZE)].into_iter()).unwrap();
    let source = Source { memory: machine, kernel: &kernel, notes: &notes, ram: &ram, level: Level::ALL };
    let Begun { mut pages, .. } = source.begin(&mut disk, codec).unwrap();
    let choosing = start.elapsed();
    let mut passes = Vec::new();
    let written = engine::in_passes(&mut pages, source.vital(), |pages, wanted| {
        while pages.write_next(&mut *wanted, |pfn, page| machine.read_page(pfn, page))?.is_some() {}
        passes.push(start.elapsed());
        Ok(())
    });
    assert_eq!(written, Ok(()));
    let ended = pages.finish();
    let (took, peak) = (start.elapsed(), ALLOCATED.peak_usage() - before);
    Dumped { ended, peak, choosing, vital: passes[0].saturating_sub(choosing), took }
}
