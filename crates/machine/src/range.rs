//! Half-open ranges, typed by what they count.

use core::fmt;

/// The positions that a range can have: addresses of one kind, or plain numbers, in their order.
pub trait Position: Copy + Ord {
    /// The position `count` after this one; `None` if that would pass the last position.
    fn checked_add(self, count: u64) -> Option<Self>;

    /// Number of positions from `start` up to this one; 0 if this one comes first.
    fn count_since(self, start: Self) -> u64;
}

impl Position for u64 {
    fn checked_add(self, count: u64) -> Option<Self> {
        self.checked_add(count)
    }

    fn count_since(self, start: Self) -> u64 {
        self.saturating_sub(start)
    }
}

/// A half-open range, `start..end`, of whatever `T` counts: addresses of one kind, page frames, bytes of a file.
///
/// A range whose `end` is not above its `start` is empty. Unlike `core::ops::Range` it is `Copy` and ordered.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range<T> {
    /// First position inside.
    pub start: T,
    /// First position after the range.
    pub end: T,
}

impl<T> Range<T> {
    /// The range from `start` up to, not including, `end`.
    pub const fn new(start: T, end: T) -> Self {
        Self { start, end }
    }
}

impl<T: Position> Range<T> {
    /// The range of `len` positions from `start`; `None` if it would pass the last position.
    pub fn sized(start: T, len: u64) -> Option<Self> {
        Some(Self { start, end: start.checked_add(len)? })
    }

    /// Number of positions inside.
    pub fn len(self) -> u64 {
        self.end.count_since(self.start)
    }

    /// Whether the range contains no position.
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// Whether `one` lies inside.
    pub fn contains(self, one: T) -> bool {
        self.start <= one && one < self.end
    }

    /// Whether all of `other` lies inside.
    pub fn covers(self, other: Self) -> bool {
        other.is_empty() || (self.start <= other.start && other.end <= self.end)
    }

    /// Whether the ranges have a position in common.
    pub fn overlaps(self, other: Self) -> bool {
        !self.is_empty() && !other.is_empty() && self.start < other.end && other.start < self.end
    }

    /// The positions in both ranges; empty if there are none.
    pub fn intersection(self, other: Self) -> Self {
        Self { start: self.start.max(other.start), end: self.end.min(other.end) }
    }
}

/// The range between two numbers.
impl<T: From<u64>> From<core::ops::Range<u64>> for Range<T> {
    fn from(numbers: core::ops::Range<u64>) -> Self {
        Self { start: numbers.start.into(), end: numbers.end.into() }
    }
}

impl<T: fmt::LowerHex> fmt::Debug for Range<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end)
    }
}

impl<T: fmt::LowerHex> fmt::Display for Range<T> {
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
