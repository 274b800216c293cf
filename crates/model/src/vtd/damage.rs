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
        /// Which of its present words; if no word is present, which of all words.
        word: usize,
    },
    /// The first word of the context entry of this source-id, if it has one.
    Context(u16),
    /// The word of the scalable-mode context entry of this source-id that holds RID_PASID, if it has one.
    RidPasid(u16),
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
    /// A root table.
    Root,
    /// A context table.
    Context,
    /// A PASID directory or table.
    Pasid,
    /// A page table of any level.
    Paging,
}
