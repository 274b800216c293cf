//! A dead machine made by hand: its memory, and on it a kernel with page tables, sections and `struct page`.

#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;

use machine::{OldMemory, PAGE_SIZE, Range, Table, Unreadable};

/// Memory that holds what was written and zeroes elsewhere, below `size`.
pub(crate) struct Memory {
    size: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE_SIZE as usize]>>,
    holes: Vec<Range>,
}

impl Memory {
    pub(crate) fn new(size: u64) -> Self {
        Self { size, pages: BTreeMap::new(), holes: Vec::new() }
    }

    /// Makes a range fail when it is read.
    pub(crate) fn punch(&mut self, hole: Range) {
        self.holes.push(hole);
    }

    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) {
        let start = (address % PAGE_SIZE) as usize;
        let (now, later) = bytes.split_at(bytes.len().min(PAGE_SIZE as usize - start));
        let page = self.pages.entry(address / PAGE_SIZE).or_insert_with(|| Box::new([0; PAGE_SIZE as usize]));
        page[start..start + now.len()].copy_from_slice(now);
        if !later.is_empty() {
            self.write(address + now.len() as u64, later);
        }
    }

    pub(crate) fn write_u64(&mut self, address: u64, value: u64) {
        self.write(address, &value.to_le_bytes());
    }

    /// Copies from one page.
    fn copy(&self, address: u64, into: &mut [u8]) {
        let start = (address % PAGE_SIZE) as usize;
        match self.pages.get(&(address / PAGE_SIZE)) {
            Some(page) => into.copy_from_slice(&page[start..start + into.len()]),
            None => into.fill(0),
        }
    }
}

impl OldMemory for Memory {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        let len = into.len() as u64;
        let range = Range::sized(address, len).filter(|range| range.end <= self.size);
        let readable = range.filter(|range| !self.holes.iter().any(|hole| hole.overlaps(*range)));
        readable.ok_or(Unreadable { address, len })?;
        let (first, rest) = into.split_at_mut(into.len().min((PAGE_SIZE - address % PAGE_SIZE) as usize));
        self.copy(address, first);
        let next_page = address + first.len() as u64;
        for (page, part) in (next_page..).step_by(PAGE_SIZE as usize).zip(rest.chunks_mut(PAGE_SIZE as usize))
        {
            self.copy(page, part);
        }
        Ok(())
    }

    fn read_table(&self, address: u64, into: &mut Table) -> Result<(), Unreadable> {
        for (address, entry) in (address..).step_by(8).zip(into) {
            *entry = self.read_u64(address)?;
        }
        Ok(())
    }
}

/// Lines of VMCOREINFO of the machine below that all kernels have, as 6.1 gives them.
pub(crate) const COMMON: &str = "\
OSRELEASE=6.1.0-56-amd64
PAGESIZE=4096
SYMBOL(init_uts_ns)=ffffffff80008000
OFFSET(uts_namespace.name)=0
SYMBOL(swapper_pg_dir)=ffffffff80001000
SYMBOL(mem_section)=ffff888000005000
LENGTH(mem_section)=2048
SIZE(mem_section)=16
OFFSET(mem_section.section_mem_map)=0
NUMBER(SECTION_SIZE_BITS)=27
SIZE(page)=64
OFFSET(page.flags)=0
OFFSET(page._refcount)=52
OFFSET(page.mapping)=24
OFFSET(page._mapcount)=48
OFFSET(page.private)=40
LENGTH(zone.free_area)=11
NUMBER(PG_lru)=4
NUMBER(PG_private)=13
NUMBER(PG_swapcache)=10
NUMBER(PG_swapbacked)=19
NUMBER(PG_hwpoison)=22
NUMBER(PG_head_mask)=65536
NUMBER(phys_base)=0
SYMBOL(init_top_pgt)=ffffffff80001000
NUMBER(pgtable_l5_enabled)=0
KERNELOFFSET=6c00000
NUMBER(KERNEL_IMAGE_SIZE)=1073741824
NUMBER(sme_mask)=0
";

/// How 5.10 to 6.2 mark types of pages.
pub(crate) const UP_TO_6_2: &str = "\
OFFSET(page.compound_head)=8
OFFSET(page.compound_dtor)=16
OFFSET(page.compound_order)=17
NUMBER(PG_slab)=9
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129
NUMBER(HUGETLB_PAGE_DTOR)=2
NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257
";

/// 6.3 to 6.5: order and destructor are fields of `struct folio`, in the second `struct page` of it.
pub(crate) const UP_TO_6_5: &str = "\
OFFSET(page.compound_head)=8
OFFSET(folio._folio_dtor)=80
OFFSET(folio._folio_order)=81
NUMBER(PG_slab)=9
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129
NUMBER(HUGETLB_PAGE_DTOR)=2
NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257
";

/// 6.6 to 6.8: order and hugetlb mark are in the first tail's flags.
pub(crate) const UP_TO_6_8: &str = "\
OFFSET(page.compound_head)=8
NUMBER(PG_slab)=9
NUMBER(PG_hugetlb)=8
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129
NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257
";

/// 6.10 and 6.11: slab and hugetlb are types, a cleared bit of `_mapcount` each.
pub(crate) const UP_TO_6_11: &str = "\
OFFSET(page.compound_head)=8
NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-4097
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129
NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-2049
NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257
";

/// 7.1: types are the top byte of `_mapcount` (since 6.12), and `compound_head` has a new name.
pub(crate) const SINCE_7_1: &str = "\
OFFSET(page.compound_info)=8
NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-184549376
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456
NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-201326592
NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-251658240
NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)=-150994944
";

pub(crate) const LRU: u64 = 1 << 4;
pub(crate) const SLAB: u64 = 1 << 9;
pub(crate) const SWAP_CACHE: u64 = 1 << 10;
pub(crate) const PRIVATE: u64 = 1 << 13;
pub(crate) const HEAD: u64 = 1 << 16;
pub(crate) const SWAP_BACKED: u64 = 1 << 19;
pub(crate) const POISONED: u64 = 1 << 22;

/// The fields of a `struct page` that matter; an ordinary page in use to start with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) flags: u64,
    pub(crate) compound_head: u64,
    pub(crate) mapping: u64,
    pub(crate) private: u64,
    pub(crate) mapcount: i32,
    /// `compound_order`, where kernels up to 6.2 have it in the first tail.
    pub(crate) order: u8,
}

pub(crate) const IN_USE: Page =
    Page { flags: 0, compound_head: 0, mapping: 0, private: 0, mapcount: -1, order: 0 };
pub(crate) const TAIL: Page = Page { compound_head: 1, ..IN_USE };

impl Page {
    pub(crate) fn bytes(self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(&self.flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.compound_head.to_le_bytes());
        bytes[17] = self.order;
        bytes[24..32].copy_from_slice(&self.mapping.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.private.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.mapcount.to_le_bytes());
        bytes
    }
}

/// Where the arrays of `struct page` are in physical memory, and in virtual.
pub(crate) const ARRAYS: u64 = 0x40_0000;
const VMEMMAP: u64 = 0xffff_ea00_0000_0000;
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
const SECTION_BYTES: u64 = 128 << 20;

/// Memory of a kernel with 4-level paging: RAM up to `sections` times 128 MiB, described by `struct page` in full.
pub(crate) fn machine(sections: u64) -> Memory {
    let mut memory = Memory::new(sections * SECTION_BYTES);
    // The top-level table is at 0x1000; its entry 273 maps the first GiB at 0xffff888000000000, 468 the vmemmap.
    memory.write_u64(0x1000 + 273 * 8, 0x2000 | PRESENT);
    memory.write_u64(0x2000, PRESENT | LARGE);
    memory.write_u64(0x1000 + 468 * 8, 0x3000 | PRESENT);
    memory.write_u64(0x3000, 0x4000 | PRESENT);
    memory.write_u64(0x5000, 0xffff_8880_0000_6000);
    for section in 0..sections {
        memory.write_u64(0x4000 + section * 8, (ARRAYS + (section << 21)) | PRESENT | LARGE);
        memory.write_u64(0x6000 + section * 16, VMEMMAP | 0xf);
    }
    memory.write(0x8000, b"Linux");
    memory.write(0x8000 + 2 * 65, b"6.1.0-56-amd64");
    memory
}

/// Writes the `struct page` of page frames from `pfn` on.
pub(crate) fn describe(memory: &mut Memory, pfn: u64, pages: &[Page]) {
    for (pfn, page) in (pfn..).zip(pages) {
        memory.write(ARRAYS + pfn * 64, &page.bytes());
    }
}
