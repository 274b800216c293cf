//! Damage to the old kernel's tables, as stray writes, bad memory or an attacker may leave it.

use machine::IoAddress;

pub use crate::harm::Harm;

/// One piece of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The word that is hit.
    pub victim: Victim,
    /// What happens to the word.
    pub harm: Harm,
}

/// A word of the old kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// A word of some table; the numbers wrap around, so any numbers will do.
    Some {
        /// Which kind of table.
        table: Table,
        /// Which one of them.
        which: usize,
        /// Which of its words that are not zero; if there are none, which of all words.
        word: usize,
    },
    /// A word of the device table entry of this source-id, if the table has one.
    Entry {
        /// The source-id.
        source: u16,
        /// Which of the four words.
        word: usize,
    },
    /// The entry that maps an I/O address, if there is one.
    Leaf {
        /// The domain, by index.
        domain: usize,
        /// The address.
        iova: IoAddress,
    },
}

/// A kind of table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// A page of a device table.
    Device,
    /// A CR3 table of any level.
    Cr3,
    /// A page table of any level, of host or guest.
    Paging,
    /// An interrupt table.
    Interrupt,
}
