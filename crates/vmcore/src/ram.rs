//! Which page frames are RAM of the dead kernel.

use alloc::vec::Vec;

use machine::growth::collected;
use machine::{Pfn, PhysicalAddress, Range};

use crate::OutOfMemory;
use crate::bitmap;

/// The dead kernel's RAM: page frames in ascending order, merged, disjoint.
///
/// If a range of the core header has only a part of a page, the page counts as RAM, as with `/proc/vmcore` and makedumpfile
/// (which up to 1.7.5 dropped the last such page of a range from the second bitmap by mistake).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ram {
    frames: Vec<Range<Pfn>>,
}

impl Ram {
    /// Merges ranges of physical addresses, which may overlap and come in any order.
    pub fn from_ranges(ranges: impl Iterator<Item = Range<PhysicalAddress>>) -> Result<Self, OutOfMemory> {
        let mut frames = collected(ranges.filter(|range| !range.is_empty()).map(Range::touched_frames))?;
        frames.sort_unstable();
        frames.dedup_by(|next, last| merge(last, *next));
        Ok(Self { frames })
    }

    /// Ranges of physical addresses, in pages, ascending, neither touching nor overlapping.
    pub fn ranges(&self) -> impl Iterator<Item = Range<PhysicalAddress>> {
        self.frames.iter().map(|frames| frames.memory())
    }

    /// First page frame number after all RAM: `max_mapnr` of a dump's header.
    pub fn end_pfn(&self) -> u64 {
        self.frames.last().map_or(0, |range| range.end.get())
    }

    /// How many page frames are RAM.
    pub fn pages(&self) -> u64 {
        self.frames.iter().map(|range| range.len()).sum()
    }

    /// Whether this page frame is RAM.
    pub fn contains(&self, pfn: u64) -> bool {
        self.next(pfn) == Some(pfn)
    }

    /// The first page frame at or after `pfn` that is RAM.
    pub fn next(&self, pfn: u64) -> Option<u64> {
        let pfn = Pfn::new(pfn);
        let after = self.frames.partition_point(|range| range.end <= pfn);
        self.frames.get(after).map(|range| range.start.max(pfn).get())
    }

    /// Sets bit `n` (the least significant bit of a byte comes first) where page frame `first_pfn + n` is RAM, clears
    /// all others, and counts what it set. This is the first bitmap of a dump.
    pub fn fill(&self, first_pfn: u64, bitmap: &mut [u8]) -> u64 {
        bitmap.fill(0);
        let window = bitmap::window(Pfn::new(first_pfn), bitmap);
        for frames in self.within(window) {
            bitmap::set(bitmap, window.start, frames);
        }
        self.within(window).map(Range::len).sum()
    }

    /// The parts of page frames `window` that are RAM.
    pub(crate) fn within(&self, window: Range<Pfn>) -> impl Iterator<Item = Range<Pfn>> {
        let first = self.frames.partition_point(|range| range.end <= window.start);
        let later = self.frames.get(first..).unwrap_or_default().iter();
        later.map(move |range| range.intersection(window)).take_while(|range| !range.is_empty())
    }
}

/// Merges `next`, which does not start before `last`, into `last` if the two touch.
fn merge(last: &mut Range<Pfn>, next: Range<Pfn>) -> bool {
    let touches = next.start <= last.end;
    if touches {
        last.end = last.end.max(next.end);
    }
    touches
}
