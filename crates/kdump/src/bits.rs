//! Packs bits into bytes, starting at bit 0, as zlib and zstd require.

use crate::{BLOCK, Page};

/// A code word, or what follows one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    /// From bit 0 on; those above `len` are 0.
    pub(crate) bits: u32,
    /// How many there are.
    pub(crate) len: u32,
}

impl Bits {
    /// The lowest `len` bits of a number.
    #[inline]
    pub(crate) const fn lowest(len: u32, number: u32) -> Self {
        Self { bits: number & ((1 << len) - 1), len }
    }

    /// These bits, followed by others: at most 32 together.
    pub(crate) const fn and_then(self, others: Self) -> Self {
        Self { bits: self.bits | others.bits << self.len, len: self.len + others.len }
    }
}

/// Writes bits to a page.
pub(crate) struct BitWriter<'o> {
    output: &'o mut Page,
    /// Bytes in `output`.
    len: usize,
    /// Bits that are not yet in `output`: less than eight after [`flush`](Self::flush).
    bits: u64,
    count: u32,
}

impl<'o> BitWriter<'o> {
    /// Leaves the first `len` bytes of `output` as they are.
    pub(crate) fn new(output: &'o mut Page, len: usize) -> Self {
        Self { output, len, bits: 0, count: 0 }
    }

    /// Bytes in the output.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends bits. There is room for 56 until they are flushed.
    #[inline]
    pub(crate) fn add(&mut self, Bits { bits, len }: Bits) {
        self.bits |= u64::from(bits) << (self.count % u64::BITS);
        self.count += len;
    }

    /// Appends some after the other.
    #[inline]
    pub(crate) fn add_all<const N: usize>(&mut self, all: [Bits; N]) {
        for bits in all {
            self.add(bits);
        }
    }

    /// Moves all whole bytes to the output; `None` if it is nearly full.
    ///
    /// Always stores eight bytes, however many are whole: to ask first would cost more than the store.
    #[inline]
    pub(crate) fn flush(&mut self) -> Option<()> {
        *self.output.get_mut(self.len..)?.first_chunk_mut()? = self.bits.to_le_bytes();
        let whole = self.count / 8;
        self.len += whole as usize;
        self.bits >>= whole * 8 % u64::BITS;
        self.count %= 8;
        Some(())
    }

    /// Fills up the last byte and appends others; returns the length of it all, or `None` if that is no less than a page.
    pub(crate) fn finish(mut self, others: &[u8]) -> Option<usize> {
        self.count = self.count.next_multiple_of(8);
        self.flush()?;
        let end = self.len + others.len();
        self.output.get_mut(self.len..end)?.copy_from_slice(others);
        Some(end).filter(|end| *end < BLOCK)
    }
}
