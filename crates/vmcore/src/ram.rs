//! Which page frames are RAM of the dead kernel.

use alloc::vec::Vec;

use machine::{PAGE_SHIFT, PAGE_SIZE, Range};

use crate::OutOfMemory;
use crate::bitmap;

/// The dead kernel's RAM: page frames in ascending order, merged, disjoint.
///
/// A page that a range of the core header has only a part of counts as RAM, as with `/proc/vmcore` and makedumpfile (which
/// up to 1.7.5 dropped the last such page of a range from the second bitmap by mistake).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ram {
    /// Ranges of page frame numbers.
    frames: Vec<Range>,
}

impl Ram {
    /// Merges ranges of physical addresses, which may overlap and come in any order.
    pub fn from_ranges(ranges: impl Iterator<Item = Range>) -> Result<Self, OutOfMemory> {
        let mut frames = Vec::new();
        for range in ranges.filter(|range| !range.is_empty()).map(touched_frames) {
            frames.try_reserve(1)?;
            frames.push(range);
        }
        frames.sort_unstable();
        frames.dedup_by(|next, last| merge(last, *next));
        Ok(Self { frames })
    }

    /// Ranges of physical addresses, in pages, ascending, neither touching nor overlapping.
    pub fn ranges(&self) -> impl Iterator<Item = Range> {
        self.frames
            .iter()
            .map(|range| Range::new(range.start * PAGE_SIZE, range.end.saturating_mul(PAGE_SIZE)))
    }

    /// First page frame number after all RAM: `max_mapnr` of a dump's header.
    pub fn end_pfn(&self) -> u64 {
        self.frames.last().map_or(0, |range| range.end)
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
        let after = self.frames.partition_point(|range| range.end <= pfn);
        self.frames.get(after).map(|range| range.start.max(pfn))
    }

    /// Sets bit `n` (the least significant bit of a byte comes first) where page frame `first_pfn + n` is RAM, clears
    /// all others, and counts what it set. This is the first bitmap of a dump.
    pub fn fill(&self, first_pfn: u64, bitmap: &mut [u8]) -> u64 {
        bitmap.fill(0);
        let window = bitmap::window(first_pfn, bitmap);
        for range in self.within(window) {
            bitmap::set(bitmap, range.start - first_pfn, range.end - first_pfn);
        }
        self.within(window).map(Range::len).sum()
    }

    /// The parts of page frames `window` that are RAM.
    pub(crate) fn within(&self, window: Range) -> impl Iterator<Item = Range> {
        let first = self.frames.partition_point(|range| range.end <= window.start);
        let later = self.frames.get(first..).unwrap_or_default().iter();
        later.map(move |range| range.intersection(window)).take_while(|range| !range.is_empty())
    }
}

fn touched_frames(range: Range) -> Range {
    Range::new(range.start >> PAGE_SHIFT, range.end.div_ceil(PAGE_SIZE))
}

/// Takes `next`, which does not start before `last`, into it if the two touch.
fn merge(last: &mut Range, next: Range) -> bool {
    let touches = next.start <= last.end;
    if touches {
        last.end = last.end.max(next.end);
    }
    touches
}
