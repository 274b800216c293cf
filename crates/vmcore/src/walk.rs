//! Walks the dead kernel's page tables from end to end.
//!
//! The content of the tables is an allegation like all of the dead kernel's memory: a walk descends at most as many
//! levels as there are, and reads a limited number of tables.

use alloc::vec::Vec;

use machine::growth::filled;
use machine::{ENTRIES, OldMemory, PhysicalAddress, Range, Table, VirtualAddress};

use crate::{AddressSpace, OutOfMemory};

/// Most tables that a walk reads: those of 128 GiB in pages of 4 KiB.
const MOST_TABLES: u32 = 1 << 16;
/// First entry of the top-level table that belongs to the kernel: the others are a process's.
const KERNEL_HALF: usize = ENTRIES / 2;

/// An entry that is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// First address that it translates.
    pub(crate) address: VirtualAddress,
    /// What it leads to.
    pub(crate) target: Target,
}

/// What an entry leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The memory that it maps.
    Memory(Range<PhysicalAddress>),
    /// A table of a lower level; level 1 is the lowest.
    Table { address: PhysicalAddress, level: u32 },
}

/// The next step of a walk after an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Into the table that it leads to, if there is one.
    Down,
    /// To the entry after it.
    On,
}

/// Walks the tables, any number of times.
#[derive(Debug)]
pub(crate) struct Walker<'a, M> {
    memory: &'a M,
    space: &'a AddressSpace,
    /// A copy of a table for each level.
    tables: Vec<Table>,
}

impl<'a, M: OldMemory> Walker<'a, M> {
    pub(crate) fn new(memory: &'a M, space: &'a AddressSpace) -> Result<Self, OutOfMemory> {
        let tables = filled([0; ENTRIES], space.levels() as usize)?;
        Ok(Self { memory, space, tables })
    }

    /// Passes every present entry for the kernel's addresses to `visit`, which decides the next step.
    ///
    /// Of neighbouring entries that lead to the same place only the first is passed: a kernel that watches its accesses to
    /// memory (KASAN) maps terabytes of addresses to a single page.
    pub(crate) fn walk(&mut self, visit: impl FnMut(Entry) -> Way) {
        let Self { memory, space, tables } = self;
        let mut walk = Walk { memory: *memory, space, visit, tables_left: MOST_TABLES };
        walk.go_through(tables, space.root(), KERNEL_HALF, VirtualAddress::default());
    }
}

/// One walk under way.
struct Walk<'a, M, V> {
    memory: &'a M,
    space: &'a AddressSpace,
    visit: V,
    tables_left: u32,
}

impl<M: OldMemory, V: FnMut(Entry) -> Way> Walk<'_, M, V> {
    /// Goes through a table from entry `first` on; its entry 0 translates `start`. There is a copy left for each level from
    /// this one down.
    fn go_through(
        &mut self,
        copies: &mut [Table],
        table: PhysicalAddress,
        first: usize,
        start: VirtualAddress,
    ) {
        let level = copies.len() as u32;
        let Some((copy, copies_below)) = copies.split_first_mut() else { return };
        if !self.may_read(table, copy) {
            return;
        }
        let mut last = None;
        for (index, &word) in copy.iter().enumerate().skip(first) {
            let address = self.space.address_of_entry(start, level, index);
            let target = self.space.target(word, level);
            if target.is_none() || target == core::mem::replace(&mut last, target) {
                continue;
            }
            if let Some(target) = target
                && (self.visit)(Entry { address, target }) == Way::Down
                && let Target::Table { address: table, .. } = target
            {
                self.go_through(copies_below, table, 0, address);
            }
        }
    }

    fn may_read(&mut self, table: PhysicalAddress, into: &mut Table) -> bool {
        let left = self.tables_left.checked_sub(1);
        self.tables_left = left.unwrap_or(0);
        left.is_some() && self.memory.read_table(table, into).is_ok()
    }
}
