//! A dead machine of any size, whose memory is computed when it is read.
//!
//! Linux 6.1 with four levels of tables. Of 64 blocks of 4 MiB, one is page cache in single pages, eight are huge
//! pages of processes, and the others are free; one block in 1024 is the kernel's. Page tables, the table of sections
//! and the array of `struct page` are where VMCOREINFO says, so the engine cannot tell this memory from real memory.

use machine::{OldMemory, PAGE_SIZE, PhysicalAddress, Range, Table, Unreadable};

const DIRECT: u64 = 0xffff_8880_0000_0000;
const VMEMMAP: u64 = 0xffff_ea00_0000_0000;
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
const PAGE: u64 = 64;
const SECTION: u64 = 128 << 20;
/// Entries of 16 bytes in a page of the table of sections.
const SECTIONS_IN_PAGE: u64 = PAGE_SIZE / 16;

// Physical addresses of tables.
const TOP: u64 = 0x1000;
const DIRECT_TABLES: u64 = 0x10_000;
const VMEMMAP_TABLE: u64 = 0x4000;
const SECTION_ROOTS: u64 = 0x5000;
const VMALLOC_TABLES: [u64; 3] = [0x6000, 0x7000, 0x8000];
const VMEMMAP_TABLES: u64 = 0x10_0000;
const SECTION_PAGES: u64 = 0x20_0000;
/// The kernel's image and early memory end here.
const EARLY: u64 = 0x100_0000;
/// Where the array of `struct page` is.
const ARRAY: u64 = 0x4000_0000;

const FREE_ORDER: u64 = 10;
const BLOCK: u64 = 1 << FREE_ORDER;

/// Such a machine.
pub(crate) struct Machine {
    /// Page frames, all of them RAM: a multiple of a GiB's.
    pub(crate) frames: u64,
    pub(crate) array: Array,
}

/// Whether the array of `struct page` belongs in a dump. It always does, but 16 GiB of it take their time.
#[allow(dead_code, reason = "the test leaves it out, the benchmark keeps it")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Array {
    Kept,
    LeftOut,
}

/// What a page frame is used for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Reserved,
    Slab,
    Cache,
    Anonymous,
    Free,
}

impl Machine {
    /// How many pages are to be kept at level 31.
    pub(crate) fn kept(&self) -> u64 {
        let blocks = (0..self.frames / BLOCK).map(|block| block * BLOCK);
        let kept = blocks.filter(|pfn| matches!(self.use_of(*pfn), Use::Reserved | Use::Slab));
        kept.count() as u64 * BLOCK
    }

    fn array_frames(&self) -> Range<u64> {
        Range::new(ARRAY / PAGE_SIZE, (ARRAY + self.frames * PAGE) / PAGE_SIZE)
    }

    fn use_of(&self, pfn: u64) -> Use {
        match (pfn / BLOCK, self.array) {
            _ if pfn < EARLY / PAGE_SIZE => Use::Reserved,
            (_, Array::Kept) if self.array_frames().contains(pfn) => Use::Reserved,
            (_, Array::LeftOut) if self.array_frames().contains(pfn) => Use::Free,
            (block, _) if block % 1024 == 1023 => Use::Slab,
            (block, _) if block % 64 == 1 => Use::Cache,
            (block, _) if block % 8 == 2 => Use::Anonymous,
            _ => Use::Free,
        }
    }

    /// `struct page`, with the fields where 6.1 has them.
    fn page(&self, pfn: u64) -> [u64; 8] {
        let in_block = pfn % BLOCK;
        let words = |flags, compound_head, mapping, private, mapcount: u32| {
            [flags, compound_head, 0, mapping, 0, private, mapcount.into(), 0]
        };
        match self.use_of(pfn) {
            Use::Reserved => words(1 << 12, 0, 0, 0, u32::MAX),
            Use::Slab => words(1 << 9, 0, 0, 0, u32::MAX),
            Use::Cache => words(1 << 4, 0, 0x8000, 0, 0),
            Use::Anonymous if in_block.is_multiple_of(512) => {
                words(1 << 16 | 1 << 4 | 1 << 19, 0, 0x8001, 0, u32::MAX)
            }
            // The first tail: destructor in byte 16, order in byte 17.
            Use::Anonymous if in_block % 512 == 1 => [0, 1, 9 << 8, 0, 0, 0, u32::MAX.into(), 0],
            Use::Anonymous => words(0, 1, 0, 0, u32::MAX),
            Use::Free if in_block == 0 => words(0, 0, 0, FREE_ORDER, (-129i32).cast_unsigned()),
            Use::Free => words(0, 0, 0, 0, u32::MAX),
        }
    }

    /// Entry `index` of the table, or word of the page, at a page's physical address.
    fn word(&self, page: u64, index: u64) -> u64 {
        let present = |exists: bool, entry: u64| if exists { entry | PRESENT } else { 0 };
        let gibibytes = self.frames >> 18;
        let array_pages = (self.frames * PAGE).div_ceil(2 << 20);
        match page {
            TOP => match index {
                273..=288 => present((index - 273) << 9 < gibibytes, DIRECT_TABLES + ((index - 273) << 12)),
                402 => VMALLOC_TABLES[0] | PRESENT,
                468 => VMEMMAP_TABLE | PRESENT,
                _ => 0,
            },
            DIRECT_TABLES..0x2_0000 => {
                let gibibyte = (page - DIRECT_TABLES) / 8 + index;
                present(gibibyte < gibibytes, gibibyte << 30 | LARGE)
            }
            VMEMMAP_TABLE => present(index << 9 < array_pages, VMEMMAP_TABLES + (index << 12)),
            VMEMMAP_TABLES..SECTION_PAGES => {
                let number = (page - VMEMMAP_TABLES) / 8 + index;
                present(number < array_pages, (ARRAY + (number << 21)) | LARGE)
            }
            SECTION_ROOTS => {
                let exists = index * SECTIONS_IN_PAGE * (SECTION / PAGE_SIZE) < self.frames;
                if exists { DIRECT + SECTION_PAGES + (index << 12) } else { 0 }
            }
            SECTION_PAGES..EARLY => {
                if index.is_multiple_of(2) {
                    VMEMMAP | 0xf
                } else {
                    0
                }
            }
            _ if page == VMALLOC_TABLES[0] || page == VMALLOC_TABLES[1] => {
                present(index == 0, page + PAGE_SIZE)
            }
            // What is mapped here is spread over all of memory.
            _ if page == VMALLOC_TABLES[2] => (self.stack(index) * PAGE_SIZE) | PRESENT,
            _ => page ^ index,
        }
    }

    /// A page frame of the kernel's own.
    fn stack(&self, number: u64) -> u64 {
        let groups = self.frames / (1024 * BLOCK);
        number % groups * 1024 * BLOCK + 1023 * BLOCK + number
    }

    /// What one page holds from `offset` on.
    fn copy(&self, page: u64, offset: usize, into: &mut [u8]) {
        let mut content = [0; PAGE_SIZE as usize];
        let array = Range::new(ARRAY, ARRAY + self.frames * PAGE);
        if array.contains(page) {
            let first = (page - ARRAY) / PAGE;
            for (pfn, described) in (first..).zip(content.as_chunks_mut::<64>().0) {
                described.copy_from_slice(self.page(pfn).map(u64::to_le_bytes).as_flattened());
            }
        } else {
            for (index, word) in (0..).zip(content.as_chunks_mut().0) {
                *word = self.word(page, index).to_le_bytes();
            }
        }
        into.copy_from_slice(&content[offset..][..into.len()]);
    }
}

impl OldMemory for Machine {
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
        let unreadable = Unreadable { address, len: into.len() as u64 };
        let all = Range::sized(address, into.len() as u64).ok_or(unreadable)?;
        if all.end.get() > self.frames * PAGE_SIZE {
            return Err(unreadable);
        }
        let (mut at, mut rest) = (address.get(), into);
        while !rest.is_empty() {
            let offset = (at % PAGE_SIZE) as usize;
            let (now, later) = rest.split_at_mut(rest.len().min(PAGE_SIZE as usize - offset));
            self.copy(at - offset as u64, offset, now);
            (at, rest) = (at + now.len() as u64, later);
        }
        Ok(())
    }

    fn read_table(&self, address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable> {
        for (index, entry) in (0..).zip(into) {
            *entry = self.word(address.get(), index);
        }
        Ok(())
    }
}
