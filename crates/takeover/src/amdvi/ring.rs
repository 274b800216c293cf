//! A ring of entries of 128 bits, which the unit reads or writes: commands (2.4), or events (2.5). It is in frames of our own, or in the
//! dead kernel's memory where hardware has locked the register that names it.

use amdvi::control::BufferBase;
use amdvi::registers::Register;
use machine::{Contended, ENTRIES, Frames, PAGE_SIZE, PhysicalAddress, Range, Registers};

use crate::amdvi::unit::Unit;

/// Bytes of an entry.
const ENTRY: u64 = 16;

/// Whose memory a ring is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Ours.
    Ours,
    /// The dead kernel's: it is used where it is ([`Frames::reuse`]).
    Old,
}

/// A ring of entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring {
    start: PhysicalAddress,
    /// A power of two, at least a page.
    bytes: u64,
    pub(crate) owner: Owner,
}

impl Ring {
    /// Frames of a ring of our own: 512 entries, as many as Linux's have. A Linux to which the machine is handed over may go on with it,
    /// and does not ask how long it is.
    pub(crate) const FRAMES: usize = 2;

    /// A ring in [`Self::FRAMES`] frames of our own that follow each other.
    pub(crate) fn new(start: PhysicalAddress) -> Self {
        Self { start, bytes: Self::FRAMES as u64 * PAGE_SIZE, owner: Owner::Ours }
    }

    /// The dead kernel's ring; `None` if its length is reserved.
    pub(crate) fn of_old(base: BufferBase) -> Option<Self> {
        let bytes = base.entries()? as u64 * ENTRY;
        Some(Self { start: base.address(), bytes, owner: Owner::Old })
    }

    /// The base register's value for a ring of our own.
    pub(crate) fn base(self) -> BufferBase {
        BufferBase::new().with_frame(self.start.pfn().get()).with_length(self.entries().ilog2() as u8)
    }

    pub(crate) fn memory(self) -> Range<PhysicalAddress> {
        Range::new(self.start, self.start.saturating_add(self.bytes))
    }

    /// How many entries it has room for.
    pub(crate) fn entries(self) -> u64 {
        self.bytes / ENTRY
    }

    /// What a register says of a place in the ring: bytes from its start, inside it.
    pub(crate) fn place<R: Registers, C>(self, unit: &Unit<'_, R, C>, register: Register) -> u64 {
        unit.offset(register) % self.bytes
    }

    /// The place after this one.
    pub(crate) fn after(self, place: u64) -> u64 {
        (place + ENTRY) % self.bytes
    }

    /// Writes an entry, which the unit does not read before its tail moves.
    pub(crate) fn put(self, place: u64, entry: [u64; 2], frames: &mut impl Frames) -> Result<(), Contended> {
        let (page, word) = self.at(place);
        match self.owner {
            Owner::Ours => {
                (word..).zip(entry).for_each(|(word, value)| frames.store(page, word, value));
                frames.publish(page, word..word + 2);
                Ok(())
            }
            Owner::Old => frames.store_pair(page.saturating_add(word as u64 * 8), entry),
        }
    }

    /// Reads an entry.
    pub(crate) fn get(self, place: u64, frames: &impl Frames) -> [u64; 2] {
        let (page, word) = self.at(place);
        [frames.load(page, word), frames.load(page, word + 1)]
    }

    /// The page and the word of an entry.
    fn at(self, place: u64) -> (PhysicalAddress, usize) {
        let place = place % self.bytes / ENTRY * ENTRY;
        let page = self.start.saturating_add(place / PAGE_SIZE * PAGE_SIZE);
        (page, (place / 8) as usize % ENTRIES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_ring_has_as_many_pages_as_its_base_says() {
        let ring = Ring::of_old(BufferBase::from_bits(9 << 56 | 0x1234_5000)).unwrap();
        assert_eq!(ring.memory(), Range::from(0x1234_5000..0x1234_7000));
        assert_eq!((ring.at(0x1FF0), ring.after(0x1FF0)), ((0x1234_6000.into(), 510), 0));
        assert!(Ring::of_old(BufferBase::from_bits(7 << 56)).is_none());
        let longest = Ring::of_old(BufferBase::from_bits(15 << 56)).unwrap();
        assert_eq!(longest.memory().len(), 512 << 10);
    }
}
