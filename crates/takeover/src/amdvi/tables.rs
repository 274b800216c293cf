//! The upper tables in frames of our own: the device table, and the CR3 tables of guests.

use alloc::vec::Vec;

use amdvi::device_table::{Cr3Entry, DeviceTableEntry};
use machine::{Contended, ENTRIES, Frames, PAGE_SIZE, PhysicalAddress, Registers, SourceId};

use crate::amdvi::entry;
use crate::amdvi::segment::Segment;
use crate::amdvi::tags::Tags;
use crate::amdvi::unit::Unit;
use crate::entry::{Link, Slot};
use crate::hazard::Obstacle;
use machine::growth::{OutOfMemory, collected, push};

/// Device table and CR3 tables in own frames.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// The segments of the device table, ascending: one, unless the old kernel used more.
    segments: Vec<Segment>,
    /// CR3 tables.
    guests: Vec<PhysicalAddress>,
    /// Tables that map nothing, for devices that are blocked; none if there was no frame or no id for them.
    pub(crate) fence: Option<Link>,
    /// Under which tags the unit may have cached translations.
    pub(crate) tags: Tags,
    /// Why the dead kernel's device table stays in force, if it does.
    pub(crate) in_place: Option<Obstacle>,
}

impl Tables {
    /// How many tables there are, in frames.
    pub(crate) fn count(&self) -> u64 {
        let frames = self.segments.iter().flat_map(Segment::frames).count() + self.guests.len();
        frames as u64 + u64::from(self.fence.is_some())
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(crate) fn remember_segment(&mut self, segment: Segment) -> Result<(), OutOfMemory> {
        push(&mut self.segments, segment)
    }

    pub(crate) fn remember_guest(&mut self, table: PhysicalAddress) -> Result<(), OutOfMemory> {
        push(&mut self.guests, table)
    }

    /// Whether a unit was found with the device table that these replace: it has the same base registers.
    pub(crate) fn replace_those_of<R: Registers, C>(&self, unit: &Unit<'_, R, C>) -> bool {
        let is_same = |segment: &Segment| segment.found == unit.device_table(segment.number);
        self.segments.len() == unit.control().segments() && self.segments.iter().all(is_same)
    }

    /// The same tables, for another unit that was found with the device table that these replace.
    pub(crate) fn lent(&self) -> Result<Self, OutOfMemory> {
        let mut segments = Vec::new();
        self.segments.iter().try_for_each(|segment| push(&mut segments, segment.lent()?))?;
        let (guests, tags) = (collected(self.guests.iter().copied())?, self.tags.lent()?);
        Ok(Self { segments, guests, fence: self.fence, tags, in_place: self.in_place })
    }

    /// The unit goes on with the dead kernel's device table. What is ours stays what is believed.
    pub(crate) fn stay_in_place(&mut self, why: Obstacle) {
        self.in_place = Some(why);
        self.segments.iter_mut().for_each(Segment::end_with_found);
    }

    /// Makes the dead kernel's table, if that is in force, say of memory what ours says of a device. Hardware sees all of it at once: it
    /// reads an entry in two halves of 128 bits, of which the upper one, about interrupts, stays (2.2.2).
    pub(crate) fn pass_on(&self, source: SourceId, frames: &mut impl Frames) -> Result<(), Contended> {
        let place =
            self.in_place.and_then(|_| self.segments.iter().find_map(|one| one.place_in_found(source)));
        let (Some(address), Some(slot)) = (place, self.slot_of(source)) else { return Ok(()) };
        let wanted = [0, 1].map(|offset| frames.load(slot.table, slot.word + offset));
        let (page, word) = (address.align_down(PAGE_SIZE), (address.get() % PAGE_SIZE / 8) as usize);
        let found = [0, 1].map(|offset| frames.load(page, word + offset));
        if wanted == found { Ok(()) } else { frames.store_pair(address, wanted) }
    }

    /// All devices that the table has an entry for, ascending, each with its entry's slot.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (SourceId, Slot)> + Clone + '_ {
        self.segments.iter().flat_map(Segment::slots)
    }

    /// The slot of a device's entry; `None` if the table has none for it.
    pub(crate) fn slot_of(&self, source: SourceId) -> Option<Slot> {
        self.segments.iter().find_map(|segment| segment.slot_of(source))
    }

    /// Whether a slot is that of a device table entry, and not one in a CR3 table.
    pub(crate) fn is_of_device(&self, slot: Slot) -> bool {
        self.segments.iter().flat_map(Segment::frames).any(|frame| frame == slot.table)
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
        for table in self.guests.iter().copied().chain(self.segments.iter().flat_map(Segment::frames)) {
            frames.publish(table, 0..ENTRIES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amdvi::control::DeviceTableBase;

    /// Ours has entries for more devices than the dead kernel's, and only those of both are in the one that stays in force.
    #[test]
    fn a_table_in_place_has_entries_as_far_as_it_goes() {
        let found = DeviceTableBase::new().with_frame(0x55);
        let mut tables = Tables::default();
        let segment = Segment::side_by_side((0, 1), found, 2, 0x10_0000.into()).unwrap();
        tables.remember_segment(segment).unwrap();
        let [inside, beyond] = [127, 128].map(|id| tables.slot_of(SourceId(id)).unwrap());
        tables.stay_in_place(Obstacle::Locked);
        let slots = [127, 128].map(|id| tables.slot_of(SourceId(id)));
        assert_eq!(slots, [Some(inside), None]);
        assert!(tables.is_of_device(inside) && tables.is_of_device(beyond));
    }
}
