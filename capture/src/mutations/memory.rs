//! A deliberate mistake in the memory that is dumped.

use machine::{OldMemory, PhysicalAddress, Table, Unreadable};
use vmcore::CoreHeader;

use super::{FLIP_BYTE, chosen};
use crate::platform::memory::OldRam;

/// The dead kernel's memory, with one byte of its code changed.
pub(crate) struct DumpedMemory<'a> {
    old: &'a OldRam,
    code: Option<PhysicalAddress>,
}

impl<'a> DumpedMemory<'a> {
    /// The memory as it goes into the dump.
    pub(crate) fn new(old: &'a OldRam, header: &CoreHeader) -> Self {
        /// Where Linux maps its image, code first.
        const IMAGE: u64 = 0xFFFF_FFFF_8000_0000;
        let image = header.segments().iter().find(|segment| segment.virtual_start >= IMAGE.into());
        Self { old, code: image.map(|segment| segment.physical.start).filter(|_| chosen(FLIP_BYTE)) }
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
}
