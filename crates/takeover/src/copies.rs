//! Which old tables were seen, and where their copies are.

use alloc::vec::Vec;

use crate::growth::filled;
use vtd::paging::Level;

/// How far an entry may lie from its place. What a dead kernel left could be made of collisions; then a table is
/// copied twice, which is as exact, rather than searched for without end.
const PROBES: usize = 32;
/// Slots of a map that has just one entry.
const FIRST_SLOTS: usize = 64;
/// No table: a key always has a level in its low bits.
const EMPTY: u64 = 0;

/// A map from (address, level) of an old table to a frame. It may forget, never err.
///
/// The level is part of the key because corrupt tables can use one page at two levels, whose copies differ.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    slots: Vec<(u64, u64)>,
    used: usize,
}

impl Copies {
    pub(crate) fn find(&self, table: u64, level: Level) -> Option<u64> {
        let key = key(table, level);
        self.position(key, key).and_then(|index| self.slots.get(index)).map(|slot| slot.1)
    }

    /// Remembers `frame` as the copy of a table that is not known yet, if there is room.
    pub(crate) fn remember(&mut self, table: u64, level: Level, frame: u64) {
        if self.used * 2 >= self.slots.len() {
            self.grow();
        }
        self.place(key(table, level), frame);
    }

    /// Forgets a table whose copy is no more.
    pub(crate) fn forget(&mut self, table: u64, level: Level) {
        let key = key(table, level);
        if let Some(slot) = self.position(key, key).and_then(|index| self.slots.get_mut(index)) {
            *slot = (EMPTY, 0);
            self.used -= 1;
        }
    }

    /// Where, of the slots that `key` may be in, there is one that holds `wanted`.
    fn position(&self, key: u64, wanted: u64) -> Option<usize> {
        let len = self.slots.len();
        let mut places = (0..PROBES.min(len)).map(|step| (home(key, len) + step) % len);
        places.find(|index| self.slots.get(*index).is_some_and(|slot| slot.0 == wanted))
    }

    fn place(&mut self, key: u64, frame: u64) {
        if let Some(slot) = self.position(key, EMPTY).and_then(|index| self.slots.get_mut(index)) {
            *slot = (key, frame);
            self.used += 1;
        }
    }

    fn grow(&mut self) {
        let Ok(slots) = filled((EMPTY, 0), (self.slots.len() * 2).max(FIRST_SLOTS)) else { return };
        let old = core::mem::replace(&mut self.slots, slots);
        self.used = 0;
        for (key, frame) in old.into_iter().filter(|slot| slot.0 != EMPTY) {
            self.place(key, frame);
        }
    }
}

/// Tables are page-aligned: the level fits below the address.
fn key(table: u64, level: Level) -> u64 {
    table | u64::from(level.number())
}

/// Where the search for `key` starts: multiplicative hashing, of which the upper half is well mixed.
fn home(key: u64, len: usize) -> usize {
    let mixed = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    if len == 0 { 0 } else { (mixed >> 32) as usize % len }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_at_two_levels_is_two_tables() {
        let mut copies = Copies::default();
        copies.remember(0x1000, Level::ONE, 7);
        assert_eq!(copies.find(0x1000, Level::ONE), Some(7));
        assert_eq!(copies.find(0x1000, Level::TWO), None);
    }

    #[test]
    fn tables_that_lie_side_by_side_are_all_remembered() {
        let mut copies = Copies::default();
        for table in 0..10_000 {
            copies.remember(table << 12, Level::ONE, table);
        }
        assert!((0..10_000).all(|table| copies.find(table << 12, Level::ONE) == Some(table)));
    }

    #[test]
    fn a_table_that_was_forgotten_is_not_found_and_the_others_are() {
        let mut copies = Copies::default();
        (0..100).for_each(|table| copies.remember(table << 12, Level::TWO, table));
        copies.forget(7 << 12, Level::TWO);
        copies.forget(7 << 12, Level::ONE);
        let found = (0..100).filter(|table| copies.find(table << 12, Level::TWO).is_some());
        assert_eq!(found.count(), 99);
        assert_eq!(copies.find(7 << 12, Level::TWO), None);
    }

    #[test]
    fn an_empty_map_finds_nothing() {
        assert_eq!(Copies::default().find(0, Level::FIVE), None);
    }
}
