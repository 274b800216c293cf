//! Lists that say how much they leave out.

use alloc::vec::Vec;

use machine::growth;
use serde::{Deserialize, Serialize};

/// The most items of any list: it limits memory, not the size of machines.
const LIMIT: usize = 4096;

/// The first items of a list, and how many more there were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List<T> {
    /// The first items.
    pub listed: Vec<T>,
    /// How many items were left out.
    pub unlisted: u64,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { listed: Vec::new(), unlisted: 0 }
    }
}

impl<T> List<T> {
    /// Adds an item, or only counts it if the list is full or there is no memory.
    pub fn push(&mut self, item: T) {
        let has_room = self.unlisted == 0 && self.listed.len() < LIMIT;
        if !has_room || growth::push(&mut self.listed, item).is_err() {
            self.leave_out(1);
        }
    }

    /// Counts items that are not added.
    pub fn leave_out(&mut self, count: u64) {
        self.unlisted = self.unlisted.saturating_add(count);
    }

    /// How many items there were.
    pub fn count(&self) -> u64 {
        self.unlisted.saturating_add(self.listed.len() as u64)
    }

    /// Leaves out the later half of the items.
    pub(crate) fn halve(&mut self) {
        let keep = self.listed.len() / 2;
        self.leave_out((self.listed.len() - keep) as u64);
        self.listed.truncate(keep);
    }
}

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut list = Self::default();
        items.into_iter().for_each(|item| list.push(item));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_limit_is_counted() {
        let list: List<usize> = (0..LIMIT + 3).collect();
        assert_eq!((list.listed.len(), list.unlisted, list.count()), (LIMIT, 3, LIMIT as u64 + 3));
    }

    #[test]
    fn half_of_one_is_none_and_nothing_is_forgotten() {
        let mut list: List<u8> = [7].into_iter().collect();
        list.halve();
        assert_eq!((list.listed.len(), list.count()), (0, 1));
    }
}
