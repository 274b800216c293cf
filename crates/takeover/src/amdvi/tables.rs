//! The upper tables in frames of our own: the device table, and the CR3 tables of guests.

use alloc::vec::Vec;

use amdvi::control::DeviceTableBase;
use amdvi::device_table::{Cr3Entry, DeviceTableEntry, ENTRY_BYTES, ENTRY_WORDS};
use machine::{Contended, ENTRIES, Frames, PAGE_SIZE, PhysicalAddress, Position, SourceId};

use crate::amdvi::entry;
use crate::amdvi::tags::Tags;
use crate::entry::{Link, Slot};
use machine::growth::{OutOfMemory, collected, push};

/// Device table entries in one frame.
const ENTRIES_IN_FRAME: usize = ENTRIES / ENTRY_WORDS;

/// Frames of the largest segment.
const MOST_FRAMES: usize = 512;

/// How many devices there can be.
const DEVICES: usize = 1 << 16;

/// Device table and CR3 tables in own frames.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// The segments of the device table, ascending (2.2.2.3): one, unless the old kernel used more.
    segments: Vec<Segment>,
    /// CR3 tables.
    guests: Vec<PhysicalAddress>,
    /// Tables that map nothing, for devices that are blocked; none if there was no frame or no id for them.
    pub(crate) fence: Option<Link>,
    /// Under which tags the unit may have cached translations.
    pub(crate) tags: Tags,
}

/// A segment of the device table, in frames that follow each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    /// Its number.
    pub(crate) number: usize,
    /// The first device.
    first: usize,
    /// How many devices it has entries for.
    devices: usize,
    /// Its base register, while ours is in force.
    pub(crate) base: DeviceTableBase,
    /// Where the dead kernel's segment is, if that stays in force.
    old: Option<PhysicalAddress>,
}

impl Segment {
    /// One of `segments` segments, of 1 to 512 frames from `start`.
    pub(crate) fn new(number: usize, segments: usize, frames: usize, start: PhysicalAddress) -> Self {
        let share = DEVICES / segments.max(1);
        let size = frames.saturating_sub(1).min(MOST_FRAMES - 1) as u16;
        let base = DeviceTableBase::new().with_size(size).with_frame(start.pfn().get());
        Self { number, first: number * share, devices: base.entries().min(share), base, old: None }
    }

    /// How many frames a segment must have for the device with this id, if the device is in it.
    pub(crate) fn frames_for(source: SourceId, number: usize, segments: usize) -> Option<usize> {
        let share = DEVICES / segments.max(1);
        let index = usize::from(source.0).checked_sub(number * share).filter(|index| *index < share)?;
        Some(index / ENTRIES_IN_FRAME + 1)
    }

    /// Its frames.
    pub(crate) fn frames(self) -> impl Iterator<Item = PhysicalAddress> + use<> {
        let pages = usize::from(self.base.size()) + 1;
        (0..pages as u64).map(move |page| self.base.table().start.saturating_add(page * PAGE_SIZE))
    }

    /// The same, where the dead kernel's segment with this base stays in force.
    fn reusing(self, old: DeviceTableBase) -> Self {
        let (devices, start) = (self.devices.min(old.entries()), old.table().start);
        Self { devices, old: Some(start), ..self }
    }

    /// The first device of which the frame at this index has an entry.
    pub(crate) fn first_in(self, frame: usize) -> SourceId {
        SourceId((self.first + frame * ENTRIES_IN_FRAME) as u16)
    }

    /// Its devices, ascending, each with its entry's slot.
    pub(crate) fn slots(self) -> impl Iterator<Item = (SourceId, Slot)> + Clone + use<> {
        (0..self.devices).map(move |index| (SourceId((self.first + index) as u16), self.slot(index)))
    }

    fn slot(self, index: usize) -> Slot {
        let page = (index / ENTRIES_IN_FRAME) as u64 * PAGE_SIZE;
        Slot {
            table: self.base.table().start.saturating_add(page),
            word: index % ENTRIES_IN_FRAME * ENTRY_WORDS,
        }
    }
}

impl Tables {
    /// How many tables there are, in frames.
    pub(crate) fn count(&self) -> u64 {
        let frames = self.segments.iter().map(|segment| u64::from(segment.base.size()) + 1);
        frames.sum::<u64>() + self.guests.len() as u64 + u64::from(self.fence.is_some())
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment> + Clone + '_ {
        self.segments.iter().copied()
    }

    pub(crate) fn remember_segment(&mut self, segment: Segment) -> Result<(), OutOfMemory> {
        push(&mut self.segments, segment)
    }

    pub(crate) fn remember_guest(&mut self, table: PhysicalAddress) -> Result<(), OutOfMemory> {
        push(&mut self.guests, table)
    }

    /// The unit goes on with the dead kernel's device table, whose segments have these bases. What is ours stays what is believed.
    pub(crate) fn reuse(&mut self, base: impl Fn(usize) -> DeviceTableBase) {
        self.segments.iter_mut().for_each(|segment| *segment = segment.reusing(base(segment.number)));
    }

    /// Where the unit reads what this slot of ours says, if it reads it in the dead kernel's table.
    fn in_old_table(&self, slot: Slot) -> Option<PhysicalAddress> {
        let segment = self.segments().find(|segment| segment.base.table().contains(slot.table))?;
        let bytes = slot.table.count_since(segment.base.table().start) + slot.word as u64 * 8;
        // Ours may have entries for more devices.
        let is_inside = bytes < (segment.devices * ENTRY_BYTES) as u64;
        Some(segment.old.filter(|_| is_inside)?.saturating_add(bytes))
    }

    /// Makes the dead kernel's table, if that is in force, say of memory what ours says in the slot of a device. Hardware sees all of it
    /// at once: it reads an entry in two halves of 128 bits, of which the upper one, about interrupts, stays (2.2.2).
    pub(crate) fn pass_on(&self, slot: Slot, frames: &mut impl Frames) -> Result<(), Contended> {
        let Some(address) = self.in_old_table(slot) else { return Ok(()) };
        let wanted = [0, 1].map(|offset| frames.load(slot.table, slot.word + offset));
        let (page, word) = (address.align_down(PAGE_SIZE), (address.get() % PAGE_SIZE / 8) as usize);
        let found = [0, 1].map(|offset| frames.load(page, word + offset));
        if wanted == found { Ok(()) } else { frames.store_pair(address, wanted) }
    }

    /// All devices that the table has an entry for, ascending, each with its entry's slot.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (SourceId, Slot)> + Clone + '_ {
        self.segments().flat_map(Segment::slots)
    }

    /// The slot of a device's entry; `None` if the table has none for it.
    pub(crate) fn slot_of(&self, source: SourceId) -> Option<Slot> {
        let id = usize::from(source.0);
        let segment =
            self.segments().find(|segment| (segment.first..segment.first + segment.devices).contains(&id));
        segment.map(|segment| segment.slot(id - segment.first))
    }

    /// Whether a slot is that of a device table entry, and not one in a CR3 table.
    pub(crate) fn is_of_device(&self, slot: Slot) -> bool {
        self.segments().any(|segment| segment.base.table().contains(slot.table))
    }

    /// The slot of the CR3 entry for requests without PASID, in the tables that a device's entry names.
    pub(crate) fn guest_slot(&self, device: DeviceTableEntry, frames: &impl Frames) -> Option<Slot> {
        let mut table = device.cr3_table();
        for _ in 0..device.host.cr3_levels() {
            let next = Cr3Entry::from_bits(frames.table(self.guest(table)?)[0]);
            table = Some(next).filter(Cr3Entry::valid)?.table();
        }
        Some(Slot { table: self.guest(table)?, word: 0 })
    }

    /// A table, if it is one of ours.
    fn guest(&self, table: PhysicalAddress) -> Option<PhysicalAddress> {
        self.guests.contains(&table).then_some(table)
    }

    /// Whether an entry names tables that may map something.
    pub(crate) fn are_named_by(&self, entry: DeviceTableEntry) -> bool {
        entry::is_linked(entry) && self.fence.is_none_or(|fence| fence.root != entry.table())
    }

    /// The entry that blocks a device.
    pub(crate) fn blocked(&self, entry: DeviceTableEntry) -> DeviceTableEntry {
        self.fence.map_or(entry::blocked(entry), |fence| entry::fenced(entry, fence))
    }

    /// The devices whose entries allow them a device-TLB, ascending.
    pub(crate) fn device_tlbs(&self, frames: &impl Frames) -> Result<Vec<SourceId>, OutOfMemory> {
        let allows = |slot| {
            let entry = entry::load(slot, frames);
            self.are_named_by(entry) && entry.guest.device_tlb()
        };
        collected(self.slots().filter(|(_, slot)| allows(*slot)).map(|(source, _)| source))
    }

    /// Publishes all tables, the device table last.
    pub(crate) fn publish(&self, frames: &mut impl Frames) {
        for table in self.guests.iter().copied().chain(self.segments().flat_map(Segment::frames)) {
            frames.publish(table, 0..ENTRIES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: usize, segments: usize, frames: usize) -> Segment {
        let start = PhysicalAddress::new(0x10_0000 * (1 + number as u64));
        Segment::new(number, segments, frames, start)
    }

    #[test]
    fn an_entry_is_where_its_device_is_in_the_table() {
        let mut tables = Tables::default();
        tables.remember_segment(segment(0, 1, 2)).unwrap();
        let slot = |id| tables.slot_of(SourceId(id)).map(|slot| (slot.table.get(), slot.word));
        assert_eq!((slot(0), slot(3)), (Some((0x10_0000, 0)), Some((0x10_0000, 12))));
        assert_eq!((slot(128), slot(255), slot(256)), (Some((0x10_1000, 0)), Some((0x10_1000, 508)), None));
        assert_eq!((tables.count(), tables.slots().count()), (2, 256));
        assert!(tables.slots().all(|(source, slot)| tables.slot_of(source) == Some(slot)));
    }

    /// Ours has entries for more devices than the dead kernel's, and only those of both are in the one that stays in force.
    #[test]
    fn a_slot_of_ours_is_in_the_old_table_as_far_as_that_goes() {
        let mut tables = Tables::default();
        tables.remember_segment(segment(0, 1, 2)).unwrap();
        let [inside, beyond] = [127, 128].map(|id| tables.slot_of(SourceId(id)).unwrap());
        assert_eq!(tables.in_old_table(inside), None, "ours is in force");
        tables.reuse(|_| DeviceTableBase::new().with_frame(0x55));
        assert_eq!(tables.in_old_table(inside), Some(PhysicalAddress::new(0x5_5FE0)));
        assert_eq!(tables.in_old_table(beyond), None);
        assert_eq!((tables.slot_of(SourceId(127)), tables.slot_of(SourceId(128))), (Some(inside), None));
    }

    /// 2.2.2.3: the upper bits of the id choose the segment.
    #[test]
    fn segments_share_the_devices() {
        let mut tables = Tables::default();
        (0..4).for_each(|number| tables.remember_segment(segment(number, 4, 512)).unwrap());
        let last = tables.slot_of(SourceId(0xFFFF)).unwrap();
        assert_eq!((last.table.get(), last.word), (0x40_0000 + 127 * 0x1000, 508));
        assert_eq!(tables.slots().count(), 0x1_0000);
        assert_eq!(segment(3, 4, 512).first_in(1), SourceId(0xC080));
        let needed = |id, number| Segment::frames_for(SourceId(id), number, 4);
        assert_eq!((needed(0xC080, 3), needed(0xC07F, 3), needed(0xC080, 2)), (Some(2), Some(1), None));
    }
}
