//! Deliberate mistakes in the memory that is dumped: a wrong byte, and a page that takes for ever, or at which this kernel dies.

use core::cell::Cell;

use machine::{OldMemory, PAGE_SIZE, Pfn, PhysicalAddress, Table, Unreadable};
use vmcore::CoreHeader;

use super::{FLIP_BYTE, HANG, PAGE_FAULT, PANIC, chosen};
use crate::platform::memory::OldRam;

/// Pages that are read before one that takes for ever, or at which this kernel dies: more than the vital ones, fewer than a dump has.
const BEFORE_HANG: u32 = 20_000;

/// The dead kernel's memory, with one byte of its code changed.
pub(crate) struct DumpedMemory<'a> {
    old: &'a OldRam,
    code: Option<PhysicalAddress>,
    pages: Cell<u32>,
}

impl<'a> DumpedMemory<'a> {
    /// The memory as it goes into the dump.
    pub(crate) fn new(old: &'a OldRam, header: &CoreHeader) -> Self {
        /// Where Linux maps its image, code first.
        const IMAGE: u64 = 0xFFFF_FFFF_8000_0000;
        let image = header.segments().iter().find(|segment| segment.virtual_start >= IMAGE.into());
        let code = image.map(|segment| segment.physical.start).filter(|_| chosen(FLIP_BYTE));
        Self { old, code, pages: Cell::new(0) }
    }
}

impl OldMemory for DumpedMemory<'_> {
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable> {
        self.old.read(address, into)?;
        if let (true, Some(byte)) = (Some(address) == self.code, into.get_mut(0x123)) {
            *byte ^= 0x10;
        }
        Ok(())
    }

    fn read_table(&self, address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable> {
        self.old.read_table(address, into)
    }

    fn read_page(&self, pfn: u64, page: &mut [u8; PAGE_SIZE as usize]) -> Result<(), Unreadable> {
        self.pages.set(self.pages.get() + 1);
        if self.pages.get() > BEFORE_HANG {
            end();
        }
        self.read(Pfn::new(pfn).address(), page)
    }
}

/// Hangs or dies, if it is to.
fn end() {
    while chosen(HANG) {
        core::hint::spin_loop();
    }
    assert!(!chosen(PANIC), "a mistake on request");
    if chosen(PAGE_FAULT) {
        // SAFETY: it is not safe, and meant to fault: the first page is never mapped.
        unsafe { core::ptr::without_provenance::<u8>(8).read_volatile() };
    }
}
