//! The two kinds of memory: the dead kernel's memory, which is only read, and the capture kernel's own page frames,
//! which hardware reads too.

use crate::{Pfn, PhysicalAddress, Range};

/// Bytes in a page frame.
pub const PAGE_SIZE: u64 = 4096;
/// Binary logarithm of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// 64-bit entries in a table of one page frame.
pub const ENTRIES: usize = 512;

/// The content of one page frame as hardware tables see it.
pub type Table = [u64; ENTRIES];

/// The bytes are not wholly in the old kernel's RAM, or reading them faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len:#x} bytes at {address:#x} are not in the old kernel's memory")]
pub struct Unreadable {
    /// The address of the requested bytes.
    pub address: PhysicalAddress,
    /// How many bytes.
    pub len: u64,
}

/// Devices kept changing the bytes, so that nothing could be stored there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("devices keep changing the memory at {0:#x}")]
pub struct Contended(pub PhysicalAddress);

/// Why there is no copy of a page frame of old memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The budget is used up.
    #[error("no frames are left")]
    OutOfFrames,
    /// The page frame cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// The dead kernel's memory, by physical address. It can be read, it cannot be written, and its content is untrusted. (What hardware
/// must go on using where it is, [`Frames::reuse`] takes over.)
///
/// Devices may still be writing to it, so two reads of the same bytes may differ: copy first, then check the copy.
pub trait OldMemory {
    /// Copies memory from `address` into `into`; `into` is unspecified after an error.
    fn read(&self, address: PhysicalAddress, into: &mut [u8]) -> Result<(), Unreadable>;

    /// Copies a page frame of 64-bit entries; every word of `into` is written unless this fails.
    fn read_table(&self, address: PhysicalAddress, into: &mut Table) -> Result<(), Unreadable> {
        let mut bytes = [[0; 8]; ENTRIES];
        self.read(address, bytes.as_flattened_mut())?;
        *into = bytes.map(u64::from_le_bytes);
        Ok(())
    }

    /// Copies the page frame `pfn` as a dump stores it. If only a part of the frame is RAM and the memory knows this, the
    /// rest is zeros.
    fn read_page(&self, pfn: u64, page: &mut [u8; PAGE_SIZE as usize]) -> Result<(), Unreadable> {
        self.read(Pfn::new(pfn).address(), page)
    }

    /// Clears the bits of page frames that were omitted on purpose when this memory was saved, because these are not
    /// missing. Bit `n`, the least significant of a byte first, is that of page frame `first_pfn + n`; `first_pfn` is a
    /// multiple of 8.
    fn keep_saved(&self, _first_pfn: u64, _bits: &mut [u8]) {}

    /// Reads a little-endian 64-bit value.
    fn read_u64(&self, address: PhysicalAddress) -> Result<u64, Unreadable> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// The capture kernel's own page frames, in which a remapping unit finds its tables.
///
/// Frames are named by their physical address. Before hardware uses a table, [`table_mut`](Self::table_mut) fills it;
/// from then on [`store`](Self::store) changes it one entry at a time. Either way [`publish`](Self::publish) must follow
/// before the hardware may be expected to see it: units whose page walks are not coherent (ECAP.C = 0) read past the
/// processor's caches.
pub trait Frames {
    /// Hands out a zeroed frame, or `None` when the budget is used up.
    fn allocate(&mut self) -> Option<PhysicalAddress>;

    /// Hands out a frame that holds a copy of the old page frame at `address`.
    ///
    /// This is the only way to get a frame that was not zeroed. Its former content is never visible:
    /// [`OldMemory::read_table`] writes all of it or fails, and if it fails, nobody gets the frame.
    fn allocate_copy(
        &mut self,
        old: &impl OldMemory,
        address: PhysicalAddress,
    ) -> Result<PhysicalAddress, CopyError> {
        let frame = self.allocate().ok_or(CopyError::OutOfFrames)?;
        match old.read_table(address, self.table_mut(frame)) {
            Ok(()) => Ok(frame),
            Err(unreadable) => {
                self.release(frame);
                Err(unreadable.into())
            }
        }
    }

    /// Hands out `count` contiguous zeroed frames, and returns the first. Returns `None` if there is no such run, even if
    /// enough single frames are free. Each frame is like any other, and is released by itself.
    fn allocate_run(&mut self, count: usize) -> Option<PhysicalAddress>;

    /// The same, all of it below `limit`. By default there are no such frames but by chance.
    fn allocate_run_below(&mut self, _count: usize, _limit: PhysicalAddress) -> Option<PhysicalAddress> {
        None
    }

    /// Takes back a frame that no hardware uses any more.
    fn release(&mut self, frame: PhysicalAddress);

    /// How many more frames [`allocate`](Self::allocate) can hand out.
    fn available(&self) -> usize;

    /// Reads a frame that [`allocate`](Self::allocate) handed out.
    fn table(&self, frame: PhysicalAddress) -> &Table;

    /// Fills a frame that [`allocate`](Self::allocate) handed out and that no hardware uses yet.
    fn table_mut(&mut self, frame: PhysicalAddress) -> &mut Table;

    /// Loads one entry, in a single access, from a frame that hardware may be writing (the status of an invalidation wait).
    /// Each call returns what is in memory at that time.
    fn load(&self, frame: PhysicalAddress, index: usize) -> u64 {
        core::hint::black_box(self.table(frame))[index]
    }

    /// Stores one entry, in a single access, to a frame that hardware may be walking.
    fn store(&mut self, frame: PhysicalAddress, index: usize, entry: u64);

    /// Takes tables or buffers of the old kernel into use where they are, because hardware cannot be given others: from then on
    /// [`load`](Self::load) reads them, page by page, and [`store_pair`](Self::store_pair) writes them. `memory` consists of whole
    /// pages.
    ///
    /// This is the one way to write the old kernel's memory. Fails if some of `memory` cannot be read. Nobody can, unless this is
    /// overridden: then nothing is ever used where it is.
    fn reuse(&mut self, _old: &impl OldMemory, memory: Range<PhysicalAddress>) -> Result<(), Unreadable> {
        Err(Unreadable { address: memory.start, len: memory.len() })
    }

    /// Stores two words to memory that [`reuse`](Self::reuse) took, in a single access: hardware sees both or neither. `address`
    /// is a multiple of 16. What hardware does after a later store, it does with these words.
    ///
    /// Devices may write there too. Fails, without having stored anything, if they change these bytes again and again meanwhile. There
    /// is no such memory, unless this is overridden.
    fn store_pair(&mut self, address: PhysicalAddress, _words: [u64; 2]) -> Result<(), Contended> {
        Err(Contended(address))
    }

    /// Writes the processor's cached copy of `entries` of this frame back to memory and orders it before later stores.
    fn publish(&mut self, frame: PhysicalAddress, entries: core::ops::Range<usize>);
}
