//! Sorted lists of address ranges: a bounded list, and a cursor over two lists.

#![cfg_attr(not(test), expect(clippy::disallowed_methods, reason = "memory is taken before"))]

use crate::OutOfMemory;
use alloc::vec::Vec;
use machine::{IoAddress, Range};

/// When the list is full, one gap in this many is closed: enough to keep each insertion cheap on average.
const CLOSE_ONE_IN: usize = 16;

/// A set of addresses as ascending ranges, none of which touches the next.
///
/// When there is no room for one more range, the set becomes a superset of what was inserted.
#[derive(Debug)]
pub(crate) struct Runs {
    list: Vec<Range<IoAddress>>,
    limit: usize,
    gaps_closed: u64,
}

impl Runs {
    /// An empty set of at most `limit` ranges, or two if that is more.
    pub(crate) fn new(limit: usize) -> Result<Self, OutOfMemory> {
        let mut list = Vec::new();
        list.try_reserve_exact(2).map_err(|_| OutOfMemory)?;
        Ok(Self { list, limit: limit.max(2), gaps_closed: 0 })
    }

    /// The same set, apart from this one.
    pub(crate) fn twin(&self) -> Result<Self, OutOfMemory> {
        let mut list = Vec::new();
        list.try_reserve_exact(self.list.len().max(2)).map_err(|_| OutOfMemory)?;
        list.extend_from_slice(&self.list);
        Ok(Self { list, limit: self.limit, gaps_closed: self.gaps_closed })
    }

    pub(crate) fn list(&self) -> &[Range<IoAddress>] {
        &self.list
    }

    pub(crate) fn gaps_closed(&self) -> u64 {
        self.gaps_closed
    }

    /// Adds every address of `range`.
    pub(crate) fn insert(&mut self, range: Range<IoAddress>) {
        if range.is_empty() {
            return;
        }
        let first = self.first_touching(range);
        let touching = self.list[first..].partition_point(|run| run.start <= range.end);
        if touching == 0 {
            self.insert_apart(first, range);
        } else {
            self.absorb(first..first + touching, range);
        }
    }

    /// Index of the first run that ends at or after the start of `range`.
    fn first_touching(&self, range: Range<IoAddress>) -> usize {
        let before = |run: &Range<IoAddress>| run.end < range.start;
        match self.list.split_last() {
            // In ascending order, as page tables are walked, only the last run matters.
            Some((last, _)) if last.start <= range.start => self.list.len() - usize::from(!before(last)),
            _ => self.list.partition_point(before),
        }
    }

    /// Replaces the `runs`, all of which touch `range`, by their union with it.
    fn absorb(&mut self, runs: core::ops::Range<usize>, range: Range<IoAddress>) {
        let (first, last) = (self.list[runs.start], self.list[runs.end - 1]);
        self.list[runs.start] = Range::new(first.start.min(range.start), last.end.max(range.end));
        self.list.drain(runs.start + 1..runs.end);
    }

    /// Inserts a `range` that touches no run.
    fn insert_apart(&mut self, at: usize, range: Range<IoAddress>) {
        if self.has_room() {
            self.list.insert(at, range);
        } else {
            self.close_smallest_gaps();
            self.insert(range);
        }
    }

    /// Whether one more run can be stored: within the limit and in memory, which grows no further than the limit.
    fn has_room(&mut self) -> bool {
        let len = self.list.len();
        let growth = len.clamp(1, (self.limit - len).max(1));
        len < self.limit && (len < self.list.capacity() || self.list.try_reserve_exact(growth).is_ok())
    }

    /// Closes the smallest gaps, one in [`CLOSE_ONE_IN`] but at least one. Gaps count as equal if their sizes have
    /// the same binary logarithm.
    ///
    /// Closing just one gap would lose fewer addresses, but takes quadratic time when a hostile table has millions of
    /// ranges.
    fn close_smallest_gaps(&mut self) {
        let quota = (self.list.len() / CLOSE_ONE_IN).max(1);
        let (largest, mut of_largest) = self.classes_to_close(quota);
        let before = self.list.len();
        self.list.dedup_by(|run, previous| {
            let class = gap_class(*previous, *run);
            let close = class < largest || (class == largest && of_largest > 0);
            if close {
                of_largest -= usize::from(class == largest);
                previous.end = run.end;
            }
            close
        });
        self.gaps_closed += (before - self.list.len()) as u64;
    }

    /// Which classes of gaps to close so that `quota` gaps close: all below the first result, and as many of that
    /// class as the second says.
    fn classes_to_close(&self, quota: usize) -> (usize, usize) {
        let mut histogram = [0_usize; u64::BITS as usize];
        for pair in self.list.windows(2) {
            histogram[gap_class(pair[0], pair[1])] += 1;
        }
        let mut left = quota;
        for (class, gaps) in histogram.into_iter().enumerate() {
            if gaps >= left {
                return (class, left);
            }
            left -= gaps;
        }
        (histogram.len(), 0)
    }
}

/// Binary logarithm of the gap between two neighbours.
fn gap_class(previous: Range<IoAddress>, run: Range<IoAddress>) -> usize {
    Range::new(previous.end, run.start).len().checked_ilog2().unwrap_or(0) as usize
}

/// A place in both sorted lists of a space: in each, the first range that ends after some address.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    pub(crate) reserved: usize,
    pub(crate) allocated: usize,
}

impl Cursor {
    /// Moves to `wanted` and returns what overlaps it, if anything does.
    pub(crate) fn obstacle(
        &mut self,
        reserved: &[Range<IoAddress>],
        allocated: &[Range<IoAddress>],
        wanted: Range<IoAddress>,
    ) -> Option<Range<IoAddress>> {
        self.reserved = first_ending_after(reserved, wanted.start, self.reserved);
        self.allocated = first_ending_after(allocated, wanted.start, self.allocated);
        let candidates = [reserved.get(self.reserved), allocated.get(self.allocated)];
        candidates.into_iter().flatten().copied().find(|run| run.overlaps(wanted))
    }
}

/// Index of the first range in the sorted `list` that ends after `address`. Usually that is `guess` or the next one.
fn first_ending_after(list: &[Range<IoAddress>], address: IoAddress, guess: usize) -> usize {
    let before = |index: usize| list.get(index).is_some_and(|run| run.end <= address);
    let at_or_after = |index: usize| index <= list.len() && (index == 0 || before(index - 1));
    let is_it = |index: &usize| at_or_after(*index) && !before(*index);
    [guess, guess.saturating_add(1)]
        .into_iter()
        .find(is_it)
        .unwrap_or_else(|| list.partition_point(|run| run.end <= address))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn range(start: u64, end: u64) -> Range<IoAddress> {
        Range::new(IoAddress::new(start), IoAddress::new(end))
    }

    fn runs(limit: usize, ranges: &[(u64, u64)]) -> Runs {
        let mut runs = Runs::new(limit).unwrap();
        for &(start, end) in ranges {
            runs.insert(range(start, end));
        }
        runs
    }

    #[test]
    fn neighbours_and_overlaps_become_one_run() {
        let runs = runs(8, &[(10, 20), (30, 40), (20, 25), (24, 31), (50, 60)]);
        assert_eq!(runs.list(), [range(10, 40), range(50, 60)]);
    }

    #[test]
    fn a_full_list_closes_its_smallest_gap() {
        let runs = runs(3, &[(0, 10), (100, 110), (112, 120), (300, 310)]);
        assert_eq!(runs.list(), [range(0, 10), range(100, 120), range(300, 310)]);
        assert_eq!(runs.gaps_closed(), 1);
    }

    #[test]
    fn closing_gaps_can_make_the_range_that_did_not_fit_superfluous() {
        let runs = runs(2, &[(0, 10), (20, 30), (14, 16)]);
        assert_eq!(runs.list(), [range(0, 30)]);
    }

    #[test]
    fn no_more_memory_is_taken_than_the_limit_says() {
        let mut runs = Runs::new(100).unwrap();
        for start in 0..100_000 {
            runs.insert(range(start * 4, start * 4 + 1));
            assert!(runs.list().len() <= 100 && runs.list.capacity() <= 100);
        }
    }
}
