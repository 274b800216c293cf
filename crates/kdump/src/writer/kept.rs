//! The kept page frames that have no place in the file yet.

use machine::{BlockDevice, ByteOffset, Range};

use super::WriteError;
use crate::Bitmap;
use crate::layout::{DESCRIPTOR_LEN, Geometry};
use crate::stream::ReadBack;

/// A kept page frame, on its way to its place in the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pfn: u64,
    /// How many kept page frames are before it: the number of its descriptor.
    pub(super) index: u64,
}

impl Frame {
    /// Its page frame number.
    pub fn pfn(&self) -> u64 {
        self.pfn
    }
}

/// The kept page frames without a place, in ascending order, read back from the second bitmap and, after the first pass,
/// from the descriptors.
pub(super) struct KeptFrames {
    bits: ReadBack,
    /// The bitmap's place in the file.
    bitmap: Range<ByteOffset>,
    /// Bits of the current word that were not yet returned.
    word: u64,
    /// Page frame number of the first bit after the current word.
    next_word: u64,
    /// Number of the next kept page frame's descriptor.
    next_index: u64,
    /// Descriptors as the last pass left them; nothing in the first.
    descriptors: ReadBack,
}

impl KeptFrames {
    pub(super) fn new(geometry: Geometry) -> Result<Self, WriteError> {
        let start = geometry.bitmap(Bitmap::Kept);
        let bitmap = Range::from(start..start + geometry.bitmap_len());
        let (bits, descriptors) = (ReadBack::new(bitmap)?, ReadBack::new(Range::default())?);
        Ok(Self { bits, bitmap, word: 0, next_word: 0, next_index: 0, descriptors })
    }

    /// Starts over, without the frames that have a descriptor in the table at `descriptors`.
    pub(super) fn restart(&mut self, descriptors: Range<ByteOffset>) {
        self.bits.restart(self.bitmap);
        self.descriptors.restart(descriptors);
        (self.word, self.next_word, self.next_index) = (0, 0, 0);
    }

    /// The next frame without a place; `None` after the last.
    pub(super) fn next<D: BlockDevice + ?Sized>(
        &mut self,
        device: &mut D,
    ) -> Result<Option<Frame>, WriteError> {
        while let Some(pfn) = self.next_kept(device)? {
            let index = self.next_index;
            self.next_index += 1;
            if !self.next_has_place(device)? {
                return Ok(Some(Frame { pfn, index }));
            }
        }
        Ok(None)
    }

    fn next_kept<D: BlockDevice + ?Sized>(&mut self, device: &mut D) -> Result<Option<u64>, WriteError> {
        while self.word == 0 {
            self.next_word += 64 * self.bits.skip_hole(device);
            let Some(word) = self.bits.next_word(device)? else { return Ok(None) };
            self.word = word;
            self.next_word += 64;
        }
        let bit = u64::from(self.word.trailing_zeros());
        self.word &= self.word - 1;
        Ok(Some(self.next_word - 64 + bit))
    }

    /// Whether the next descriptor names a place: its first word is the offset.
    fn next_has_place<D: BlockDevice + ?Sized>(&mut self, device: &mut D) -> Result<bool, WriteError> {
        let offset = self.descriptors.next_word(device)?;
        for _ in 1..DESCRIPTOR_LEN / 8 {
            self.descriptors.next_word(device)?;
        }
        Ok(offset.is_some_and(|offset| offset != 0))
    }
}
