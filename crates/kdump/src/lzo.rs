//! Compresses one page in the format of LZO1X, very fast.
//!
//! The kernel's `Documentation/staging/lzo.rst` says what the bytes mean. The compressor writes instructions of four kinds:
//!
//! | instruction | means |
//! |---|---|
//! | `0000llll` [0 …] | 4 or more literals follow: as many bytes as they are |
//! | `LLLDDDss DDDDDDDD` | a repetition of 3 to 8 bytes, up to 2 KiB back; 0 to 3 literals follow |
//! | `001lllll` [0 …] `DDDDDDss DDDDDDDD` | a longer repetition, up to 16 KiB back; 0 to 3 literals follow |
//! | `00010001 0 0` | the end |
//!
//! A length that does not fit continues in further bytes, in which each zero stands for 255. The literals at the
//! start of the stream have a form of their own. Only one library with a suitable licence compresses LZO, and it does
//! so at 11 MB/s.

#![expect(clippy::inline_always, reason = "calls for each repetition would take an eighth of the time")]

use machine::OutOfMemory;

use crate::repeats::{Repeat, Repeats};
use crate::{BLOCK, Page};

/// Base of a first byte that gives the number of literals, if they are not too many.
const FIRST_LITERALS: usize = 17;
/// Most literals that the first byte can tell.
const MOST_FIRST_LITERALS: usize = 238;
/// Most literals that a repetition before them can tell.
const FEW_LITERALS: usize = 3;
/// Literals that are copied at once; more are rare.
const SOME_LITERALS: usize = 16;
/// What the length of a run of literals is counted from.
const LITERALS_BASE: usize = 3;
/// Most of them that an instruction of one byte can tell.
const SHORT_LITERALS: usize = 18;
/// Most bytes, and the longest way back, of the short form of a repetition.
const SHORT_REPEAT: (usize, usize) = (8, 2048);
/// Marks the long form of a repetition.
const LONG_REPEAT: u8 = 0b0010_0000;
/// What the length of the long form is counted from.
const LONG_BASE: usize = 2;
/// Most bytes whose number fits into its instruction.
const LONG_FITTING: usize = 33;
/// Ends a stream.
const END: [u8; 3] = [0b0001_0001, 0, 0];

/// After so many bytes without a repetition, fewer places are looked at. With twice as many LZO takes an eighth more time, and
/// saves 3 % of what it stores.
const PATIENCE: usize = 16;

/// Compresses one page after the other, each as a stream of its own.
pub(crate) struct Compressor(Repeats<PATIENCE>);

impl Compressor {
    pub(crate) fn new() -> Result<Self, OutOfMemory> {
        Repeats::new().map(Self)
    }

    /// Compresses `page` into the beginning of `output`; `None` if it does not become smaller.
    pub(crate) fn compress(&mut self, page: &Page, output: &mut Page) -> Option<usize> {
        self.0.forget();
        let mut bytes = Bytes { output, len: 0 };
        let mut done = 0;
        while let Some(repeat) = self.0.next(page, done) {
            bytes.put_literals(&page[done..], repeat.at - done)?;
            bytes.put_repeat(repeat)?;
            done = repeat.at + repeat.len;
        }
        bytes.put_literals(&page[done..], BLOCK - done)?;
        bytes.put(END, END.len())?;
        Some(bytes.len).filter(|len| *len < BLOCK)
    }
}

/// The output so far.
///
/// Most appended pieces are short, and the processor does not predict their length. Copying always the maximum, and
/// counting only the real length, takes less time than a loop or a function that copies any length.
struct Bytes<'o> {
    output: &'o mut Page,
    len: usize,
}

impl Bytes<'_> {
    /// Appends the first `len` of `N` bytes; `None` if the output is nearly full.
    #[inline(always)]
    fn put<const N: usize>(&mut self, bytes: [u8; N], len: usize) -> Option<()> {
        *self.output.get_mut(self.len..)?.first_chunk_mut()? = bytes;
        self.len += len;
        Some(())
    }

    /// Appends the first `len` bytes of the `rest` of a page.
    #[inline(always)]
    fn put_literals(&mut self, rest: &[u8], len: usize) -> Option<()> {
        let Some(some) = rest.first_chunk::<SOME_LITERALS>().filter(|some| len <= some.len() && self.len > 0)
        else {
            return self.put_many(&rest[..len]);
        };
        if len > FEW_LITERALS {
            self.put([(len - LITERALS_BASE) as u8], 1)?;
            return self.put(*some, len);
        }
        // In both forms of a repetition, the two lowest bits of the byte before the last hold this number.
        self.output[self.len - 2] |= len as u8;
        self.put(*some.first_chunk::<4>()?, len)
    }

    /// Appends literals at the ends of a page, or when there are too many for the processor to predict.
    fn put_many(&mut self, literals: &[u8]) -> Option<()> {
        match literals.len() {
            0 => return Some(()),
            len @ ..=MOST_FIRST_LITERALS if self.len == 0 => self.put([(FIRST_LITERALS + len) as u8], 1)?,
            len @ ..=FEW_LITERALS => self.output[self.len - 2] |= len as u8,
            len @ ..=SHORT_LITERALS => self.put([(len - LITERALS_BASE) as u8], 1)?,
            len => self.put_long(0, len - SHORT_LITERALS)?,
        }
        let end = self.len + literals.len();
        self.output.get_mut(self.len..end)?.copy_from_slice(literals);
        self.len = end;
        Some(())
    }

    #[inline(always)]
    fn put_repeat(&mut self, Repeat { distance, len, .. }: Repeat) -> Option<()> {
        let back = distance - 1;
        if len > LONG_FITTING {
            self.put_long(LONG_REPEAT, len - LONG_FITTING)?;
            return self.put(((back << 2) as u16).to_le_bytes(), 2);
        }
        // Both forms, of which one is chosen without a branch.
        let short = (len.wrapping_sub(1) << 5 | (back & 7) << 2 | (back >> 3) << 8, 2);
        let long = (usize::from(LONG_REPEAT) | (len - LONG_BASE) | back << 10, 3);
        let (short_len, short_distance) = SHORT_REPEAT;
        let (form, bytes) = if len <= short_len && distance <= short_distance { short } else { long };
        self.put((form as u32).to_le_bytes(), bytes)
    }

    /// Appends an instruction and a length that does not fit into it.
    fn put_long(&mut self, instruction: u8, mut len: usize) -> Option<()> {
        self.put([instruction], 1)?;
        while len > 255 {
            self.put([0], 1)?;
            len -= 255;
        }
        self.put([len as u8], 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(page: &Page) -> alloc::vec::Vec<u8> {
        let mut output = [0; BLOCK];
        let len = Compressor::new().unwrap().compress(page, &mut output).unwrap_or(0);
        output[..len].to_vec()
    }

    /// By hand from the kernel's description of the format.
    #[test]
    fn instructions_are_those_of_the_description() {
        let mut page = [0; BLOCK];
        page[..19].copy_from_slice(b"abcdefXYabcdefghijk");
        // 8 literals; 6 bytes from 8 back; 5 literals and two zeros, which are repeated to the end; no literals; the end.
        let mut expected = b"\x19abcdefXY\xbc\x00".to_vec();
        expected.extend(b"\x04ghijk\0\0");
        expected.extend([0x20].into_iter().chain([0; 15]).chain([(4075 - 33 - 15 * 255) as u8, 4, 0]));
        expected.extend([0x11, 0, 0]);
        assert_eq!(compressed(&page), expected);
    }
}
