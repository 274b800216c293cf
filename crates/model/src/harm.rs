//! What damage does to a word of the old kernel's tables.

use crate::memory::Memory;
use fastrand::Rng;
use machine::{PAGE_SIZE, PhysicalAddress};

/// Bits 51:12: the address field of all entries.
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// What happens to a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// One bit flips.
    Flip(u32),
    /// All of it is overwritten.
    Overwrite(u64),
    /// The address in it becomes that of another table, mostly a page table: loops, wrong levels, sharing.
    PointAtTable(usize),
    /// The address in it becomes one outside the old kernel's memory.
    PointAtForbidden(usize),
    /// The address in it becomes any address.
    PointAnywhere(u64),
    /// All words of its table become copies of it: a fan-out.
    Spread,
}

/// What words can be made to point at.
pub(crate) struct Aims<'a> {
    /// The old kernel's tables of all kinds.
    pub(crate) tables: &'a [PhysicalAddress],
    /// Addresses outside the old kernel's memory.
    pub(crate) forbidden: &'a [PhysicalAddress],
}

impl Harm {
    /// Random harm.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        match rng.u8(..6) {
            0 => Self::Flip(rng.u32(..64)),
            1 => Self::Overwrite(rng.u64(..)),
            2 => Self::PointAtTable(rng.usize(..)),
            3 => Self::PointAtForbidden(rng.usize(..)),
            4 => Self::PointAnywhere(rng.u64(..) >> rng.u32(..32)),
            _ => Self::Spread,
        }
    }

    /// The words that it changes where it hits the one at `at`, and their new values.
    pub(crate) fn done_to(
        self,
        at: PhysicalAddress,
        memory: &Memory,
        aims: &Aims<'_>,
    ) -> Vec<(PhysicalAddress, u64)> {
        let word = memory.read(at).unwrap_or(0);
        let aim = |address: PhysicalAddress| word & !ADDRESS | address.get() & ADDRESS;
        let new = match self {
            Self::Flip(bit) => word ^ 1_u64.rotate_left(bit),
            Self::Overwrite(value) => value,
            Self::PointAtTable(which) => one_of(aims.tables, which).map_or(word, aim),
            Self::PointAtForbidden(which) => one_of(aims.forbidden, which).map_or(word, aim),
            Self::PointAnywhere(address) => aim(address.into()),
            Self::Spread => return words(at.align_down(PAGE_SIZE)).map(|other| (other, word)).collect(),
        };
        vec![(at, new)]
    }
}

/// A word of a table: one that is not zero, if there are any.
pub(crate) fn some_word(table: PhysicalAddress, which: usize, memory: &Memory) -> PhysicalAddress {
    let present: Vec<PhysicalAddress> =
        words(table).filter(|at| memory.read(*at).unwrap_or(0) != 0).collect();
    let candidates = if present.is_empty() { words(table).collect() } else { present };
    candidates[which % candidates.len()]
}

/// One of a list, if it has any; the number wraps around.
pub(crate) fn one_of(list: &[PhysicalAddress], which: usize) -> Option<PhysicalAddress> {
    list.get(which % list.len().max(1)).copied()
}

fn words(table: PhysicalAddress) -> impl Iterator<Item = PhysicalAddress> {
    (0..PAGE_SIZE).step_by(8).map(move |offset| table.saturating_add(offset))
}
