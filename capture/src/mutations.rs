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
const NAMES: [&str; 5] = ["skip-table", "reuse-iova", "clear-te", "flip-byte", "open-own"];
const SKIP_TABLE: u8 = 1;
const REUSE_IOVA: u8 = 2;
const CLEAR_TE: u8 = 3;
const FLIP_BYTE: u8 = 4;
const OPEN_OWN: u8 = 5;

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

/// A unit's registers. At the moment when the root table is swapped, a leaf table is emptied, our own memory mapped
/// for a device, or translation turned off.
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
        if chosen(OPEN_OWN) {
            lead_into_own_memory(self.0.read64(RTADDR.offset));
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
    if let Some(Leaf { table, .. }) = busy_leaf(root) {
        (0..ENTRIES).for_each(|index| set_entry(table, index, 0));
    }
}

/// Gives the same device a way to our root table, at the I/O address that equals its physical one.
fn lead_into_own_memory(root: u64) {
    let own = root & ADDRESS;
    let Some((mut table, mut level)) = busy_tables(root) else { return };
    loop {
        let shift = 3 + 9 * level;
        let index = (own >> shift) as usize % ENTRIES;
        let found = entry(table, index);
        if found.trailing_zeros() >= 2 || level == 1 {
            let large = if level == 1 { 0 } else { LARGE };
            return set_entry(table, index, own >> shift << shift | large | RIGHTS);
        }
        (table, level) = (found & ADDRESS, level - 1);
    }
}

fn busy_tables(root: u64) -> Option<(u64, u64)> {
    let busy = (0..0x1F << 3).rev().map(|devfn| SourceId::new(0, devfn));
    busy.filter(|source| Leaf::first_of(root, *source).is_some()).find_map(|source| tables(root, source))
}

fn busy_leaf(root: u64) -> Option<Leaf> {
    (0..0x1F << 3).rev().find_map(|devfn| Leaf::first_of(root, SourceId::new(0, devfn)))
}

/// The address in an entry of any table.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
/// The entry of a page table maps a large page.
const LARGE: u64 = 1 << 7;

/// Reading and writing, of the second stage; the first stage's user bit too.
const RIGHTS: u64 = 0b111;

/// A function's page tables, and how many levels they have.
fn tables(root: u64, source: SourceId) -> Option<(u64, u64)> {
    /// Bits 11:10 of the root table's address: scalable mode.
    const SCALABLE: u64 = 1 << 10;
    match root & SCALABLE {
        0 => legacy_tables(root, source),
        _ => scalable_tables(root, source),
    }
}

/// By root and context entries (sections 9.1 and 9.3).
fn legacy_tables(root: u64, source: SourceId) -> Option<(u64, u64)> {
    let contexts = present(entry(root & ADDRESS, usize::from(source.bus()) * 2))?;
    let context = usize::from(source.devfn()) * 2;
    Some((present(entry(contexts, context))?, 2 + (entry(contexts, context + 1) & 7)))
}

/// The same in scalable mode, for requests without a PASID (sections 9.2 and 9.4 to 9.6).
fn scalable_tables(root: u64, source: SourceId) -> Option<(u64, u64)> {
    let devfn = usize::from(source.devfn());
    let contexts = present(entry(root & ADDRESS, usize::from(source.bus()) * 2 + devfn / 128))?;
    let context = devfn % 128 * 4;
    let pasid = entry(contexts, context + 1) as usize & 0xF_FFFF;
    let pasids = present(entry(present(entry(contexts, context))?, pasid >> 6))?;
    let low = entry(pasids, pasid % 64 * 8);
    let first_stage = entry(pasids, pasid % 64 * 8 + 2);
    match low >> 6 & 7 {
        1 => Some((first_stage & ADDRESS, 4 + (first_stage >> 2 & 3))),
        2 => Some((present(low)?, 2 + (low >> 2 & 7))),
        _ => None,
    }
}

/// Where a present entry leads.
fn present(entry: u64) -> Option<u64> {
    (entry & 1 == 1).then_some(entry & ADDRESS)
}

/// A leaf entry of page tables in our own frames, of either format: both have their rights in bits 1:0 (VT-d specification,
/// sections 9.7 and 9.8).
struct Leaf {
    table: u64,
    index: usize,
    iova: u64,
}

impl Leaf {
    /// The first leaf entry of a function that maps a page for reading and writing.
    fn first_of(root: u64, source: SourceId) -> Option<Self> {
        let (table, levels) = tables(root, source)?;
        Self::first_below(table, levels, 0)
    }

    fn first_below(table: u64, level: u64, iova: u64) -> Option<Self> {
        (0..ENTRIES).filter(|&index| entry(table, index) & 3 == 3).find_map(|index| {
            let iova = iova | (index as u64) << (12 + 9 * (level - 1));
            match (level, entry(table, index) & LARGE) {
                (1, _) => Some(Self { table, index, iova }),
                (_, 0) => Self::first_below(entry(table, index) & ADDRESS, level - 1, iova),
                _ => None,
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
