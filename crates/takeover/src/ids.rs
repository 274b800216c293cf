//! The domain-ids of a unit: which are in use, and which are free for new domains.

use alloc::vec::Vec;

use machine::growth::{OutOfMemory, collected, filled};

/// The domain-ids of one unit. Zero is never handed out: in caching mode it tags entries that are not present
/// (6.2.2.1).
#[derive(Debug)]
pub(crate) struct DomainIds {
    used: Vec<u64>,
    count: u32,
}

impl DomainIds {
    /// Makes a set of `count` ids, all unused but zero.
    pub(crate) fn new(count: u32) -> Result<Self, OutOfMemory> {
        let mut ids = Self { used: filled(0, count.div_ceil(64) as usize)?, count };
        ids.mark(0);
        Ok(ids)
    }

    /// Whether the unit has this id.
    pub(crate) fn contains(&self, id: u16) -> bool {
        u32::from(id) < self.count
    }

    pub(crate) fn mark(&mut self, id: u16) {
        if let Some(word) = self.used.get_mut(usize::from(id) / 64) {
            *word |= 1 << (id % 64);
        }
    }

    /// Marks all other ids as unused. The caller makes sure that the unit's caches are empty and its tables name
    /// these ids only.
    pub(crate) fn keep_only(&mut self, ids: impl Iterator<Item = u16>) {
        self.used.fill(0);
        [0].into_iter().chain(ids).for_each(|id| self.mark(id));
    }

    /// The same ids, for another unit.
    pub(crate) fn lent(&self) -> Result<Self, OutOfMemory> {
        Ok(Self { used: collected(self.used.iter().copied())?, count: self.count })
    }

    /// Marks and returns an id that was unused.
    pub(crate) fn take_unused(&mut self) -> Option<u16> {
        let word = self.used.iter().position(|word| *word != u64::MAX)?;
        let id = word * 64 + self.used.get(word)?.trailing_ones() as usize;
        let id = u16::try_from(id).ok().filter(|id| self.contains(*id))?;
        self.mark(id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_run_out_where_the_unit_has_no_more() {
        let mut ids = DomainIds::new(16).unwrap();
        ids.mark(1);
        let taken: Vec<u16> = core::iter::from_fn(|| ids.take_unused()).collect();
        assert_eq!(taken, (2..16).collect::<Vec<u16>>());
    }

    #[test]
    fn ids_that_are_not_kept_can_be_taken_again_but_never_zero() {
        let mut ids = DomainIds::new(16).unwrap();
        (0..16).for_each(|id| ids.mark(id));
        ids.keep_only([1, 3].into_iter());
        assert_eq!((ids.take_unused(), ids.take_unused()), (Some(2), Some(4)));
    }

    #[test]
    fn all_ids_of_a_large_unit_can_be_used() {
        let mut ids = DomainIds::new(65536).unwrap();
        assert_eq!(core::iter::from_fn(|| ids.take_unused()).count(), 65535);
    }
}
