//! The dead kernel's `struct page`, read in bulk.

use alloc::vec::Vec;

use machine::growth::filled;
use machine::{OldMemory, Pfn, PhysicalAddress, Position, Range, VirtualAddress};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::page::PageLayout;
use crate::sections::Sections;
use crate::{AddressSpace, Kernel, Mapping, OutOfMemory, Ram};

/// Page frames that are classified together: their `struct page` are in one page.
pub(crate) const GULP: u64 = 64;
/// Page frames whose `struct page` are read after a gap: two, because the first may be the head of a compound page. Reading
/// more would mostly copy descriptions of free memory in vain: the first page of a free block describes up to 1024 pages.
const FEW: u64 = 2;
/// Most page frames whose `struct page` are read at a time in a consecutive run, as in memory that is in use. For an
/// operating system, a request for a page takes as long as the copy.
const MOST: u64 = 8 * GULP;

/// The dead kernel's `struct page`, by page frame number.
#[derive(Debug)]
pub(crate) struct PageArray<'a, M> {
    memory: &'a M,
    space: &'a AddressSpace,
    sections: &'a Sections,
    pub(crate) layout: &'a PageLayout,
    /// The last section that was looked up, and the address of its array.
    section: Option<(u64, Option<VirtualAddress>)>,
    /// The last translation, and its virtual address: a large page holds the array of a whole section.
    mapping: (VirtualAddress, Mapping),
    buffer: Vec<CacheLine>,
    /// The page frames whose `struct page` are in `buffer`.
    buffered: Range<Pfn>,
}

/// A piece of a buffer. It is aligned to a cache line, because AMD's processors copy to other addresses four times as
/// slowly (by `rep movsb`, with which an operating system copies from a file).
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

impl<'a, M: OldMemory> PageArray<'a, M> {
    /// `None` if the kernel's description does not suffice.
    pub(crate) fn new(memory: &'a M, kernel: &'a Kernel) -> Result<Option<Self>, OutOfMemory> {
        let (Ok(space), Ok(sections), Ok(layout)) = (kernel.address_space(), &kernel.sections, &kernel.page)
        else {
            return Ok(None);
        };
        let lines = (MOST as usize * layout.size).div_ceil(size_of::<CacheLine>());
        let buffer = filled(CacheLine([0; 64]), lines)?;
        Ok(Some(Self {
            memory,
            space,
            sections,
            layout,
            section: None,
            mapping: NOWHERE,
            buffer,
            buffered: Range::default(),
        }))
    }

    /// Reads the `struct page` of the first of these page frames, which lie in one gulp; returns how many page frames are
    /// covered. If the last one is even, the next one is included: the even one may be the head of a compound page, whose
    /// first tail says more.
    pub(crate) fn read(&mut self, frames: Range<Pfn>) -> Option<(&'a PageLayout, Range<Pfn>, &[u8])> {
        if !self.buffered.contains(frames.start) {
            self.load(frames.start)?;
        }
        let frames = Range::new(frames.start, frames.end.min(self.buffered.end));
        let at = |pfn: Pfn| pfn.count_since(self.buffered.start) as usize * self.layout.size;
        // All that is buffered ends with an odd page frame.
        let end = frames.end.saturating_add(1).align_down(2);
        let pages = self.buffer.as_bytes().get(at(frames.start)..at(end))?;
        Some((self.layout, frames, pages))
    }

    /// Copies the `struct page` of page frames from `start` on. Copies more each time, as long as the reads are
    /// consecutive.
    fn load(&mut self, start: Pfn) -> Option<()> {
        let next = self.buffered.end == start;
        let ahead = if next { (2 * self.buffered.len()).clamp(GULP, MOST) } else { FEW };
        let few = Range::new(start, start.align_down(FEW).checked_add(FEW)?);
        let section_end = self.sections.end(self.sections.of(start));
        let end = start.saturating_add(ahead).min(section_end).align_down(FEW);
        let more = Range::new(start, end.max(few.end));
        self.buffered = Range::default();
        self.buffered = if self.copy(more).is_some() { more } else { self.copy(few).map(|()| few)? };
        Some(())
    }

    /// Copies the `struct page` of page frames of one section to the start of the buffer.
    fn copy(&mut self, frames: Range<Pfn>) -> Option<()> {
        let array = self.array(self.sections.of(frames.start))?;
        let size = self.layout.size as u64;
        let address = page_at(array, frames.start, size)?;
        let len = frames.len() * size;
        let physical = self.physical(address, len);
        let into = self.buffer.as_mut_bytes().get_mut(..len as usize)?;
        match physical {
            Some(physical) => self.memory.read(physical, into).ok(),
            None => self.space.read(self.memory, address, into).ok(),
        }
    }

    /// Virtual addresses of the `struct page` of all RAM, if the arrays of all sections are parts of one.
    pub(crate) fn place(&mut self, ram: &Ram) -> Option<Range<VirtualAddress>> {
        let size = self.layout.size as u64;
        let (first, end) = (Pfn::new(ram.next(0)?), Pfn::new(ram.end_pfn()));
        let start = self.array(self.sections.of(first))?;
        let last = self.array(self.sections.of(Pfn::new(ram.end_pfn() - 1)))?;
        let place = Range::new(page_at(start, first, size)?, page_at(start, end, size)?);
        (start == last).then_some(place)
    }

    /// Where `len` bytes of virtual memory are, if they are in one piece.
    fn physical(&mut self, address: VirtualAddress, len: u64) -> Option<PhysicalAddress> {
        if translated(self.mapping, address, len).is_none() {
            self.mapping = (address, self.space.translate(self.memory, address).ok()?);
        }
        translated(self.mapping, address, len)
    }

    fn array(&mut self, section: u64) -> Option<VirtualAddress> {
        match self.section {
            Some((known, array)) if known == section => array,
            _ => {
                let array = self.sections.array(self.space, self.memory, section);
                self.section = Some((section, array));
                array
            }
        }
    }
}

/// A translation of nothing.
const NOWHERE: (VirtualAddress, Mapping) =
    (VirtualAddress::new(0), Mapping { physical: PhysicalAddress::new(0), len: 0 });

/// Where `len` bytes from `address` are, if all lie in what was translated from `start` on.
fn translated(
    (start, mapping): (VirtualAddress, Mapping),
    address: VirtualAddress,
    len: u64,
) -> Option<PhysicalAddress> {
    let offset = address.get().checked_sub(start.get())?;
    (offset.checked_add(len)? <= mapping.len).then(|| mapping.physical.saturating_add(offset))
}

/// Where the `struct page`, of `size` bytes, of a page frame is in an array whose first one is page frame 0's.
fn page_at(array: VirtualAddress, pfn: Pfn, size: u64) -> Option<VirtualAddress> {
    array.checked_add(pfn.get().checked_mul(size)?)
}
