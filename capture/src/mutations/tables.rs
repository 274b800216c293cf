//! Finds Holdover's own copies of a unit's tables, and damages them.

use core::arch::x86_64::_mm_clflush;

use amdvi::control::BufferBase;
use machine::{ENTRIES, SourceId};
use record::Architecture;

/// A unit's first table, as the register says that holds it.
#[derive(Clone, Copy)]
pub(super) enum Root {
    /// VT-d's root table.
    Vtd(u64),
    /// AMD-Vi's device table.
    AmdVi(u64),
}

impl Root {
    /// The register of a unit of this architecture.
    pub(super) fn of(architecture: Architecture, register: u64) -> Self {
        match architecture {
            Architecture::Vtd => Self::Vtd(register),
            Architecture::AmdVi => Self::AmdVi(register),
        }
    }

    fn address(self) -> u64 {
        let (Self::Vtd(register) | Self::AmdVi(register)) = self;
        register & ADDRESS
    }

    /// Whether an entry of a page table leads on, or to a page, for reading and writing. VT-d has its rights in bits 1:0, in both
    /// stages (VT-d specification, sections 9.7 and 9.8).
    fn is_used(self, entry: u64) -> bool {
        match self {
            Self::Vtd(_) => entry & 3 == 3,
            Self::AmdVi(_) => entry & RIGHTS_OF_AMD == RIGHTS_OF_AMD,
        }
    }

    /// The table below a table of this level to which an entry leads, and its level; `None` if it leads to a page.
    fn below(self, entry: u64, level: u64) -> Option<(u64, u64)> {
        let below = match self {
            _ if level == 1 => 0,
            Self::Vtd(_) if entry & LARGE != 0 => 0,
            Self::Vtd(_) => level - 1,
            Self::AmdVi(_) => entry >> 9 & 7,
        };
        (1..level).contains(&below).then_some((entry & ADDRESS, below))
    }

    /// The entry of a table of this level that makes a page of all that it covers.
    fn page(self, address: u64, level: u64) -> u64 {
        match self {
            Self::Vtd(_) if level == 1 => address | RIGHTS,
            Self::Vtd(_) => address | LARGE | RIGHTS,
            Self::AmdVi(_) => address | RIGHTS_OF_AMD,
        }
    }
}

/// Clears a leaf table of a device that is always at work: on the bench the last one before the chipset's own functions.
pub(super) fn empty_a_leaf_table(root: Root) {
    if let Some(Leaf { table, .. }) = busy_leaf(root) {
        (0..ENTRIES).for_each(|index| set_entry(table, index, 0));
    }
}

/// Maps our root table for the same device, at the I/O address that equals its physical one.
pub(super) fn lead_into_own_memory(root: Root) {
    let own = root.address();
    let Some((mut table, mut level)) = busy(root).and_then(|source| tables(root, source)) else { return };
    loop {
        let shift = 3 + 9 * level;
        let index = (own >> shift) as usize % ENTRIES;
        let found = entry(table, index);
        match root.below(found, level).filter(|_| root.is_used(found)) {
            Some(below) => (table, level) = below,
            None => return set_entry(table, index, root.page(own >> shift << shift, level)),
        }
    }
}

/// Has AMD's unit refuse all requests of the same device: its device table entry is valid, and no translation is.
pub(super) fn block_an_entry(root: Root) {
    const VALID: u64 = 1;
    if let Some(source) = busy(root) {
        set_entry(root.address(), usize::from(source.0) * 4, VALID);
    }
}

/// Makes COMPLETION_WAIT commands that store nothing (AMD-Vi, 2.4.1) of all others in a command buffer, between these bytes.
pub(super) fn forget_commands(buffer: BufferBase, head: u64, tail: u64) {
    const COMPLETION_WAIT: u64 = 1;
    let (buffer, words) = (buffer.address().get(), buffer.entries().unwrap_or(1) * 2);
    let (mut word, end) = (head as usize / 8 % words, tail as usize / 8 % words);
    while word != end {
        if entry(buffer, word) >> 60 != COMPLETION_WAIT {
            set_entry(buffer, word, COMPLETION_WAIT << 60);
            set_entry(buffer, word + 1, 0);
        }
        word = (word + 2) % words;
    }
}

fn busy(root: Root) -> Option<SourceId> {
    let sources = (0..0x1F << 3).rev().map(|devfn| SourceId::new(0, devfn));
    sources.into_iter().find(|source| Leaf::first_of(root, *source).is_some())
}

fn busy_leaf(root: Root) -> Option<Leaf> {
    Leaf::first_of(root, busy(root)?)
}

/// The address in an entry of any table.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
/// The entry of a page table of VT-d's maps a large page.
const LARGE: u64 = 1 << 7;

/// Reading and writing, of VT-d's second stage; the first stage's user bit too.
const RIGHTS: u64 = 0b111;
/// The same of AMD's host tables (AMD-Vi, 2.2.3): PR, IR and IW.
const RIGHTS_OF_AMD: u64 = 3 << 61 | 1;

/// A function's page tables, and how many levels they have.
fn tables(root: Root, source: SourceId) -> Option<(u64, u64)> {
    /// Bits 11:10 of the root table's address: scalable mode.
    const SCALABLE: u64 = 1 << 10;
    match root {
        Root::Vtd(register) if register & SCALABLE == 0 => legacy_tables(register, source),
        Root::Vtd(register) => scalable_tables(register, source),
        Root::AmdVi(_) => amd_tables(root.address(), source),
    }
}

/// Reads a device table entry that says of translation how it is done (AMD-Vi, 2.2.2.1).
fn amd_tables(root: u64, source: SourceId) -> Option<(u64, u64)> {
    const TRANSLATED: u64 = 3;
    let entry = entry(root, usize::from(source.0) * 4);
    let levels = entry >> 9 & 7;
    (entry & TRANSLATED == TRANSLATED && levels > 0).then_some((entry & ADDRESS, levels))
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

/// A leaf entry of page tables in our own frames, of any format, that maps a page of 4 KiB.
pub(super) struct Leaf {
    root: Root,
    table: u64,
    index: usize,
    iova: u64,
}

impl Leaf {
    /// The first leaf entry of a function that maps a page for reading and writing.
    pub(super) fn first_of(root: Root, source: SourceId) -> Option<Self> {
        let (table, levels) = tables(root, source)?;
        Self::first_below(root, table, levels, 0)
    }

    fn first_below(root: Root, table: u64, level: u64, iova: u64) -> Option<Self> {
        (0..ENTRIES).filter(|&index| root.is_used(entry(table, index))).find_map(|index| {
            let iova = iova | (index as u64) << (12 + 9 * (level - 1));
            match root.below(entry(table, index), level) {
                None if level == 1 => Some(Self { root, table, index, iova }),
                None => None,
                Some((table, level)) => Self::first_below(root, table, level, iova),
            }
        })
    }

    /// Makes the entry lead to another page, and returns its I/O address.
    pub(super) fn take_over(self, page: u64) -> u64 {
        set_entry(self.table, self.index, self.root.page(page, 1));
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
