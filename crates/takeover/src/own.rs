//! The capture kernel's own memory: no inherited translation may reach it, and no inherited table may lie in it.

use machine::{PAGE_SIZE, PhysicalAddress, Range};

use crate::hazard::Danger;
use crate::table::page_at;

/// The capture kernel's own memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnMemory<'a>(pub(crate) &'a [Range<PhysicalAddress>]);

impl OwnMemory<'_> {
    /// Whether some of `memory` is ours.
    pub(crate) fn touches(self, memory: Range<PhysicalAddress>) -> bool {
        self.0.iter().any(|own| own.overlaps(memory))
    }

    /// Whether all of `memory` is ours.
    pub(crate) fn covers(self, memory: Range<PhysicalAddress>) -> bool {
        self.0.iter().any(|own| own.covers(memory))
    }

    /// Refuses a table of the old kernel that lies in our memory.
    pub(crate) fn refuse_table(self, address: PhysicalAddress) -> Result<(), Danger> {
        if self.touches(page_at(address)) { Err(Danger::TableInOwnMemory(address)) } else { Ok(()) }
    }

    /// The smallest range of whole pages that holds all of our memory.
    pub(crate) fn hull(self) -> Range<PhysicalAddress> {
        let start = self.0.iter().map(|range| range.start).min().unwrap_or_default();
        let end = self.0.iter().map(|range| range.end).max().unwrap_or_default();
        Range::new(start.align_down(PAGE_SIZE), end)
    }
}
