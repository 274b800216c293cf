//! Compresses one page as a zlib stream, fast.
//!
//! The stream (RFC 1950) holds a single deflate block with the fixed codes (RFC 1951, section 3.2.6). [`Repeats`]
//! finds repetitions greedily, and nothing is built per page. `cargo bench -p holdover-kdump` compares its time and
//! size with those of libraries.

use machine::OutOfMemory;

use crate::bits::{BitWriter, Bits};
use crate::repeats::{Repeat, Repeats};
use crate::{BLOCK, Page};

/// Bytes that a repetition has at most (RFC 1951, section 3.2.5).
const LONGEST: usize = 258;
/// Bytes that it has at least.
const SHORTEST: usize = 3;
/// Compression of a page is given up if it has not yet saved an eighth of its bytes, less this many.
const GRACE: usize = 256;
/// Compression method deflate, a window of 32 KiB, fastest algorithm (RFC 1950, section 2.2).
const STREAM_HEADER: Bits = Bits { bits: 0x0178, len: 16 };
/// Last block, fixed codes (RFC 1951, section 3.2.3).
const BLOCK_HEADER: Bits = Bits { bits: 0b011, len: 3 };
/// Symbol 256.
const END_OF_BLOCK: Bits = Bits { bits: 0, len: 7 };

/// Compresses one page after the other, each as a zlib stream of its own.
pub(crate) struct Compressor(Repeats);

impl Compressor {
    pub(crate) fn new() -> Result<Self, OutOfMemory> {
        Repeats::new().map(Self)
    }

    /// Compresses `page` into the beginning of `output`; `None` if it does not become smaller.
    pub(crate) fn compress(&mut self, page: &Page, output: &mut Page) -> Option<usize> {
        self.0.forget();
        let mut bits = BitWriter::new(output, 0);
        bits.add(STREAM_HEADER);
        bits.add(BLOCK_HEADER);
        bits.flush()?;
        let mut done = 0;
        while let Some(repeat) = self.0.next(page, done) {
            bits.put_literals(&page[done..repeat.at])?;
            bits.put_repeat(repeat)?;
            done = repeat.at + repeat.len;
            still_worthwhile(done, bits.len())?;
        }
        bits.put_literals(&page[done..])?;
        bits.add(END_OF_BLOCK);
        // The checksum's highest byte comes first.
        bits.finish(&adler32(page).to_be_bytes())
    }
}

/// Decides whether to go on with a page whose first `done` bytes became `len`; `None` if not.
///
/// A literal takes as long as a repetition, so pages that hardly shrink cost the most. A page of noise that ends in zeros is given
/// up only if the noise is nearly all of it.
#[inline]
fn still_worthwhile(done: usize, len: usize) -> Option<()> {
    (len + done / 8 <= done + GRACE).then_some(())
}

/// Codes of the bytes.
static LITERALS: [Bits; 256] = {
    let mut table = [END_OF_BLOCK; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = fixed_code(byte as u32);
        byte += 1;
    }
    table
};

/// Codes of the lengths of repetitions with their extra bits; those below 3 do not exist.
static LENGTHS: [Bits; LONGEST + 1] = {
    let mut table = [END_OF_BLOCK; LONGEST + 1];
    let (mut symbol, mut len) = (257, 3);
    while len < LONGEST {
        // Eight symbols without extra bits, then four with each number of them.
        let extra_len = if symbol < 265 { 0 } else { (symbol - 261) / 4 };
        let mut extra = 0;
        while extra < 1 << extra_len && len < LONGEST {
            let code = fixed_code(symbol);
            table[len] = code.and_then(Bits { bits: extra, len: extra_len });
            extra += 1;
            len += 1;
        }
        symbol += 1;
    }
    table[LONGEST] = fixed_code(285);
    table
};

/// The fixed code of a literal or length symbol (RFC 1951, section 3.2.6).
const fn fixed_code(symbol: u32) -> Bits {
    match symbol {
        0..144 => huffman(0b0011_0000 + symbol, 8),
        144..256 => huffman(0b1_1001_0000 + symbol - 144, 9),
        256..280 => huffman(symbol - 256, 7),
        _ => huffman(0b1100_0000 + symbol - 280, 8),
    }
}

/// A code word: alone among all numbers, it is written with its highest bit first (RFC 1951, section 3.1.1).
const fn huffman(word: u32, len: u32) -> Bits {
    Bits { bits: word.reverse_bits() >> (u32::BITS - len), len }
}

/// The code of a distance with its extra bits: two symbols for each number of those (RFC 1951, section 3.2.5).
fn distance(distance: usize) -> Bits {
    let from_one = distance as u32 - 1;
    let extra_len = from_one.checked_ilog2().unwrap_or(0).saturating_sub(1);
    let symbol = 2 * extra_len + (from_one >> extra_len);
    let extra = from_one & ((1 << extra_len) - 1);
    Bits { bits: DISTANCES[symbol as usize % 32] | extra << 5, len: 5 + extra_len }
}

/// Code words of the distance symbols, five bits each.
static DISTANCES: [u32; 32] = {
    let mut table = [0; 32];
    let mut symbol = 0;
    while symbol < 32 {
        table[symbol] = huffman(symbol as u32, 5).bits;
        symbol += 1;
    }
    table
};

impl BitWriter<'_> {
    /// Appends bytes as they are.
    #[inline]
    fn put_literals(&mut self, bytes: &[u8]) -> Option<()> {
        // None of their codes is shorter than a byte.
        if self.len() + bytes.len() >= BLOCK {
            return None;
        }
        let (fours, rest) = bytes.as_chunks::<4>();
        for four in fours {
            self.put_few_literals(four)?;
        }
        self.put_few_literals(rest)
    }

    #[inline]
    fn put_few_literals(&mut self, bytes: &[u8]) -> Option<()> {
        for byte in bytes {
            self.add(LITERALS[usize::from(*byte)]);
        }
        self.flush()
    }

    /// Appends a repetition, in pieces if it is long.
    #[inline]
    fn put_repeat(&mut self, repeat: Repeat) -> Option<()> {
        let distance = distance(repeat.distance);
        let mut len = repeat.len;
        while len > LONGEST {
            let piece = LONGEST.min(len - SHORTEST);
            self.add(LENGTHS[piece]);
            self.add(distance);
            self.flush()?;
            len -= piece;
        }
        self.add(*LENGTHS.get(len)?);
        self.add(distance);
        self.flush()
    }
}

/// Adler-32 of a page (RFC 1950, section 8.2), 64 bytes at a time.
///
/// With `a` the sum of all bytes so far and `b` the sum of all `a`, eight bytes x0 … x7 add `8a + 8x0 + 7x1 + … + 1x7` to
/// `b`. The loop adds bytes as four numbers of 16 bits, over eight times eight bytes, and likewise the sums so far; a multiplication
/// then adds up these numbers, weighted, in its uppermost 16 bits. No sum overflows (the weighted one is at most 40,800), and neither
/// do `a` and `b` over a page, so the remainders are taken once at the end.
fn adler32(page: &Page) -> u32 {
    const LANES: u64 = 0x00FF_00FF_00FF_00FF;
    const ONES: u64 = 0x0001_0001_0001_0001;
    let sum = |lanes: u64, weights: u64| (lanes.wrapping_mul(weights) >> 48) as u32;
    let (mut a, mut b) = (1, 0);
    for block in page.as_chunks::<64>().0 {
        let (mut even, mut odd, mut evens, mut odds) = (0, 0, 0, 0);
        for eight in block.as_chunks::<8>().0 {
            evens += even;
            odds += odd;
            let word = u64::from_le_bytes(*eight);
            even += word & LANES;
            odd += word >> 8 & LANES;
        }
        b += 64 * a + 8 * (sum(evens, ONES) + sum(odds, ONES));
        b += sum(even, 0x0008_0006_0004_0002) + sum(odd, 0x0007_0005_0003_0001);
        a += sum(even + odd, ONES);
    }
    ((b % 65521) << 16) | (a % 65521)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum_of(byte: u8) -> u32 {
        adler32(&[byte; BLOCK])
    }

    /// Values by Python's `zlib.adler32`.
    #[test]
    fn checksums_are_those_of_another_implementation() {
        assert_eq!(checksum_of(0), 0x1000_0001);
        assert_eq!(checksum_of(0xFF), 0x8161_F0E2);
        let mut counting = [0; BLOCK];
        for (at, byte) in counting.iter_mut().enumerate() {
            *byte = at as u8;
        }
        assert_eq!(adler32(&counting), 0x60AE_F86A);
    }

    /// Values from the tables of RFC 1951, section 3.2.5, and code words from section 3.2.6, lowest bit first.
    #[test]
    fn codes_are_those_of_the_tables() {
        let pair = |code: Bits| (code.bits, code.len);
        assert_eq!(pair(LITERALS[0]), (0b0000_1100, 8));
        assert_eq!(pair(LITERALS[255]), (0b1_1111_1111, 9));
        assert_eq!(pair(LENGTHS[3]), (0b100_0000, 7));
        assert_eq!(pair(LENGTHS[12]), (0b1 << 7 | 0b100_1000, 8), "symbol 265, extra bit 1");
        assert_eq!(pair(LENGTHS[257]), (0b11110 << 8 | 0b0010_0011, 13), "symbol 284, extra bits 30");
        assert_eq!(pair(LENGTHS[258]), (0b1010_0011, 8), "symbol 285");
        assert_eq!(pair(distance(1)), (0, 5));
        assert_eq!(pair(distance(6)), (0b1 << 5 | 0b00100, 6), "symbol 4, extra bit 1");
        assert_eq!(pair(distance(4095)), (0b11_1111_1110 << 5 | 0b11101, 15), "symbol 23, extra bits 1022");
    }

    #[test]
    fn a_page_without_repetitions_is_left_alone() {
        let mut state = 1u32;
        let page = core::array::from_fn(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        assert_eq!(Compressor::new().unwrap().compress(&page, &mut [0; BLOCK]), None);
    }

    #[test]
    fn a_page_does_not_repeat_what_was_in_an_earlier_one() {
        let mut compressor = Compressor::new().unwrap();
        let mut page = [7; BLOCK];
        page[..8].copy_from_slice(b"original");
        let (mut first, mut second) = ([0; BLOCK], [0; BLOCK]);
        let len = compressor.compress(&page, &mut first);
        assert_eq!(compressor.compress(&page, &mut second), len);
        assert_eq!(first, second);
    }
}
