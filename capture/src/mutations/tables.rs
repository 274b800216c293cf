//! Finds Holdover's own copies of a unit's tables, and damages them.

use core::arch::x86_64::_mm_clflush;

use machine::{ENTRIES, SourceId};

/// Clears a leaf table of a device that is always at work: on the bench the last one before the chipset's own functions.
pub(super) fn empty_a_leaf_table(root: u64) {
    if let Some(Leaf { table, .. }) = busy_leaf(root) {
        (0..ENTRIES).for_each(|index| set_entry(table, index, 0));
    }
}

/// Maps our root table for the same device, at the I/O address that equals its physical one.
pub(super) fn lead_into_own_memory(root: u64) {
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

/// Follows root and context entries (sections 9.1 and 9.3).
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
pub(super) struct Leaf {
    table: u64,
    index: usize,
    iova: u64,
}

impl Leaf {
    /// The first leaf entry of a function that maps a page for reading and writing.
    pub(super) fn first_of(root: u64, source: SourceId) -> Option<Self> {
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
    pub(super) fn take_over(self, page: u64) -> u64 {
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
