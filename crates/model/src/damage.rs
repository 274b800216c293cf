//! Damage to the old kernel's tables: what stray writes, bad memory or an attacker may have left.

/// One piece of damage. Which table and entry it hits is told by numbers that wrap around, so any will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which kind of table.
    pub table: Victim,
    /// Which one of them.
    pub which: usize,
    /// Which of its present words; if none is present, which word.
    pub word: usize,
    /// What is done to it.
    pub harm: Harm,
}

/// Which kind of table is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// A root table.
    Root,
    /// A context table.
    Context,
    /// A PASID directory or table.
    Pasid,
    /// A page table of any level.
    Paging,
}

/// What is done to a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// One bit flips.
    Flip(u32),
    /// All of it is overwritten.
    Overwrite(u64),
    /// Its address is replaced by that of a page table: loops, wrong levels, sharing.
    PointAtTable(usize),
    /// Its address is replaced by one where there is no old memory.
    PointAtForbidden(usize),
    /// Its address is replaced by any.
    PointAnywhere(u64),
    /// It is copied to all the table's words: a fan-out.
    Spread,
}
