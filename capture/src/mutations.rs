//! Mistakes made on request, in the test build only: `holdover.mutate=` names one, and a test checks that it is noticed.
//!
//! Each is made by a wrapper around one of the things through which the rest meets the machine, under the same name, so
//! that nothing but this file knows how to do wrong.

use core::arch::x86_64::_mm_clflush;
use core::sync::atomic::{AtomicU8, Ordering};
use core::time::Duration;

use machine::{
    Dma, DmaMemory, ENTRIES, OldMemory, PAGE_SIZE, Range, Registers, Table, Unreadable, wait_until,
};
use vmcore::CoreHeader;
use vtd::control::{GlobalCommand, GlobalStatus};
use vtd::registers::{GCMD, GSTS, RTADDR};
use vtd::source::SourceId;

use crate::clock::Tsc;
use crate::dma::{self, SharedMemory};
use crate::memory::OldRam;
use crate::mmio::Mmio;
use crate::paging::{AddressSpace, MapError};
use crate::remapping::{Reach, Remapping, State};

/// The command line's name of each mistake; [`CHOSEN`] holds the position, from 1.
const NAMES: [&str; 4] = ["skip-table", "reuse-iova", "clear-te", "flip-byte"];
const SKIP_TABLE: u8 = 1;
const REUSE_IOVA: u8 = 2;
const CLEAR_TE: u8 = 3;
const FLIP_BYTE: u8 = 4;

/// Which mistake to make; 0 for none.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// Reads from the command line which mistake to make.
pub(crate) fn choose(command_line: &str) {
    let wanted = command_line.split_ascii_whitespace().find_map(|word| word.strip_prefix("holdover.mutate="));
    let position = NAMES.iter().position(|name| Some(*name) == wanted);
    CHOSEN.store(position.map_or(0, |position| position as u8 + 1), Ordering::Relaxed);
}

fn chosen(mistake: u8) -> bool {
    CHOSEN.load(Ordering::Relaxed) == mistake
}

/// A unit's registers. At the moment when the root table is swapped, a leaf table is emptied or translation turned off.
#[derive(Debug)]
pub(crate) struct UnitRegisters(Mmio);

impl UnitRegisters {
    /// Maps the registers.
    pub(crate) fn map(space: &mut AddressSpace, range: Range) -> Result<Self, MapError> {
        Mmio::map(space, range).map(Self)
    }

    fn before_swap(&mut self) {
        if chosen(SKIP_TABLE) {
            empty_a_leaf_table(self.0.read64(RTADDR.offset));
        }
        if chosen(CLEAR_TE) {
            self.turn_translation_off_and_on();
        }
    }

    fn turn_translation_off_and_on(&mut self) {
        let keep = self.status().keep();
        for on in [false, true] {
            self.0.write32(GCMD.offset, keep.with_te(on).into_bits());
            let _ = wait_until(&Tsc, Duration::from_secs(1), || self.status().tes() == on);
        }
    }

    fn status(&self) -> GlobalStatus {
        GlobalStatus::from_bits(self.0.read32(GSTS.offset))
    }
}

impl Registers for UnitRegisters {
    fn read8(&self, offset: usize) -> u8 {
        self.0.read8(offset)
    }
    fn read16(&self, offset: usize) -> u16 {
        self.0.read16(offset)
    }
    fn read32(&self, offset: usize) -> u32 {
        self.0.read32(offset)
    }
    fn read64(&self, offset: usize) -> u64 {
        self.0.read64(offset)
    }
    fn write8(&mut self, offset: usize, value: u8) {
        self.0.write8(offset, value);
    }
    fn write16(&mut self, offset: usize, value: u16) {
        self.0.write16(offset, value);
    }
    fn write32(&mut self, offset: usize, value: u32) {
        if offset == GCMD.offset && GlobalCommand::from_bits(value).srtp() {
            self.before_swap();
        }
        self.0.write32(offset, value);
    }
    fn write64(&mut self, offset: usize, value: u64) {
        self.0.write64(offset, value);
    }
}

/// Memory for one device's driver. One page of it gets an I/O address at which the dead kernel had mapped something.
pub(crate) struct DeviceDma<'a>(dma::DeviceDma<'a>);

impl<'a> DeviceDma<'a> {
    /// Memory for the device that reaches it so.
    pub(crate) fn new(remapping: &'a mut Remapping, reach: Reach) -> Self {
        Self(dma::DeviceDma::new(remapping, reach))
    }

    /// Puts one page where the dead kernel's driver had one of its own.
    fn reuse(&mut self, memory: SharedMemory) -> SharedMemory {
        let dma::DeviceDma { remapping, reach: Reach::Translated(index, attachment) } = &mut self.0 else {
            return memory;
        };
        let Remapping { units, frames, .. } = &mut **remapping;
        let State::TakenOver(unit) = &mut units[*index].state else { return memory };
        let iova = Range::new(memory.device_address(), memory.device_address() + PAGE_SIZE);
        // This also makes the unit forget all that it knows of the domain.
        if unit.unmap(attachment, iova, frames).is_err() {
            return memory;
        }
        match Leaf::first_of(unit.report().root.into_bits(), attachment.source) {
            Some(leaf) => {
                let iova = leaf.take_over(memory.physical().start);
                memory.moved_to(iova)
            }
            None => memory,
        }
    }
}

impl Dma for DeviceDma<'_> {
    type Memory = SharedMemory;

    fn allocate(&mut self, len: usize) -> Option<SharedMemory> {
        let memory = self.0.allocate(len)?;
        if chosen(REUSE_IOVA) && memory.size() as u64 == PAGE_SIZE {
            // Once is enough.
            CHOSEN.store(0, Ordering::Relaxed);
            return Some(self.reuse(memory));
        }
        Some(memory)
    }
}

/// The dead kernel's memory, with one byte of its code changed.
pub(crate) struct DumpedMemory<'a> {
    old: &'a OldRam,
    code: Option<u64>,
}

impl<'a> DumpedMemory<'a> {
    /// The memory as it goes into the dump.
    pub(crate) fn new(old: &'a OldRam, header: &CoreHeader) -> Self {
        /// Where Linux maps its image, code first.
        const IMAGE: u64 = 0xFFFF_FFFF_8000_0000;
        let image = header.segments().iter().find(|segment| segment.virtual_start >= IMAGE);
        Self { old, code: image.map(|segment| segment.physical.start).filter(|_| chosen(FLIP_BYTE)) }
    }
}

impl OldMemory for DumpedMemory<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        self.old.read(address, into)?;
        if let (true, Some(byte)) = (Some(address) == self.code, into.get_mut(0x123)) {
            *byte ^= 0x10;
        }
        Ok(())
    }

    fn read_table(&self, address: u64, into: &mut Table) -> Result<(), Unreadable> {
        self.old.read_table(address, into)
    }
}

/// Empties a leaf table of a device that does not rest: on the bench the last one before the chipset's own functions.
fn empty_a_leaf_table(root: u64) {
    let leaf = (0..0x1F << 3).rev().find_map(|devfn| Leaf::first_of(root, SourceId::new(0, devfn)));
    if let Some(Leaf { table, .. }) = leaf {
        (0..ENTRIES).for_each(|index| set_entry(table, index, 0));
    }
}

/// The address in an entry of any table.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// A leaf entry of second-stage tables in our own frames (VT-d specification, section 9.8).
struct Leaf {
    table: u64,
    index: usize,
    iova: u64,
}

impl Leaf {
    /// The first leaf entry of a function that maps a page for reading and writing.
    fn first_of(root: u64, source: SourceId) -> Option<Self> {
        let contexts = entry(root & ADDRESS, usize::from(source.bus()) * 2);
        let context = usize::from(source.devfn()) * 2;
        if contexts & 1 == 0 || entry(contexts & ADDRESS, context) & 1 == 0 {
            return None;
        }
        let table = entry(contexts & ADDRESS, context) & ADDRESS;
        let levels = 2 + (entry(contexts & ADDRESS, context + 1) & 7);
        Self::first_below(table, levels, 0)
    }

    fn first_below(table: u64, level: u64, iova: u64) -> Option<Self> {
        (0..ENTRIES).filter(|&index| entry(table, index) & 3 == 3).find_map(|index| {
            let iova = iova | (index as u64) << (12 + 9 * (level - 1));
            match level {
                1 => Some(Self { table, index, iova }),
                _ => Self::first_below(entry(table, index) & ADDRESS, level - 1, iova),
            }
        })
    }

    /// Makes the entry lead to another page, and returns its I/O address.
    fn take_over(self, page: u64) -> u64 {
        set_entry(self.table, self.index, page | 3);
        self.iova
    }
}

fn entry(table: u64, index: usize) -> u64 {
    // SAFETY: a table of ours, at its physical address.
    unsafe { (table as *const u64).add(index).read_volatile() }
}

fn set_entry(table: u64, index: usize, value: u64) {
    let entry = (table as *mut u64).wrapping_add(index);
    // SAFETY: as for reading; doing harm is the purpose.
    unsafe {
        entry.write_volatile(value);
        _mm_clflush(entry.cast());
    }
}
