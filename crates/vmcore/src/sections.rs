//! Finds the `struct page` of a page frame by the sections of the sparse memory model.
//!
//! Physical memory is divided into sections (128 MiB on x86-64), each with an array of `struct page`. A two-level table,
//! `mem_section`, holds for each section the array's address, less that of the section's first page frame, with flags
//! in the low bits (`include/linux/mmzone.h`, `CONFIG_SPARSEMEM_EXTREME`). With `CONFIG_SPARSEMEM_VMEMMAP` the arrays are
//! parts of one that is mapped sparsely; the table says the same.

use machine::{OldMemory, PAGE_SHIFT, PAGE_SIZE, Pfn, Position, VirtualAddress};

use crate::{AddressSpace, Unknown, VmcoreInfo};

/// `SECTION_MARKED_PRESENT`: the section has an array.
const PRESENT: u64 = 1;
/// Bits of the entry that are no flags. Flags take six bits today; the arrays are page-aligned.
const ARRAY: u64 = !(PAGE_SIZE - 1);

/// The table of sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sections {
    /// Virtual address of the first level: pointers to pages of entries.
    roots: VirtualAddress,
    /// How many pointers.
    root_count: u64,
    /// Bytes in an entry, `struct mem_section`.
    entry_size: u64,
    /// Where in an entry the array's address is.
    array_offset: u64,
    /// Page frames in a section, as a shift.
    frames_shift: u32,
}

impl Sections {
    pub(crate) fn new(info: VmcoreInfo<'_>) -> Result<Self, Unknown> {
        let sections = Self {
            roots: info.symbol("mem_section").ok_or(Unknown("SYMBOL(mem_section)"))?,
            root_count: info.length("mem_section").ok_or(Unknown("LENGTH(mem_section)"))?,
            entry_size: entry_size(info).ok_or(Unknown("SIZE(mem_section)"))?,
            array_offset: array_offset(info).ok_or(Unknown("OFFSET(mem_section.section_mem_map)"))?,
            frames_shift: frames_shift(info).ok_or(Unknown("NUMBER(SECTION_SIZE_BITS)"))?,
        };
        Ok(sections)
    }

    /// Virtual address of the table's first level. Linux takes it from the memory that is mapped directly
    /// (`mm/sparse.c`, `memory_present`).
    pub(crate) fn roots(&self) -> VirtualAddress {
        self.roots
    }

    /// The section that `pfn` is in.
    pub(crate) fn of(&self, pfn: Pfn) -> u64 {
        pfn.get() >> self.frames_shift
    }

    /// First page frame after a section.
    pub(crate) fn end(&self, section: u64) -> Pfn {
        Pfn::new((section + 1) << self.frames_shift)
    }

    /// Virtual address of the `struct page`, of `page_size` bytes, of page frame 0, if this section's array started there:
    /// add `pfn * page_size`. `None` if the section has no array, or the table cannot be read.
    pub(crate) fn array(
        &self,
        space: &AddressSpace,
        memory: &impl OldMemory,
        section: u64,
    ) -> Option<VirtualAddress> {
        let per_root = PAGE_SIZE / self.entry_size;
        let root = section / per_root;
        if root >= self.root_count {
            return None;
        }
        let entries = space.read_u64(memory, self.roots.checked_add(root * 8)?).ok()?;
        let entry = VirtualAddress::new(entries).checked_add(section % per_root * self.entry_size)?;
        let array = space.read_u64(memory, entry.checked_add(self.array_offset)?).ok()?;
        (entries != 0 && array & PRESENT != 0).then_some(VirtualAddress::new(array & ARRAY))
    }
}

fn entry_size(info: VmcoreInfo<'_>) -> Option<u64> {
    let size = info.size("mem_section")? as u64;
    (8..=PAGE_SIZE).contains(&size).then_some(size)
}

fn array_offset(info: VmcoreInfo<'_>) -> Option<u64> {
    let offset = info.offset("mem_section.section_mem_map")? as u64;
    (offset < PAGE_SIZE).then_some(offset)
}

/// From 4 MiB, the largest free block, to 1 TiB in a section.
fn frames_shift(info: VmcoreInfo<'_>) -> Option<u32> {
    let bits = u32::try_from(info.number("SECTION_SIZE_BITS")?).ok()?;
    (22..=40).contains(&bits).then(|| bits - PAGE_SHIFT)
}
