//! One table in a frame of our own: copied from the old kernel's memory, or made.

use machine::{CopyError, ENTRIES, Frames, OldMemory, PAGE_SIZE, PhysicalAddress, Range};

use crate::hazard::Danger;
use crate::own::OwnMemory;

/// Copies an old table into a frame of our own, unless it lies in our memory.
pub(crate) fn copy_table(
    address: PhysicalAddress,
    old: &impl OldMemory,
    frames: &mut impl Frames,
    own: OwnMemory<'_>,
) -> Result<PhysicalAddress, Danger> {
    own.refuse_table(address)?;
    let copy = frames.allocate_copy(old, address);
    copy.map_err(|error| match error {
        CopyError::OutOfFrames => Danger::OverBudget,
        CopyError::Unreadable(_) => Danger::TableUnreadable(address),
    })
}

/// Copies an old table into this frame; if that fails, the frame's content is undefined.
pub(crate) fn read_table(
    address: PhysicalAddress,
    frame: PhysicalAddress,
    old: &impl OldMemory,
    frames: &mut impl Frames,
    own: OwnMemory<'_>,
) -> Result<(), Danger> {
    own.refuse_table(address)?;
    old.read_table(address, frames.table_mut(frame)).map_err(|_| Danger::TableUnreadable(address))
}

/// Makes empty tables that follow each other, publishes them, and returns the first.
pub(crate) fn new_tables(count: usize, frames: &mut impl Frames) -> Option<PhysicalAddress> {
    let first = frames.allocate_run(count)?;
    for index in 0..count as u64 {
        frames.publish(first.saturating_add(index * PAGE_SIZE), 0..ENTRIES);
    }
    Some(first)
}

/// Makes an empty table and publishes it.
pub(crate) fn new_table(frames: &mut impl Frames) -> Option<PhysicalAddress> {
    let table = frames.allocate()?;
    frames.publish(table, 0..ENTRIES);
    Some(table)
}

/// The memory of the table or the page at `address`.
pub(crate) fn page_at(address: PhysicalAddress) -> Range<PhysicalAddress> {
    Range::new(address, address.saturating_add(PAGE_SIZE))
}
