//! Second stage: which page frames exist, and which of them are kept.

use machine::BlockDevice;

use super::{File, Pages, WriteError};
use crate::codec::Codec;
use crate::stream::Stream;

/// Takes both bitmaps, in pieces.
pub struct Bitmaps<'d, D: ?Sized> {
    pub(super) file: File<'d, D>,
    pub(super) codec: Codec,
    pub(super) existing: Stream,
    pub(super) kept: Stream,
    /// Page frames whose bits are still to come.
    pub(super) frames_left: u64,
    /// Bits set in `kept`.
    pub(super) pages: u64,
}

impl<'d, D: BlockDevice + ?Sized> Bitmaps<'d, D> {
    /// Appends the bits of the next page frames, eight in a byte, the lowest in bit 0.
    ///
    /// Both parts cover the same frames; bits past the last frame are ignored.
    pub fn push(&mut self, existing: &[u8], kept: &[u8]) -> Result<(), WriteError> {
        if existing.len() != kept.len() || kept.len() as u64 > self.frames_left.div_ceil(8) {
            return Err(WriteError::WrongBitmap);
        }
        self.file.push_bits(&mut self.existing, existing, self.frames_left)?;
        self.pages += self.file.push_bits(&mut self.kept, kept, self.frames_left)?;
        self.frames_left = self.frames_left.saturating_sub(kept.len() as u64 * 8);
        Ok(())
    }

    /// Appends the bits of so many page frames, a multiple of eight, that neither exist nor are kept.
    pub fn push_none(&mut self, frames: u64) -> Result<(), WriteError> {
        if !frames.is_multiple_of(8) || frames > self.frames_left {
            return Err(WriteError::WrongBitmap);
        }
        for stream in [&mut self.existing, &mut self.kept] {
            stream.push_zeros(&mut self.file.target, frames / 8)?;
        }
        self.frames_left -= frames;
        Ok(())
    }

    /// Goes on to the pages. Frames without bits neither exist nor are kept.
    pub fn finish(mut self) -> Result<Pages<'d, D>, WriteError> {
        self.existing.fill(&mut self.file.target)?;
        self.kept.fill(&mut self.file.target)?;
        Pages::new(self.file, self.codec, self.pages)
    }
}

impl<D: BlockDevice + ?Sized> File<'_, D> {
    /// Appends `bits` without those from the `limit`th on; returns how many were set.
    fn push_bits(&mut self, stream: &mut Stream, bits: &[u8], limit: u64) -> Result<u64, WriteError> {
        let whole = bits.len().min((limit / 8) as usize);
        let (whole, cut) = bits.split_at(whole);
        stream.push(&mut self.target, whole)?;
        let mut count = ones(whole);
        if let Some(last) = cut.first() {
            let last = last & ((1 << (limit % 8)) - 1);
            stream.push(&mut self.target, &[last])?;
            count += ones(&[last]);
        }
        Ok(count)
    }
}

fn ones(bits: &[u8]) -> u64 {
    let (words, rest) = bits.as_chunks();
    let in_words = words.iter().map(|word| u64::from_le_bytes(*word).count_ones());
    in_words.chain(rest.iter().map(|byte| byte.count_ones())).map(u64::from).sum()
}
