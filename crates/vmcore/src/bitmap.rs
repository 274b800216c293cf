//! Runs of bits in a dump's bitmaps, where the least significant bit of a byte comes first.

use machine::Range;

/// The page frames that a bitmap starting at `first_pfn` stands for.
pub(crate) fn window(first_pfn: u64, bitmap: &[u8]) -> Range {
    Range::new(first_pfn, first_pfn.saturating_add(bitmap.len() as u64 * 8))
}

/// Sets bits `start..end`.
pub(crate) fn set(bitmap: &mut [u8], start: u64, end: u64) {
    for_each_byte(bitmap, start, end, |byte, mask| *byte |= mask);
}

/// Clears bits `start..end` and counts those that were set.
pub(crate) fn clear(bitmap: &mut [u8], start: u64, end: u64) -> u64 {
    let mut cleared = 0;
    for_each_byte(bitmap, start, end, |byte, mask| {
        cleared += u64::from((*byte & mask).count_ones());
        *byte &= !mask;
    });
    cleared
}

/// Calls `change` with each byte that holds some of bits `start..end`, and a mask of those.
fn for_each_byte(bitmap: &mut [u8], start: u64, end: u64, mut change: impl FnMut(&mut u8, u8)) {
    let end = end.min(bitmap.len() as u64 * 8);
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
