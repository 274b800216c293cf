//! Records which blocks of the dump were written, as a few sorted, disjoint extents.

use core::ops::Range as Blocks;

/// Most separate extents that are recorded. A dump is a handful of sequential streams, each one extent.
pub const MAX_EXTENTS: usize = 16;

/// All extents are in use and another one would be needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Sorted, disjoint, non-adjacent extents of block numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents {
    extents: [Extent; MAX_EXTENTS],
    len: usize,
}

/// Half-open: from block `start` up to, not including, block `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Extent {
    start: u64,
    end: u64,
}

impl Extents {
    /// The extents in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Blocks<u64>> {
        self.as_slice().iter().map(|extent| extent.start..extent.end)
    }

    /// Whether the extents contain all of the blocks `0..blocks`.
    pub fn cover_first(&self, blocks: u64) -> bool {
        blocks == 0 || self.as_slice().first().is_some_and(|first| first.start == 0 && first.end >= blocks)
    }

    /// Whether the extents contain all of these blocks.
    pub fn contain_all(&self, blocks: Blocks<u64>) -> bool {
        let holds = |extent: &Extent| extent.start <= blocks.start && blocks.end <= extent.end;
        blocks.is_empty() || self.as_slice().iter().any(holds)
    }

    /// The first block after the last extent; 0 if there are no extents.
    pub fn end(&self) -> u64 {
        self.as_slice().last().map_or(0, |last| last.end)
    }

    /// The recorded blocks among `blocks`, in ascending runs of at most `most`, cut where the number of a block is a multiple of
    /// `most`.
    pub(crate) fn runs(&self, blocks: Blocks<u64>, most: u64) -> impl Iterator<Item = Blocks<u64>> {
        let inside =
            self.iter().map(move |extent| extent.start.max(blocks.start)..extent.end.min(blocks.end));
        inside.filter(|part| part.start < part.end).flat_map(move |part| {
            let pieces = part.start / most..part.end.div_ceil(most);
            pieces.map(move |piece| part.start.max(piece * most)..part.end.min((piece + 1) * most))
        })
    }

    /// Number of blocks in all extents.
    pub fn blocks(&self) -> u64 {
        self.as_slice().iter().map(|extent| extent.end - extent.start).sum()
    }

    /// Adds an extent, and merges it with those that it overlaps or touches. Changes nothing if it returns [`Full`].
    pub(crate) fn insert(&mut self, blocks: Blocks<u64>) -> Result<(), Full> {
        if blocks.is_empty() {
            return Ok(());
        }
        let first = self.as_slice().partition_point(|extent| extent.end < blocks.start);
        let after = self.as_slice().partition_point(|extent| extent.start <= blocks.end);
        if first == after {
            return self.insert_at(first, Extent { start: blocks.start, end: blocks.end });
        }
        let merged = Extent {
            start: blocks.start.min(self.extents[first].start),
            end: blocks.end.max(self.extents[after - 1].end),
        };
        self.extents[first] = merged;
        self.extents.copy_within(after..self.len, first + 1);
        self.len -= after - first - 1;
        self.extents[self.len..].fill(Extent::default());
        Ok(())
    }

    fn insert_at(&mut self, index: usize, extent: Extent) -> Result<(), Full> {
        if self.len == MAX_EXTENTS {
            return Err(Full);
        }
        self.extents.copy_within(index..self.len, index + 1);
        self.extents[index] = extent;
        self.len += 1;
        Ok(())
    }

    fn as_slice(&self) -> &[Extent] {
        &self.extents[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn extents(of: &[Blocks<u64>]) -> Extents {
        let mut extents = Extents::default();
        for blocks in of {
            extents.insert(blocks.clone()).unwrap();
        }
        extents
    }

    #[test]
    fn streams_that_meet_become_one_extent() {
        let streams = extents(&[0..1, 5..6, 10..12, 6..10, 1..5]);
        assert_eq!((streams.iter().count(), streams.blocks()), (1, 12));
        assert!(streams.cover_first(12));
        assert!(!streams.cover_first(13));
    }

    #[test]
    fn a_seventeenth_extent_is_refused_and_changes_nothing() {
        let mut full = Extents::default();
        for n in 0..MAX_EXTENTS as u64 {
            full.insert(2 * n..2 * n + 1).unwrap();
        }
        let before = full.clone();
        assert_eq!(full.insert(100..101), Err(Full));
        assert_eq!(full, before);
        assert_eq!(full.insert(1..2), Ok(()), "one that joins two others fits");
    }

    proptest! {
        #[test]
        fn extents_hold_exactly_the_blocks_put_in(
            inserted in prop::collection::vec((0_u64..60, 0_u64..9), 0..30)
        ) {
            let (mut extents, mut model) = (Extents::default(), BTreeSet::new());
            for (start, len) in inserted {
                if extents.insert(start..start + len).is_ok() {
                    model.extend(start..start + len);
                }
            }
            let held: Vec<u64> = extents.iter().flatten().collect();
            prop_assert_eq!(&held, &model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(extents.blocks(), model.len() as u64);
            prop_assert_eq!(extents.end(), model.last().map_or(0, |last| last + 1));
            let all_in = |start: u64, end: u64| (start..end).all(|block| model.contains(&block));
            prop_assert!((0..70).all(|start| extents.contain_all(start..40) == all_in(start, 40)));
            let runs: Vec<_> = extents.runs(10..50, 4).collect();
            prop_assert!(runs.iter().all(|run| run.start < run.end && run.start / 4 == (run.end - 1) / 4));
            prop_assert!(runs.into_iter().flatten().eq(held.into_iter().filter(|block| (10..50).contains(block))));
            prop_assert!(extents.iter().zip(extents.iter().skip(1)).all(|(a, b)| a.end < b.start));
        }
    }
}
