//! Physical memory as the remapping hardware sees it.
//!
//! Stores that the capture kernel has not published are not in here: they are in the processor's caches, which
//! [`OwnFrames`](crate::OwnFrames) models. On a platform whose write buffer needs flushing (CAP.RWBF, 6.8), published
//! stores wait here until the buffer is drained.

use crate::vtd::vast::Vast;
use machine::{ENTRIES, PAGE_SHIFT, PAGE_SIZE, PhysicalAddress, Range, Table};
use std::collections::{BTreeMap, HashMap};

/// The kind of a range of physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// RAM of the kernel that died.
    Old,
    /// RAM of the capture kernel.
    Capture,
    /// Registers of devices: hardware cannot read a table from there.
    Mmio,
}

/// Physical memory: sparse pages of 64-bit words over ranges of some [`MemoryKind`]; all else is a hole.
#[derive(Clone, Debug)]
pub struct Memory {
    ranges: Vec<(Range<PhysicalAddress>, MemoryKind)>,
    pages: HashMap<u64, Box<Table>>,
    /// Tables that are computed and not stored.
    vast: Option<Vast>,
    buffer: WriteBuffer,
    /// Stores by units that the processor's caches have not yet taken up.
    unit_stores: Vec<(PhysicalAddress, u64)>,
    changes: u64,
}

/// Stores between the processor and memory.
#[derive(Clone, Debug)]
enum WriteBuffer {
    Absent,
    Holding(BTreeMap<PhysicalAddress, u64>),
}

impl Memory {
    /// Zeroed memory over `ranges`, which do not overlap.
    pub fn new(ranges: Vec<(Range<PhysicalAddress>, MemoryKind)>) -> Self {
        Self {
            ranges,
            pages: HashMap::new(),
            vast: None,
            buffer: WriteBuffer::Absent,
            unit_stores: Vec::new(),
            changes: 0,
        }
    }

    /// Puts a write buffer between the processor and this memory.
    pub fn with_write_buffer(self) -> Self {
        Self { buffer: WriteBuffer::Holding(BTreeMap::new()), ..self }
    }

    /// Adds tables to this memory that are computed on reads.
    pub(crate) fn with_vast(self, vast: Vast) -> Self {
        Self { vast: Some(vast), ..self }
    }

    /// Whether the content at `address` is computed.
    pub(crate) fn is_vast(&self, address: PhysicalAddress) -> bool {
        self.vast.is_some_and(|vast| Range::new(vast.tables, vast.end()).contains(address))
    }

    /// What is at `address`; `None` for a hole.
    pub fn kind(&self, address: PhysicalAddress) -> Option<MemoryKind> {
        self.ranges.iter().find(|(range, _)| range.contains(address)).map(|(_, kind)| *kind)
    }

    /// The ranges of one kind.
    pub fn ranges(&self, kind: MemoryKind) -> impl Iterator<Item = Range<PhysicalAddress>> + '_ {
        self.ranges.iter().filter(move |(_, k)| *k == kind).map(|(range, _)| *range)
    }

    /// Whether every byte of `range` is of this kind.
    pub fn is(&self, range: Range<PhysicalAddress>, kind: MemoryKind) -> bool {
        self.ranges(kind).any(|whole| whole.covers(range))
    }

    /// The aligned word at `address` as hardware sees it; `None` where there is no RAM.
    pub fn read(&self, address: PhysicalAddress) -> Option<u64> {
        match self.kind(address)? {
            MemoryKind::Mmio => None,
            MemoryKind::Old | MemoryKind::Capture => {
                let stored = self.pages.get(&frame(address)).map(|page| page[index(address)]);
                Some(stored.or_else(|| self.vast?.word(address)).unwrap_or(0))
            }
        }
    }

    /// Copies bytes that may start and end anywhere in RAM; `None` if they leave it.
    pub fn read_bytes(&self, address: PhysicalAddress, into: &mut [u8]) -> Option<()> {
        for (at, byte) in (address.get()..).zip(into) {
            *byte = self.read(PhysicalAddress::new(at & !7))?.to_le_bytes()[(at % 8) as usize];
        }
        Some(())
    }

    /// Copies the page frame at `address`.
    pub fn page(&self, address: PhysicalAddress) -> Table {
        match self.pages.get(&frame(address)) {
            Some(page) => **page,
            None => self.vast.and_then(|vast| vast.table(address)).unwrap_or([0; ENTRIES]),
        }
    }

    /// Stores a whole page frame of RAM at once.
    pub(crate) fn write_page(&mut self, address: PhysicalAddress, content: impl FnMut(usize) -> u64) {
        self.pages.insert(frame(address), Box::new(std::array::from_fn(content)));
        self.changes += 1;
    }

    /// Stores an aligned word at once. Stores outside RAM are lost, as on a bus.
    pub fn write(&mut self, address: PhysicalAddress, value: u64) {
        if matches!(self.kind(address), Some(MemoryKind::Old | MemoryKind::Capture)) {
            let vast = self.vast;
            let unstored =
                || vast.and_then(|vast| vast.table(address.align_down(PAGE_SIZE))).unwrap_or([0; ENTRIES]);
            let page = self.pages.entry(frame(address)).or_insert_with(|| Box::new(unstored()));
            let word = &mut page[index(address)];
            self.changes += u64::from(*word != value);
            *word = value;
        }
    }

    /// Overwrites words of old memory; others stay as they are.
    pub(crate) fn overwrite_old(&mut self, words: &[(PhysicalAddress, u64)]) {
        for &(address, word) in words {
            if self.kind(address) == Some(MemoryKind::Old) {
                self.write(address.align_down(8), word);
            }
        }
    }

    /// Stores half a word on behalf of a unit; units snoop, so processors see it too.
    pub(crate) fn write32_by_unit(&mut self, address: PhysicalAddress, value: u32) {
        let (aligned, shift) = (address.align_down(8), (address.get() & 4) * 8);
        let word = self.read(aligned).unwrap_or(0) & !(0xFFFF_FFFF << shift) | u64::from(value) << shift;
        self.write_by_unit(aligned, word);
    }

    /// Stores a word on behalf of a unit.
    pub(crate) fn write_by_unit(&mut self, address: PhysicalAddress, word: u64) {
        self.write(address, word);
        self.unit_stores.push((address, word));
    }

    /// The stores by units since the last call.
    pub(crate) fn take_unit_stores(&mut self) -> Vec<(PhysicalAddress, u64)> {
        std::mem::take(&mut self.unit_stores)
    }

    /// How many stores changed something so far.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Stores an aligned word that a processor wrote back: it arrives now, or when the write buffer is drained.
    pub fn post(&mut self, address: PhysicalAddress, value: u64) {
        match &mut self.buffer {
            WriteBuffer::Absent => self.write(address, value),
            WriteBuffer::Holding(posted) => {
                posted.insert(address, value);
            }
        }
    }

    /// Lets all stores in the write buffer arrive.
    pub fn drain(&mut self) {
        if let WriteBuffer::Holding(posted) = &mut self.buffer {
            for (address, value) in std::mem::take(posted) {
                self.write(address, value);
            }
        }
    }

    /// The pages of the old kernel that differ between `self` and `other`, by address, ascending.
    pub fn old_pages_changed(&self, other: &Self) -> Vec<PhysicalAddress> {
        let frames = self
            .pages
            .keys()
            .chain(other.pages.keys())
            .map(|frame| PhysicalAddress::new(frame << PAGE_SHIFT));
        let differs = |address: &PhysicalAddress| {
            self.kind(*address) == Some(MemoryKind::Old) && self.page(*address) != other.page(*address)
        };
        let mut changed: Vec<PhysicalAddress> = frames.filter(differs).collect();
        changed.sort_unstable();
        changed.dedup();
        changed
    }
}

/// Index of the word at `address` within its page.
fn index(address: PhysicalAddress) -> usize {
    (address.get() >> 3) as usize % ENTRIES
}

/// The number of the page frame that `address` lies in.
fn frame(address: PhysicalAddress) -> u64 {
    address.get() >> PAGE_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory::new(vec![
            (Range::from(0..0x8000), MemoryKind::Old),
            (Range::from(0x8000..0xA000), MemoryKind::Capture),
            (Range::from(0x10000..0x11000), MemoryKind::Mmio),
        ])
    }

    #[test]
    fn there_is_nothing_to_read_in_holes_and_registers() {
        let mut memory = memory();
        memory.write(0x10000.into(), 7);
        memory.write(0xF000.into(), 7);
        assert_eq!(
            (memory.read(0x10000.into()), memory.read(0xF000.into()), memory.read(0x8000.into())),
            (None, None, Some(0))
        );
    }

    #[test]
    fn what_is_in_the_write_buffer_has_not_arrived() {
        let mut memory = memory().with_write_buffer();
        memory.post(0x8000.into(), 7);
        assert_eq!(memory.read(0x8000.into()), Some(0));
        memory.drain();
        assert_eq!(memory.read(0x8000.into()), Some(7));
    }

    #[test]
    fn changed_pages_of_the_old_kernel_are_found_and_others_are_not_counted() {
        let before = memory();
        let mut after = before.clone();
        after.write(0x3008.into(), 1);
        after.write(0x9000.into(), 1);
        after.write(0x5000.into(), 0);
        assert_eq!(after.old_pages_changed(&before), [PhysicalAddress::new(0x3000)]);
    }
}
