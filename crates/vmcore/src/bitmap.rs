//! Runs of bits in a dump's bitmaps, where the least significant bit of a byte comes first.

use machine::{Pfn, Position, Range};

/// The page frames that a bitmap starting at `first_pfn` stands for.
pub(crate) fn window(first: Pfn, bitmap: &[u8]) -> Range<Pfn> {
    Range::new(first, first.saturating_add(bitmap.len() as u64 * 8))
}

/// Sets the bits of `frames`, which lie in the window of `bitmap`; its first bit is that of `first`.
pub(crate) fn set(bitmap: &mut [u8], first: Pfn, frames: Range<Pfn>) {
    for_each_byte(bitmap, bits(first, frames), |byte, mask| *byte |= mask);
}

/// Clears the bits of `frames`, which lie in the window of `bitmap`, and counts those that were set.
pub(crate) fn clear(bitmap: &mut [u8], first: Pfn, frames: Range<Pfn>) -> u64 {
    let mut cleared = 0;
    for_each_byte(bitmap, bits(first, frames), |byte, mask| {
        cleared += u64::from((*byte & mask).count_ones());
        *byte &= !mask;
    });
    cleared
}

/// Which bits stand for `frames`, if bit 0 stands for `first`.
fn bits(first: Pfn, frames: Range<Pfn>) -> core::ops::Range<u64> {
    frames.start.count_since(first)..frames.end.count_since(first)
}

/// Calls `change` with each byte that holds some of these bits, and a mask of those.
fn for_each_byte(bitmap: &mut [u8], bits: core::ops::Range<u64>, mut change: impl FnMut(&mut u8, u8)) {
    let (start, end) = (bits.start, bits.end.min(bitmap.len() as u64 * 8));
    if start >= end {
        return;
    }
    let (first, last) = ((start / 8) as usize, ((end - 1) / 8) as usize);
    let Some(bytes) = bitmap.get_mut(first..=last) else { return };
    for (index, byte) in bytes.iter_mut().enumerate() {
        let from = if index == 0 { 0xff << (start % 8) } else { 0xff };
        let to = if index == last - first { 0xff >> (7 - (end - 1) % 8) } else { 0xff };
        change(byte, from & to);
    }
}
