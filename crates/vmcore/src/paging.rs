//! Virtual addresses of the dead kernel, translated by its own page tables.
//!
//! Intel SDM volume 3, section 4.5: 4-level and 5-level paging. Addresses in the kernel image need no tables: the image is
//! one piece, in virtual as in physical memory.

use machine::{OldMemory, PAGE_SHIFT, PAGE_SIZE, PhysicalAddress, Range, VirtualAddress};

use crate::walk::Target;
use crate::{Unknown, VmcoreInfo};

/// Where the kernel image is mapped before randomization moves it (`__START_KERNEL_map`).
const IMAGE_START: u64 = 0xffff_ffff_8000_0000;
/// `KERNEL_IMAGE_SIZE` of a kernel that does not give it.
const IMAGE_SIZE: u64 = 512 << 20;
/// Bit 0 of an entry: present.
const PRESENT: u64 = 1;
/// Bit 7 of an entry of levels 2 and 3: it maps a page itself.
const LARGE: u64 = 1 << 7;
/// The highest level at which an entry may map a page itself: 1 GiB.
const HIGHEST_LEAF: u32 = 3;
/// Bits 51..12 of an entry: a physical address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// A virtual address that the dead kernel's tables do not map to memory that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("virtual address {0:#x} leads to no memory")]
pub struct Unmapped(
    /// The address.
    pub VirtualAddress,
);

/// The target of a virtual address, and the number of bytes from there on that are physically contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The physical address.
    pub physical: PhysicalAddress,
    /// Bytes up to the end of the mapped page; at least 1.
    pub len: u64,
}

/// The dead kernel's view of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpace {
    /// Physical address of the image, less its offset from [`IMAGE_START`]; wraps.
    phys_base: u64,
    image_size: u64,
    /// Physical address of the top-level table.
    root: PhysicalAddress,
    /// 4 or 5.
    levels: u32,
    /// Bits of an entry that are an address: without the memory encryption bit.
    address: u64,
}

impl AddressSpace {
    /// Finds the page tables by `SYMBOL(swapper_pg_dir)` and `NUMBER(phys_base)`.
    pub fn new(info: VmcoreInfo<'_>) -> Result<Self, Unknown> {
        let phys_base = info.number("phys_base").ok_or(Unknown("NUMBER(phys_base)"))?.cast_unsigned();
        let root = info.symbol("init_top_pgt").or_else(|| info.symbol("swapper_pg_dir"));
        let root = root.ok_or(Unknown("SYMBOL(swapper_pg_dir)"))?;
        let size = info.number("KERNEL_IMAGE_SIZE").and_then(|size| u64::try_from(size).ok());
        Ok(Self {
            phys_base,
            image_size: size.unwrap_or(IMAGE_SIZE).min(IMAGE_START.wrapping_neg()),
            root: PhysicalAddress::new(
                root.get().wrapping_sub(IMAGE_START).wrapping_add(phys_base) & ADDRESS,
            ),
            levels: if info.number("pgtable_l5_enabled").unwrap_or(0) == 0 { 4 } else { 5 },
            address: ADDRESS & !info.number("sme_mask").unwrap_or(0).cast_unsigned(),
        })
    }

    /// What must be added to the offset of an address from 0xffffffff80000000 to get a physical address; wraps.
    pub fn phys_base(&self) -> u64 {
        self.phys_base
    }

    /// Levels of the page tables, 4 or 5.
    pub fn levels(&self) -> u32 {
        self.levels
    }

    /// Translates a virtual address; reads at most one entry of each level.
    pub fn translate(&self, memory: &impl OldMemory, address: VirtualAddress) -> Result<Mapping, Unmapped> {
        let offset = address.get().wrapping_sub(IMAGE_START);
        if offset < self.image_size {
            let physical = PhysicalAddress::new(offset.wrapping_add(self.phys_base) & !(1 << 63));
            return Ok(Mapping { physical, len: self.image_size - offset });
        }
        self.walk(memory, address).ok_or(Unmapped(address))
    }

    /// Copies from virtual memory, one translation for each page that is mapped as one.
    pub fn read(
        &self,
        memory: &impl OldMemory,
        address: VirtualAddress,
        into: &mut [u8],
    ) -> Result<(), Unmapped> {
        let (mut address, mut rest) = (address, into);
        while !rest.is_empty() {
            let mapping = self.translate(memory, address)?;
            let len = mapping.len.min(rest.len() as u64);
            let (now, later) = rest.split_at_mut(len as usize);
            memory.read(mapping.physical, now).map_err(|_| Unmapped(address))?;
            (address, rest) = (address.get().wrapping_add(len).into(), later);
        }
        Ok(())
    }

    /// Reads a little-endian 64-bit value from virtual memory.
    pub fn read_u64(&self, memory: &impl OldMemory, address: VirtualAddress) -> Result<u64, Unmapped> {
        let mut bytes = [0; 8];
        self.read(memory, address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn walk(&self, memory: &impl OldMemory, address: VirtualAddress) -> Option<Mapping> {
        let mut table = self.root;
        for level in (1..=self.levels).rev() {
            let size = span(level);
            let index = address.get() / size % 512;
            let entry = memory.read_u64(table.saturating_add(index * 8)).ok()?;
            match self.target(entry, level)? {
                Target::Memory(page) => {
                    let offset = address.get() % size;
                    return Some(Mapping { physical: page.start.saturating_add(offset), len: size - offset });
                }
                Target::Table { address, .. } => table = address,
            }
        }
        None
    }

    /// Where the top-level table is; it is a part of the kernel image.
    pub(crate) fn root(&self) -> PhysicalAddress {
        self.root
    }

    /// What an entry of a table at `level` leads to, if it is present.
    pub(crate) fn target(&self, entry: u64, level: u32) -> Option<Target> {
        let (address, size) = (PhysicalAddress::new(entry & self.address), span(level));
        let leaf = || Range::sized(address.align_down(size), size).map(Target::Memory);
        match entry {
            _ if entry & PRESENT == 0 => None,
            _ if is_leaf(entry, level) => leaf(),
            _ => Some(Target::Table { address, level: level - 1 }),
        }
    }

    /// First virtual address that entry `index` translates of a table at `level` that starts with `start`; those of the
    /// upper half of the top-level table are extended by ones.
    pub(crate) fn address_of_entry(&self, start: VirtualAddress, level: u32, index: usize) -> VirtualAddress {
        let unused = 64 - (PAGE_SHIFT + 9 * self.levels);
        let address = start.get() | (index as u64 * span(level));
        (address << unused).cast_signed().wrapping_shr(unused).cast_unsigned().into()
    }
}

/// Bytes that an entry of a table at `level` spans.
fn span(level: u32) -> u64 {
    PAGE_SIZE << (9 * (level - 1))
}

fn is_leaf(entry: u64, level: u32) -> bool {
    level == 1 || (level <= HIGHEST_LEAF && entry & LARGE != 0)
}
