//! Finds what a page repeats of itself: one look into a table of where the same four bytes were last.
//!
//! There is nothing to build per page, on which compression libraries spend most of their instructions when the input is only
//! 4 KiB. The table is so small that to clear it costs less than to tell the entries of earlier pages apart did.

use alloc::boxed::Box;

use crate::{BLOCK, Page};

/// Binary logarithm of the number of entries in the table of earlier places.
const SLOT_BITS: u32 = 12;
/// After so many bytes without a repetition, one more byte is passed over between two looks.
const PATIENCE: usize = 16;
/// Bytes that a repetition has at least; what the formats save by shorter ones is rarely worth the look.
const SHORTEST: usize = 4;

/// A page is given up if an eighth of its bytes so far, less this many, was not saved.
const GRACE: usize = 256;

/// The table, used for one page after the other.
pub(crate) struct Repeats {
    /// For each hash of four bytes, where in the page they were last. 0 also stands for nowhere: whether the bytes are there is
    /// looked up in any case.
    slots: Box<[u16; 1 << SLOT_BITS]>,
}

/// Bytes that were there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeat {
    /// Where the repetition begins.
    pub(crate) at: usize,
    /// How many bytes before that they were first.
    pub(crate) distance: usize,
    /// How many bytes are repeated.
    pub(crate) len: usize,
}

impl Repeats {
    /// Allocates the table: 8 KiB.
    pub(crate) fn new() -> Self {
        Self { slots: Box::new([0; 1 << SLOT_BITS]) }
    }

    /// Forgets all places: what follows is another page.
    pub(crate) fn forget(&mut self) {
        self.slots.fill(0);
    }

    /// The next repetition in the bytes from `literals` on, of `longest` bytes at most; `None` if there is no more.
    #[inline]
    pub(crate) fn next(&mut self, page: &Page, literals: usize, longest: usize) -> Option<Repeat> {
        let mut at = literals;
        loop {
            let four = page.get(at..)?.first_chunk::<SHORTEST>()?;
            if let Some(earlier) = self.earlier(page, at, *four) {
                let len = common_len(page, earlier, at, longest);
                return Some(Repeat { at, distance: at - earlier, len });
            }
            at += 1 + (at - literals) / PATIENCE;
        }
    }

    /// Where in the page the `four` bytes at `at` were last, and notes that they are here.
    #[inline]
    fn earlier(&mut self, page: &Page, at: usize, four: [u8; SHORTEST]) -> Option<usize> {
        // Multiplicative hashing with the golden ratio: the upper bits depend on all four bytes.
        let hash = u32::from_le_bytes(four).wrapping_mul(0x9E37_79B1) >> (u32::BITS - SLOT_BITS);
        let earlier = usize::from(core::mem::replace(&mut self.slots[hash as usize], at as u16));
        (earlier < at && page.get(earlier..)?.first_chunk() == Some(&four)).then_some(earlier)
    }
}

/// Whether it is worth while to go on with a page of which `done` bytes became `len`; `None` if not.
///
/// Pages of which next to nothing is saved cost more time than all others. A page of noise that ends in zeros is not given up for
/// its noise, unless that is nearly all of it.
#[inline]
pub(crate) fn still_worthwhile(done: usize, len: usize) -> Option<()> {
    (len + done / 8 <= done + GRACE).then_some(())
}

/// How many bytes from `earlier` on equal those from `at` on, up to `longest`; the first four do.
fn common_len(page: &Page, earlier: usize, at: usize, longest: usize) -> usize {
    let longest = longest.min(BLOCK - at);
    let mut len = SHORTEST;
    while let (Some(left), Some(right)) = (eight(page, earlier + len), eight(page, at + len)) {
        let difference = left ^ right;
        if difference != 0 {
            return longest.min(len + difference.trailing_zeros() as usize / 8);
        }
        len += 8;
        if len >= longest {
            return longest;
        }
    }
    while len < longest && page[earlier + len] == page[at + len] {
        len += 1;
    }
    len
}

/// Eight bytes as a little-endian number, if the page has as many.
fn eight(page: &Page, at: usize) -> Option<u64> {
    page.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
