//! A segment of the device table in frames of our own (2.2.2.3): all of it where there is one.
//!
//! Hardware takes a segment in frames that follow each other. Where there are none, only those pages are copied that say of some
//! device how its requests are translated, each into a frame of its own; then the dead kernel's segment stays in force
//! ([`reuse`](crate::amdvi::reuse)), and in all other pages every device stays blocked.

use alloc::vec::Vec;

use amdvi::control::DeviceTableBase;
use amdvi::device_table::{ENTRY_BYTES, ENTRY_WORDS};
use machine::{ENTRIES, PAGE_SIZE, PhysicalAddress, SourceId};

use crate::entry::Slot;
use machine::growth::{OutOfMemory, collected, push};

/// Device table entries in one frame.
pub(crate) const ENTRIES_IN_FRAME: usize = ENTRIES / ENTRY_WORDS;

/// Frames of the largest segment.
const MOST_FRAMES: usize = 512;

/// How many devices there can be.
const DEVICES: usize = 1 << 16;

/// A segment of the device table.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Its number.
    pub(crate) number: usize,
    /// The first device.
    first: usize,
    /// How many devices it has entries for.
    devices: usize,
    /// The base register as the dead kernel left it.
    pub(crate) found: DeviceTableBase,
    /// The base register while ours is in force; none where our frames do not follow each other.
    pub(crate) base: Option<DeviceTableBase>,
    /// The frame of each page, ascending; none of those that are not copied.
    frames: Vec<Option<PhysicalAddress>>,
}

impl Segment {
    /// One of `segments` segments, of 1 to 512 frames from `start`. The dead kernel's is `found`.
    pub(crate) fn side_by_side(
        (number, segments): (usize, usize),
        found: DeviceTableBase,
        frames: usize,
        start: PhysicalAddress,
    ) -> Result<Self, OutOfMemory> {
        let frames = frames.clamp(1, MOST_FRAMES);
        let base = DeviceTableBase::new().with_size(frames as u16 - 1).with_frame(start.pfn().get());
        let pages = (0..frames as u64).map(|page| Some(start.saturating_add(page * PAGE_SIZE)));
        let segment = Self::in_pieces((number, segments), found);
        let devices = base.entries().min(DEVICES / segments.max(1));
        Ok(Self { devices, base: Some(base), frames: collected(pages)?, ..segment })
    }

    /// The same, in frames of which none is there yet.
    pub(crate) fn in_pieces((number, segments): (usize, usize), found: DeviceTableBase) -> Self {
        let share = DEVICES / segments.max(1);
        let (first, devices) = (number * share, found.entries().min(share));
        Self { number, first, devices, found, base: None, frames: Vec::new() }
    }

    /// Adds the next page.
    pub(crate) fn add_page(&mut self, frame: Option<PhysicalAddress>) -> Result<(), OutOfMemory> {
        push(&mut self.frames, frame)
    }

    /// How many frames a segment must have for the device with this id, if the device is in it.
    pub(crate) fn frames_for(source: SourceId, number: usize, segments: usize) -> Option<usize> {
        let share = DEVICES / segments.max(1);
        let index = usize::from(source.0).checked_sub(number * share).filter(|index| *index < share)?;
        Some(index / ENTRIES_IN_FRAME + 1)
    }

    /// Its frames.
    pub(crate) fn frames(&self) -> impl Iterator<Item = PhysicalAddress> + Clone + '_ {
        self.frames.iter().flatten().copied()
    }

    /// From now on it has entries for those devices only that the dead kernel's has one for.
    pub(crate) fn end_with_found(&mut self) {
        self.devices = self.devices.min(self.found.entries());
    }

    /// The devices of which a page has entries.
    pub(crate) fn devices_in(&self, page: usize) -> impl Iterator<Item = SourceId> + use<> {
        let (first, end) = (self.first + page * ENTRIES_IN_FRAME, self.first + self.devices);
        (first..end.min(first + ENTRIES_IN_FRAME)).map(|id| SourceId(id as u16))
    }

    /// Its devices, ascending, each with its entry's slot, as far as they are copied.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (SourceId, Slot)> + Clone + '_ {
        let slot = |index| Some((SourceId((self.first + index) as u16), self.slot(index)?));
        (0..self.devices).filter_map(slot)
    }

    /// The slot of a device's entry.
    pub(crate) fn slot_of(&self, source: SourceId) -> Option<Slot> {
        self.index_of(source).and_then(|index| self.slot(index))
    }

    /// Where a device's entry is in the dead kernel's segment.
    pub(crate) fn place_in_found(&self, source: SourceId) -> Option<PhysicalAddress> {
        let index = self.index_of(source).filter(|index| *index < self.found.entries())?;
        Some(self.found.table().start.saturating_add((index * ENTRY_BYTES) as u64))
    }

    fn index_of(&self, source: SourceId) -> Option<usize> {
        usize::from(source.0).checked_sub(self.first).filter(|index| *index < self.devices)
    }

    fn slot(&self, index: usize) -> Option<Slot> {
        let table = (*self.frames.get(index / ENTRIES_IN_FRAME)?)?;
        Some(Slot { table, word: index % ENTRIES_IN_FRAME * ENTRY_WORDS })
    }

    /// The same, for another unit.
    pub(crate) fn lent(&self) -> Result<Self, OutOfMemory> {
        Ok(Self { frames: collected(self.frames.iter().copied())?, ..*self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dead kernel's segment has two pages.
    const FOUND: DeviceTableBase = DeviceTableBase::new().with_size(1).with_frame(0x55);

    fn place(slot: Option<Slot>) -> Option<(u64, usize)> {
        slot.map(|slot| (slot.table.get(), slot.word))
    }

    #[test]
    fn an_entry_is_where_its_device_is_in_the_table() {
        let segment = Segment::side_by_side((0, 1), FOUND, 2, 0x10_0000.into()).unwrap();
        let slot = |id| place(segment.slot_of(SourceId(id)));
        assert_eq!((slot(0), slot(3)), (Some((0x10_0000, 0)), Some((0x10_0000, 12))));
        assert_eq!((slot(128), slot(255), slot(256)), (Some((0x10_1000, 0)), Some((0x10_1000, 508)), None));
        assert_eq!((segment.frames().count(), segment.slots().count()), (2, 256));
        assert!(segment.slots().all(|(source, slot)| segment.slot_of(source) == Some(slot)));
        assert_eq!(segment.place_in_found(SourceId(129)), Some(0x5_6020.into()));
    }

    /// 2.2.2.3: the upper bits of the id choose the segment.
    #[test]
    fn segments_share_the_devices() {
        let segment = |number| Segment::side_by_side((number, 4), FOUND, 512, 0x40_0000.into()).unwrap();
        assert_eq!(place(segment(3).slot_of(SourceId(0xFFFF))), Some((0x40_0000 + 127 * 0x1000, 508)));
        assert_eq!((0..4).map(|number| segment(number).slots().count()).sum::<usize>(), 0x1_0000);
        assert_eq!(segment(3).devices_in(1).next(), Some(SourceId(0xC080)));
        let needed = |id, number| Segment::frames_for(SourceId(id), number, 4);
        assert_eq!((needed(0xC080, 3), needed(0xC07F, 3), needed(0xC080, 2)), (Some(2), Some(1), None));
    }

    #[test]
    fn a_page_that_is_not_copied_has_no_slots() {
        let mut segment = Segment::in_pieces((0, 1), FOUND);
        [None, Some(0x7000.into())].into_iter().try_for_each(|page| segment.add_page(page)).unwrap();
        assert_eq!(segment.slot_of(SourceId(127)), None);
        assert_eq!(place(segment.slot_of(SourceId(129))), Some((0x7000, 4)));
        assert_eq!((segment.slots().count(), segment.frames().count(), segment.base), (128, 1, None));
        assert_eq!(segment.devices_in(1).count(), 128);
    }
}
