//! Finds repetitions within a page, fast.
//!
//! Much of a kernel's memory is arrays of structures that differ in a few bytes. The search therefore tries first
//! whether the last repetition continues after a byte or two, and only then looks up in a table where the same six
//! bytes were last seen. It builds nothing per page; compression libraries spend most of their instructions on that
//! when the input is only 4 KiB. The table is small: clearing it costs less than telling the entries of earlier pages
//! apart.
//!
//! The time depends on the number of repetitions, because the search for each must wait for the end of the one
//! before: the processor predicts neither where a repetition begins nor how long it is. The search therefore skips
//! short repetitions. It finds the end of a repetition by a branch that leads from eight bytes to the next eight: if
//! the processor predicts this branch, it does not wait.

#![expect(clippy::inline_always, reason = "calls for each repetition would take an eighth of the time")]

use alloc::boxed::Box;

use machine::growth::{OutOfMemory, boxed_array};

use crate::{BLOCK, Page};

/// Binary logarithm of the number of entries in the table of earlier places.
const SLOT_BITS: u32 = 10;
/// Only multiples of this are looked up: the data that a kernel keeps in memory begins at even addresses.
const STEP: usize = 2;
/// Bytes that the table hashes. Shorter repetitions save little, and take as much time as long ones.
const KNOWN: u32 = 6;

/// The table, used for one page after the other.
///
/// After each `PATIENCE` bytes without a repetition, the search skips one more step between two lookups. A smaller value is
/// faster, and finds less.
pub(crate) struct Repeats<const PATIENCE: usize = 32> {
    /// For each hash of some bytes, their last place in the page. 0 also means nowhere: the search compares the bytes in
    /// any case.
    slots: Box<[u16; 1 << SLOT_BITS]>,
    /// Distance of the last repetition in this page; before the first one, the size of a word.
    distance: usize,
}

/// A repetition of earlier bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeat {
    /// Where the repetition begins.
    pub(crate) at: usize,
    /// Distance, in bytes, back to the earlier ones.
    pub(crate) distance: usize,
    /// How many bytes are repeated: at least six.
    pub(crate) len: usize,
}

impl<const PATIENCE: usize> Repeats<PATIENCE> {
    /// Allocates the table: 2 KiB.
    pub(crate) fn new() -> Result<Self, OutOfMemory> {
        Ok(Self { slots: boxed_array(0)?, distance: size_of::<u64>() })
    }

    /// Clears the table before another page.
    pub(crate) fn forget(&mut self) {
        self.slots.fill(0);
        self.distance = size_of::<u64>();
    }

    /// The next repetition in the bytes from `literals` on; `None` if there is no more.
    #[inline(always)]
    pub(crate) fn next(&mut self, page: &Page, literals: usize) -> Option<Repeat> {
        let (at, end) = self.again(page, literals).or_else(|| self.search(page, literals))?;
        Some(Repeat { at, distance: self.distance, len: end - at })
    }

    /// Finds six bytes, within the next eight, that repeat those at the distance of the last repetition; returns where they
    /// begin and where the repetition ends.
    #[inline(always)]
    fn again(&self, page: &Page, literals: usize) -> Option<(usize, usize)> {
        let difference = difference(page, literals, self.distance)?;
        let skip = (0..=8 - KNOWN).find(|skip| known(difference >> (skip * 8)) == 0)?;
        let behind = difference & (u64::MAX << (skip * 8));
        Some((literals + skip as usize, end(page, literals, self.distance, behind)))
    }

    /// Finds by the table the next repetition from `literals` on; returns where it begins and ends, and notes its distance.
    #[inline(always)]
    fn search(&mut self, page: &Page, literals: usize) -> Option<(usize, usize)> {
        let mut at = literals.next_multiple_of(STEP).max(STEP);
        loop {
            let slot = &mut self.slots[hash(eight(page, at)?)];
            // The entry is a place that was looked up before, or 0.
            let distance = at - usize::from(core::mem::replace(slot, at as u16));
            let difference = difference(page, at, distance)?;
            if known(difference) == 0 {
                self.distance = distance;
                let before = equal_before(page, at, distance).min(at - literals);
                return Some((at - before, end(page, at, distance, difference)));
            }
            at += STEP * (1 + (at - literals) / PATIENCE);
        }
    }
}

/// The part of eight bytes that the table hashes, as the highest bytes.
fn known(eight: u64) -> u64 {
    eight << (u64::BITS - KNOWN * 8)
}

/// The table's slot for eight bytes: multiplicative hashing with the golden ratio, whose upper bits depend on all of them.
fn hash(eight: u64) -> usize {
    (known(eight).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - SLOT_BITS)) as usize
}

/// The end of the bytes from `at` on that equal those at a distance before them; the first eight have a `difference`.
#[inline(always)]
fn end(page: &Page, mut at: usize, distance: usize, mut difference: u64) -> usize {
    while difference == 0 {
        at += 8;
        match self::difference(page, at, distance) {
            Some(next) => difference = next,
            None => return last_end(page, at, distance),
        }
    }
    at + difference.trailing_zeros() as usize / 8
}

/// The same for the last bytes of the page, fewer than eight.
#[inline(never)]
fn last_end(page: &Page, at: usize, distance: usize) -> usize {
    at + (at..BLOCK).take_while(|at| page[*at] == page[at - distance]).count()
}

/// How many of the eight bytes before `at` equal those in a distance before them, counted backwards.
#[inline(always)]
fn equal_before(page: &Page, at: usize, distance: usize) -> usize {
    let difference = at.checked_sub(8).and_then(|at| difference(page, at, distance));
    difference.map_or(0, |difference| difference.leading_zeros() as usize / 8)
}

/// In which bits eight bytes differ from those in a distance before them, if the page has both.
#[inline(always)]
fn difference(page: &Page, at: usize, distance: usize) -> Option<u64> {
    Some(eight(page, at)? ^ eight(page, at.checked_sub(distance)?)?)
}

/// Eight bytes as a little-endian number, if the page has as many.
#[inline(always)]
fn eight(page: &Page, at: usize) -> Option<u64> {
    page.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first repetition behind `literals` in a page that begins with `bytes`.
    fn first(bytes: &[u8], literals: usize, distance: usize) -> Option<Repeat> {
        let mut random = fastrand::Rng::with_seed(1);
        let mut page = core::array::from_fn(|_| random.u8(..));
        page[..bytes.len()].copy_from_slice(bytes);
        let mut repeats: Repeats = Repeats::new().unwrap();
        repeats.distance = distance;
        repeats.next(&page, literals)
    }

    #[test]
    fn a_repetition_goes_on_after_bytes_that_differ() {
        let bytes = b"one two three 1.one two four? 2.";
        assert_eq!(first(bytes, 0, 16), Some(Repeat { at: 16, distance: 16, len: 8 }));
        let bytes = b"abc.efghij.abcdefghij!";
        assert_eq!(first(bytes, 14, 11), Some(Repeat { at: 15, distance: 11, len: 6 }));
    }

    #[test]
    fn a_repetition_begins_before_the_bytes_that_the_table_knows() {
        let bytes = b"0123456789abcdefghij-01234-789abcdefg!";
        assert_eq!(first(bytes, 1, 8), Some(Repeat { at: 27, distance: 20, len: 10 }));
    }
}
