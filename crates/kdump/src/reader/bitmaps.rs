//! The bitmaps: which page frames there were, and which are kept. Kept pages are numbered by counting, and their descriptors are found
//! by that.

use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::{BlockDevice, Pfn, Range};

use super::{ReadError, Reader};
use crate::{BLOCK, Bitmap, Page};

/// Page frames that one block of a bitmap speaks for.
pub(super) const FRAMES_PER_BLOCK: u64 = 8 * BLOCK as u64;

/// A block of a bitmap.
pub(super) struct CachedBlock {
    index: Option<u64>,
    bits: Page,
}

impl CachedBlock {
    pub(super) const EMPTY: Self = Self { index: None, bits: [0; BLOCK] };
}

impl<D: BlockDevice> Reader<D> {
    /// The first page frame at or after `pfn` whose bit is set; `None` if there is none.
    pub fn next_set(&mut self, bitmap: Bitmap, pfn: u64) -> Result<Option<u64>, ReadError> {
        self.find(bitmap, pfn, |byte| byte)
    }

    /// The first run of page frames at or after `pfn` whose bits are set; `None` if there is none.
    pub fn next_run(&mut self, bitmap: Bitmap, pfn: u64) -> Result<Option<Range<Pfn>>, ReadError> {
        let Some(start) = self.next_set(bitmap, pfn)? else { return Ok(None) };
        let end = self.find(bitmap, start, |byte| !byte)?;
        Ok(Some(Range::from(start..end.unwrap_or(self.end(bitmap)))))
    }

    /// Clears those of `bits` that are not set in a bitmap; the first is page frame `first_pfn`'s, a multiple of 8.
    pub fn retain(&mut self, bitmap: Bitmap, first_pfn: u64, bits: &mut [u8]) -> Result<(), ReadError> {
        let (mut pfn, mut rest) = (first_pfn, bits);
        while !rest.is_empty() && pfn < self.end(bitmap) {
            let from = (pfn % FRAMES_PER_BLOCK / 8) as usize;
            let (now, later) = rest.split_at_mut(rest.len().min(BLOCK - from));
            let block = self.bits(bitmap, pfn / FRAMES_PER_BLOCK)?;
            now.iter_mut().zip(&block[from..]).for_each(|(bits, set)| *bits &= set);
            pfn = (pfn / FRAMES_PER_BLOCK + 1) * FRAMES_PER_BLOCK;
            rest = later;
        }
        rest.fill(0);
        Ok(())
    }

    /// Fills `kept_before`.
    pub(super) fn count_pages(&mut self) -> Result<(), ReadError> {
        let blocks = self.header.frames.div_ceil(FRAMES_PER_BLOCK);
        let mut kept_before = Vec::new();
        kept_before.try_reserve_exact(blocks as usize).map_err(|_| ReadError::OutOfMemory)?;
        while kept_before.len() < blocks as usize {
            let block = kept_before.len() as u64;
            let frames = (self.header.frames - block * FRAMES_PER_BLOCK).min(FRAMES_PER_BLOCK) as usize;
            let Ok(bits) = self.bits(Bitmap::Kept, block) else {
                // Descriptors are found by counting, so nothing is known of the pages behind.
                self.complete = false;
                break;
            };
            let ones = u64::from(count_ones(bits, frames));
            kept_before.push(self.kept);
            self.kept += ones;
            if ones == 0 {
                let next = self.next_block(Bitmap::Kept, block).min(blocks);
                kept_before.resize(next as usize, self.kept);
            }
        }
        self.known_kept = kept_before.len() as u64 * FRAMES_PER_BLOCK;
        self.kept_before = Arc::new(kept_before);
        Ok(())
    }

    /// The first page frame at or after `pfn` whose bit `seen` turns into a set one.
    fn find(&mut self, bitmap: Bitmap, pfn: u64, seen: impl Fn(u8) -> u8) -> Result<Option<u64>, ReadError> {
        let mut at = pfn;
        let end = self.end(bitmap);
        while at < end {
            let bits = self.bits(bitmap, at / FRAMES_PER_BLOCK)?;
            let found = first_set(bits, (at % FRAMES_PER_BLOCK) as u32, &seen);
            let block_start = at / FRAMES_PER_BLOCK * FRAMES_PER_BLOCK;
            if let Some(bit) = found {
                return Ok(Some(block_start + u64::from(bit)).filter(|pfn| *pfn < end));
            }
            at = block_start + FRAMES_PER_BLOCK;
            if seen(0) == 0 {
                at = self.next_block(bitmap, at / FRAMES_PER_BLOCK - 1) * FRAMES_PER_BLOCK;
            }
        }
        Ok(None)
    }

    /// The next block of a bitmap, without those of zeros that are a hole of the file. It may be behind the bitmap.
    fn next_block(&mut self, bitmap: Bitmap, index: u64) -> u64 {
        let (start, next) = (self.geometry.bitmap(bitmap), index + 1);
        let data = self.device.next_data(start + next * BLOCK as u64);
        next.max(data.saturating_sub(start) / BLOCK as u64)
    }

    /// Where the page frames end of which a bitmap speaks, as far as it is there.
    fn end(&self, bitmap: Bitmap) -> u64 {
        match bitmap {
            Bitmap::Existing => self.header.frames,
            Bitmap::Kept => self.header.frames.min(self.known_kept),
        }
    }

    /// A block of a bitmap; `index` is below the number of its blocks.
    pub(super) fn bits(&mut self, which: Bitmap, index: u64) -> Result<&Page, ReadError> {
        let cached = &mut self.cached[which as usize];
        if cached.index != Some(index) {
            cached.index = None;
            self.device.read(self.geometry.bitmap(which) + index * BLOCK as u64, &mut cached.bits)?;
            cached.index = Some(index);
        }
        Ok(&cached.bits)
    }
}

/// The lowest bit at or after `from` that is set in what `seen` makes of the bytes.
fn first_set(bits: &Page, from: u32, seen: impl Fn(u8) -> u8) -> Option<u32> {
    let first_byte = from / 8;
    let masked = seen(*bits.get(first_byte as usize)?) & (0xFF << (from % 8));
    let rest =
        bits.iter().enumerate().skip(first_byte as usize + 1).map(|(at, byte)| (at as u32, seen(*byte)));
    let mut bytes = core::iter::once((first_byte, masked)).chain(rest);
    bytes.find(|(_, byte)| *byte != 0).map(|(at, byte)| at * 8 + byte.trailing_zeros())
}

/// How many of the first `len` bits are set.
pub(super) fn count_ones(bits: &Page, len: usize) -> u32 {
    let (whole, rest) = bits.split_at(len / 8);
    let partial = rest.first().map_or(0, |byte| (byte & ((1 << (len % 8)) - 1)).count_ones());
    let words = whole.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word).count_ones()
    });
    words.sum::<u32>() + partial
}
