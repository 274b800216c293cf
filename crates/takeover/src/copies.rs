//! A map from old tables to their copies.

use alloc::vec::Vec;

use machine::{Level, PhysicalAddress};

use machine::growth::filled;

/// How far an entry may lie from its home slot. A dead kernel's tables could be all collisions; then a table is
/// copied twice, which is just as exact, instead of searched for without end.
const PROBES: usize = 32;
/// Slots of a map with one entry.
const FIRST_SLOTS: usize = 64;
/// An empty slot: a key always has a level in its low bits, so it is never zero.
const EMPTY: u64 = 0;
/// A deleted entry: a search goes on behind it, and a new entry may reuse its slot.
const FORGOTTEN: u64 = 0xFFF;

/// A map from (address, level) of an old table to a frame. It may forget entries, but never returns a wrong one.
///
/// The level is part of the key because corrupt tables can use one page at two levels, whose copies differ.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    slots: Vec<(u64, u64)>,
    used: usize,
}

impl Copies {
    pub(crate) fn find(&self, table: PhysicalAddress, level: Level) -> Option<PhysicalAddress> {
        let found = self.slots.get(self.place(key(table, level))?)?;
        Some(PhysicalAddress::new(found.1))
    }

    /// Remembers `frame` as the copy of a table that is not known yet, if there is room.
    pub(crate) fn remember(&mut self, table: PhysicalAddress, level: Level, frame: PhysicalAddress) {
        if self.used * 2 >= self.slots.len() {
            self.grow();
        }
        self.insert(key(table, level), frame.get());
    }

    /// Forgets a table whose copy was discarded.
    pub(crate) fn forget(&mut self, table: PhysicalAddress, level: Level) {
        if let Some(place) = self.place(key(table, level)) {
            self.slots[place].0 = FORGOTTEN;
        }
    }

    /// The slot of `key`, if the map has it: before the first empty slot in its probe sequence.
    fn place(&self, key: u64) -> Option<usize> {
        let way = self.way(key).map(|place| (place, self.slots[place].0));
        way.take_while(|(_, known)| *known != EMPTY).find(|(_, known)| *known == key).map(|found| found.0)
    }

    fn insert(&mut self, key: u64, frame: u64) {
        let free = |place: &usize| matches!(self.slots[*place].0, EMPTY | FORGOTTEN);
        if let Some(place) = self.way(key).find(free) {
            self.used += usize::from(self.slots[place].0 == EMPTY);
            self.slots[place] = (key, frame);
        }
    }

    /// The slots that a key may be in, the most likely first. The hash is multiplicative, whose upper half is well
    /// mixed.
    fn way(&self, key: u64) -> impl Iterator<Item = usize> + use<> {
        let (len, home) = (self.slots.len(), (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize);
        (0..PROBES.min(len)).map(move |step| (home + step) & (len - 1))
    }

    /// Twice as many slots: always a power of two.
    fn grow(&mut self) {
        let Ok(slots) = filled((EMPTY, 0), (self.slots.len() * 2).max(FIRST_SLOTS)) else { return };
        let old = core::mem::replace(&mut self.slots, slots);
        self.used = 0;
        let known = old.into_iter().filter(|slot| !matches!(slot.0, EMPTY | FORGOTTEN));
        known.for_each(|(key, frame)| self.insert(key, frame));
    }
}

/// Tables are page-aligned: the level fits below the address.
fn key(table: PhysicalAddress, level: Level) -> u64 {
    table.get() | u64::from(level.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u64) -> PhysicalAddress {
        PhysicalAddress::new(number << 12)
    }

    #[test]
    fn one_page_at_two_levels_is_two_tables() {
        let mut copies = Copies::default();
        copies.remember(PhysicalAddress::new(0x1000), Level::ONE, frame(7));
        assert_eq!(copies.find(PhysicalAddress::new(0x1000), Level::ONE), Some(frame(7)));
        assert_eq!(copies.find(PhysicalAddress::new(0x1000), Level::TWO), None);
    }

    #[test]
    fn tables_that_lie_side_by_side_are_all_remembered() {
        let mut copies = Copies::default();
        for table in 0..10_000 {
            copies.remember(frame(table), Level::ONE, frame(table));
        }
        assert!((0..10_000).all(|table| copies.find(frame(table), Level::ONE) == Some(frame(table))));
    }

    #[test]
    fn a_table_that_was_forgotten_is_not_found_and_the_others_are() {
        let mut copies = Copies::default();
        (0..100).for_each(|table| copies.remember(frame(table), Level::TWO, frame(table)));
        copies.forget(frame(7), Level::TWO);
        copies.forget(frame(7), Level::ONE);
        copies.forget(frame(7), Level::TWO);
        let found = (0..100).filter(|table| copies.find(frame(*table), Level::TWO).is_some());
        assert_eq!(found.count(), 99);
        assert_eq!(copies.find(frame(7), Level::TWO), None);
    }

    #[test]
    fn an_empty_map_finds_nothing() {
        assert_eq!(Copies::default().find(frame(0), Level::FIVE), None);
    }
}
