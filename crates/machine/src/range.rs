//! Half-open ranges of addresses.

use core::fmt;

/// A half-open range of addresses, `start..end`, physical or I/O virtual as the context says.
///
/// A range whose `end` is not above its `start` is empty. Unlike `core::ops::Range` it is `Copy` and ordered.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// First address inside.
    pub start: u64,
    /// First address after.
    pub end: u64,
}

impl Range {
    /// The range from `start` up to, not including, `end`.
    pub const fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// The `len` addresses from `start`; `None` if they would pass the end of the address space.
    pub const fn sized(start: u64, len: u64) -> Option<Self> {
        match start.checked_add(len) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// How many addresses lie inside.
    pub const fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether no address lies inside.
    pub const fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// Whether `address` lies inside.
    pub const fn contains(self, address: u64) -> bool {
        self.start <= address && address < self.end
    }

    /// Whether every address of `other` lies inside.
    pub const fn covers(self, other: Self) -> bool {
        other.is_empty() || (self.start <= other.start && other.end <= self.end)
    }

    /// Whether an address lies in both.
    pub const fn overlaps(self, other: Self) -> bool {
        !self.is_empty() && !other.is_empty() && self.start < other.end && other.start < self.end
    }

    /// The addresses that lie in both; empty if there are none.
    pub fn intersection(self, other: Self) -> Self {
        Self { start: self.start.max(other.start), end: self.end.min(other.end) }
    }
}

impl fmt::Debug for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_only_touch_do_not_overlap() {
        assert!(!Range::new(0, 4).overlaps(Range::new(4, 8)));
        assert!(Range::new(0, 5).overlaps(Range::new(4, 8)));
    }

    #[test]
    fn an_empty_range_overlaps_nothing_and_is_covered_by_all() {
        let empty = Range::new(6, 2);
        assert_eq!(empty.len(), 0);
        assert!(!empty.overlaps(Range::new(0, 100)));
        assert!(Range::new(50, 60).covers(empty));
    }

    #[test]
    fn a_range_past_the_address_space_is_refused() {
        assert_eq!(Range::sized(u64::MAX - 1, 2), None);
    }
}
