//! The pages of an old kernel that hold none of its tables yet.

use crate::memory::{Memory, MemoryKind};
use fastrand::Rng;
use machine::{PAGE_SIZE, PhysicalAddress, Range};
use std::collections::BTreeSet;

/// Old memory, and the pages of it that are taken. Page zero is never given out.
#[derive(Clone, Debug)]
pub(crate) struct OldPages {
    ranges: Vec<Range<PhysicalAddress>>,
    taken: BTreeSet<PhysicalAddress>,
}

impl OldPages {
    pub(crate) fn of(memory: &Memory) -> Self {
        let ranges = memory.ranges(MemoryKind::Old).collect();
        Self { ranges, taken: [PhysicalAddress::default()].into() }
    }

    /// Takes contiguous unused pages from anywhere.
    ///
    /// # Panics
    ///
    /// If no range is large enough.
    pub(crate) fn take(&mut self, count: u64, rng: &mut Rng) -> PhysicalAddress {
        self.take_if(count, rng, |_| true)
    }

    /// Takes contiguous unused pages that all may be used.
    ///
    /// # Panics
    ///
    /// If no range is large enough.
    pub(crate) fn take_if(
        &mut self,
        count: u64,
        rng: &mut Rng,
        is_usable: impl Fn(PhysicalAddress) -> bool,
    ) -> PhysicalAddress {
        let fits = |range: &&Range<PhysicalAddress>| range.len() >= count * PAGE_SIZE;
        let ranges: Vec<Range<PhysicalAddress>> = self.ranges.iter().filter(fits).copied().collect();
        loop {
            let range = ranges[rng.usize(..ranges.len())];
            let skipped = rng.u64(..=range.len() / PAGE_SIZE - count);
            let start = range.start.saturating_add(skipped * PAGE_SIZE);
            let pages = || (0..count).map(|page| start.saturating_add(page * PAGE_SIZE));
            if pages().all(|page| !self.taken.contains(&page) && is_usable(page)) {
                self.taken.extend(pages());
                return start;
            }
        }
    }
}
