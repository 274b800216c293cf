//! This kernel's own page tables: every mapping is the identity, with the permissions that the use of the memory
//! needs.
//!
//! The boot loader's tables map only RAM, all of it writable. The tables made here enforce in hardware what
//! ARCHITECTURE.md promises: this kernel cannot write the dead kernel's memory, and can execute only its own code.
//! (Intel SDM volume 3, chapter 4.)

use core::arch::x86_64::{__cpuid, CpuidResult};

use machine::{ENTRIES, Frames, PAGE_SIZE, PhysicalAddress, Range};
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr3, Cr3Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::{Efer, EferFlags};
use x86_64::structures::paging::PhysFrame;

use crate::platform::frames::FramePool;

// Bits of an entry at every level (SDM volume 3, section 4.5).
const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// The use of mapped memory, which decides its permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// This kernel's instructions.
    Code,
    /// This kernel's constants, the dead kernel's memory, the firmware's tables.
    ReadOnly,
    /// This kernel's own memory.
    Own,
    /// Registers: uncached. PAT entry 3 is uncacheable both after reset and as Linux programs it.
    Device,
    /// What another kernel does with it, its instructions included.
    Anything,
    /// A display's pixels: PAT entry 1, which is write-combining as Linux programs it. After reset it is write-through, which over
    /// addresses that the firmware calls uncacheable is uncached.
    Pixels,
}

impl Access {
    const fn bits(self) -> u64 {
        match self {
            Self::Code => PRESENT,
            Self::ReadOnly => PRESENT | NO_EXECUTE,
            Self::Own => PRESENT | NO_EXECUTE | WRITABLE,
            Self::Anything => PRESENT | WRITABLE,
            Self::Pixels => PRESENT | NO_EXECUTE | WRITABLE | WRITE_THROUGH,
            Self::Device => PRESENT | NO_EXECUTE | WRITABLE | CACHE_DISABLE | WRITE_THROUGH,
        }
    }
}

/// The features of the processor's paging.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Features {
    /// Levels of the tables, 4 or 5: as the boot loader left them, since this cannot change while paging is on.
    pub(crate) levels: u32,
    /// The highest level whose entries can be pages: 2 for 2 MiB, 3 for 1 GiB.
    pub(crate) largest: u32,
    /// First address that cannot be mapped to itself.
    pub(crate) limit: u64,
}

impl Features {
    /// Reads the features from the processor.
    pub(crate) fn of_this_processor() -> Self {
        let levels = if Cr4::read().contains(Cr4Flags::L5_PAGING) { 5 } else { 4 };
        let gibibyte_pages = extended(0x8000_0001).is_some_and(|leaf| leaf.edx & 1 << 26 != 0);
        // Half of the virtual addresses are below the canonical hole.
        let limit = 1 << physical_address_bits().min(span_shift(levels + 1) - 1);
        Self { levels, largest: if gibibyte_pages { 3 } else { 2 }, limit }
    }
}

/// Bits of the processor's physical addresses.
pub(crate) fn physical_address_bits() -> u32 {
    extended(0x8000_0008).map_or(36, |leaf| leaf.eax & 0xFF)
}

/// What the processor says of itself in an extended leaf, if it has that leaf.
fn extended(leaf: u32) -> Option<CpuidResult> {
    if __cpuid(0x8000_0000).eax >= leaf { Some(__cpuid(leaf)) } else { None }
}

/// A range could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MapError {
    /// The frames for tables are used up.
    #[error("no frame left for a page table")]
    NoFrame,
    /// The address is wider than the processor's.
    #[error("{0} is beyond the processor's addresses")]
    TooHigh(Range<PhysicalAddress>),
    /// Something else is mapped there.
    #[error("{0:#x} is already mapped for another use")]
    InUse(PhysicalAddress),
}

/// The page tables, which map physical addresses to themselves.
#[derive(Debug)]
pub(crate) struct AddressSpace {
    frames: FramePool,
    features: Features,
    root: PhysicalAddress,
}

impl AddressSpace {
    /// Makes empty tables, which take their frames from `frames`.
    pub(crate) fn new(mut frames: FramePool, features: Features) -> Result<Self, MapError> {
        let root = frames.allocate().ok_or(MapError::NoFrame)?;
        Ok(Self { frames, features, root })
    }

    /// The table at the top.
    pub(crate) fn root(&self) -> PhysicalAddress {
        self.root
    }

    /// The addresses that can be mapped.
    pub(crate) fn addresses(&self) -> Range<PhysicalAddress> {
        Range::from(0..self.features.limit)
    }

    /// Maps all pages that `range` touches to themselves, in the largest pages that fit.
    ///
    /// What is mapped already for the same use stays; for another use it is an error, and pages before it are mapped.
    pub(crate) fn map(&mut self, range: Range<PhysicalAddress>, access: Access) -> Result<(), MapError> {
        let pages = Range::new(
            range.start.align_down(PAGE_SIZE),
            range.end.saturating_add(PAGE_SIZE - 1).align_down(PAGE_SIZE),
        );
        if !self.addresses().covers(pages) {
            return Err(MapError::TooHigh(range));
        }
        self.fill(self.root, self.features.levels, pages, access)
    }

    /// Maps the part `pages` of the memory that the table at `level` spans.
    fn fill(
        &mut self,
        table: PhysicalAddress,
        level: u32,
        pages: Range<PhysicalAddress>,
        access: Access,
    ) -> Result<(), MapError> {
        let span = 1 << span_shift(level);
        let mut start = pages.start;
        while start < pages.end {
            let end = start.align_down(span).saturating_add(span).min(pages.end);
            self.fill_entry(table, level, Range::new(start, end), access)?;
            start = end;
        }
        Ok(())
    }

    /// Maps `part`, which lies within one entry of the table at `level`.
    fn fill_entry(
        &mut self,
        table: PhysicalAddress,
        level: u32,
        part: Range<PhysicalAddress>,
        access: Access,
    ) -> Result<(), MapError> {
        let index = (part.start.get() >> span_shift(level)) as usize % ENTRIES;
        let whole = part.len() == 1 << span_shift(level) && level <= self.features.largest;
        match self.frames.table(table)[index] {
            0 if whole => self.frames.store(table, index, page_entry(part.start.get(), level, access)),
            0 => {
                let lower = self.frames.allocate().ok_or(MapError::NoFrame)?;
                self.fill(lower, level - 1, part, access)?;
                self.frames.store(table, index, lower.get() | PRESENT | WRITABLE);
            }
            entry if level > 1 && entry & LARGE == 0 => {
                self.fill((entry & ADDRESS).into(), level - 1, part, access)?;
            }
            entry if entry & Access::Device.bits() == access.bits() => {}
            _ => return Err(MapError::InUse(part.start)),
        }
        Ok(())
    }

    /// Makes the processor use these tables, and obey their write protection in this kernel too.
    ///
    /// # Safety
    ///
    /// The running code, its stack and every live object are mapped with the access they need.
    pub(crate) unsafe fn activate(&self) {
        // SAFETY: turning features on that the tables rely on; no-execute exists on every x86-64 processor that runs
        // Linux with a remapping unit. The new tables map what is in use, by the caller's promise.
        unsafe {
            Efer::update(|flags| flags.insert(EferFlags::NO_EXECUTE_ENABLE));
            Cr3::write(
                PhysFrame::containing_address(PhysAddr::new_truncate(self.root.get())),
                Cr3Flags::empty(),
            );
            Cr0::update(|flags| flags.insert(Cr0Flags::WRITE_PROTECT));
        }
    }
}

/// Binary logarithm of the bytes that one entry at `level` spans.
const fn span_shift(level: u32) -> u32 {
    12 + 9 * (level - 1)
}

fn page_entry(address: u64, level: u32, access: Access) -> u64 {
    address | access.bits() | if level > 1 { LARGE } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(largest: u32, levels: u32) -> AddressSpace {
        let features = Features { levels, largest, limit: 1 << 46 };
        AddressSpace::new(FramePool::new(64).unwrap(), features).unwrap()
    }

    /// The entry that maps an address, and the level where it was found, as the processor walks.
    fn walk(space: &AddressSpace, address: u64) -> Option<(u64, u32)> {
        let (mut table, mut level) = (space.root, space.features.levels);
        loop {
            let entry = space.frames.table(table)[(address >> (12 + 9 * (level - 1))) as usize & 511];
            if entry & 1 == 0 {
                return None;
            }
            if level == 1 || entry & 0x80 != 0 {
                return Some((entry, level));
            }
            (table, level) = ((entry & 0x000F_FFFF_FFFF_F000).into(), level - 1);
        }
    }

    #[test]
    fn memory_is_mapped_to_itself_in_the_largest_pages_that_fit() {
        for levels in [4, 5] {
            let mut space = space(3, levels);
            space.map(Range::from(0x3FE0_1000..0x8000_2000), Access::ReadOnly).unwrap();
            assert_eq!(walk(&space, 0x3FE0_0000), None);
            assert_eq!(walk(&space, 0x3FE0_1000), Some((0x8000_0000_3FE0_1001, 1)));
            assert_eq!(walk(&space, 0x4000_0000), Some((0x8000_0000_4000_0081, 3)));
            assert_eq!(walk(&space, 0x8000_1000), Some((0x8000_0000_8000_1001, 1)));
            assert_eq!(walk(&space, 0x8000_2000), None);
        }
    }

    #[test]
    fn without_gibibyte_pages_two_mebibytes_are_the_largest() {
        let mut space = space(2, 4);
        space.map(Range::from(0x4000_0000..0x8000_0000), Access::ReadOnly).unwrap();
        assert_eq!(walk(&space, 0x7FE0_0000), Some((0x8000_0000_7FE0_0081, 2)));
    }

    #[test]
    fn each_access_sets_the_bits_that_the_specification_names() {
        let mut space = space(3, 4);
        let uses = [
            (0x1000, Access::Code),
            (0x2000, Access::Own),
            (0x3000, Access::Device),
            (0x4000, Access::Pixels),
        ];
        for (address, access) in uses {
            space.map(Range::from(address..address + 1), access).unwrap();
        }
        assert_eq!(walk(&space, 0x1000), Some((0x1001, 1)));
        assert_eq!(walk(&space, 0x2000), Some((0x8000_0000_0000_2003, 1)));
        assert_eq!(walk(&space, 0x3000), Some((0x8000_0000_0000_301B, 1)));
        assert_eq!(walk(&space, 0x4000), Some((0x8000_0000_0000_400B, 1)));
    }

    #[test]
    fn memory_never_changes_its_use() {
        let mut space = space(3, 4);
        space.map(Range::from(0..0x4000_0000), Access::ReadOnly).unwrap();
        assert_eq!(space.map(Range::from(0x1000..0x3000), Access::ReadOnly), Ok(()));
        for other in [Access::Own, Access::Device, Access::Pixels] {
            assert_eq!(space.map(Range::from(0x1000..0x2000), other), Err(MapError::InUse(0x1000.into())));
        }
        assert_eq!(walk(&space, 0x1000), Some((0x8000_0000_0000_0081, 3)));
    }

    #[test]
    fn hostile_ranges_are_refused() {
        let mut space = space(3, 4);
        let beyond = Range::from(1 << 46..(1 << 46) + 1);
        assert_eq!(space.map(beyond, Access::Device), Err(MapError::TooHigh(beyond)));
        let endless = Range::from(0..u64::MAX);
        assert_eq!(space.map(endless, Access::Device), Err(MapError::TooHigh(endless)));
        assert_eq!(space.map(Range::from(5..5), Access::Device), Ok(()));
    }
}
