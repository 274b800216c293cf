//! Compresses one page as a zstd frame, fast.
//!
//! The frame (RFC 8878; all section numbers are of that) has a single block: first the literals, uncompressed, then
//! the sequences. Each sequence says how many literals come next and which repetition follows them. Sequences need
//! three codes. Libraries spend half of their time on making these codes for each page; this encoder chooses between
//! two precomputed sets.

mod codes;
mod fse;
mod sequence;

use alloc::boxed::Box;

use machine::growth::{OutOfMemory, boxed_array};

use self::codes::Codes;
use self::sequence::{Distances, Numbers, Sequence};
use crate::bits::{BitWriter, Bits};
use crate::repeats::Repeats;
use crate::{BLOCK, Page};

/// Magic number; a single segment, whose length takes two bytes; that length, less 256 (section 3.1.1).
const FRAME_HEADER: [u8; 7] = [0x28, 0xB5, 0x2F, 0xFD, 0x60, 0x00, 0x0F];
/// Where the block's header is: three bytes (section 3.1.1.2).
const BLOCK_HEADER: usize = FRAME_HEADER.len();
/// The last block, compressed; its length follows.
const LAST_COMPRESSED: usize = 0b101;
/// Where the block begins, with the literals' header: two bytes (section 3.1.1.3.1.1).
const CONTENT: usize = BLOCK_HEADER + 3;
/// Literals as they are; their number, of twelve bits, follows.
const RAW: usize = 0b0100;
/// Where the literals are.
const LITERALS: usize = CONTENT + 2;
/// Literals that are copied at once; more are rare.
const SOME_LITERALS: usize = 16;
/// Most repetitions in a page: none has less than six bytes.
const MOST_SEQUENCES: usize = BLOCK / 6;
/// Numbers of sequences below this take one byte (section 3.1.1.3.2.1).
const FEW_SEQUENCES: usize = 128;

/// After this many bytes without a repetition the search looks at fewer places. Other codecs give up sooner; whoever chooses
/// zstd wants small dumps, and a quarter of this would store 4 % more.
const PATIENCE: usize = 128;

/// Compresses one page after the other, each as a frame of its own.
pub(crate) struct Compressor {
    repeats: Repeats<PATIENCE>,
    /// Room for those of a page.
    sequences: Box<[Sequence; MOST_SEQUENCES]>,
}

impl Compressor {
    /// Allocates 6 KiB.
    pub(crate) fn new() -> Result<Self, OutOfMemory> {
        Ok(Self { repeats: Repeats::new()?, sequences: boxed_array(Sequence::default())? })
    }

    /// Compresses `page` into the beginning of `output`; `None` if it does not become smaller.
    pub(crate) fn compress(&mut self, page: &Page, output: &mut Page) -> Option<usize> {
        output[..BLOCK_HEADER].copy_from_slice(&FRAME_HEADER);
        let (literals_end, sequences) = self.separate(page, output)?;
        let literals = RAW | (literals_end - LITERALS) << 4;
        output[CONTENT..LITERALS].copy_from_slice(&literals.to_le_bytes()[..2]);
        let end = write_sequences(sequences, output, literals_end)?;
        let block = LAST_COMPRESSED | (end - CONTENT) << 3;
        output[BLOCK_HEADER..CONTENT].copy_from_slice(&block.to_le_bytes()[..3]);
        Some(end)
    }

    /// Puts literals into `output`; returns where they end, and the sequences. `None` if nothing is repeated.
    fn separate(&mut self, page: &Page, output: &mut Page) -> Option<(usize, &[Sequence])> {
        self.repeats.forget();
        let mut distances = Distances::new();
        let (mut done, mut end, mut count) = (0, LITERALS, 0);
        while let Some(repeat) = self.repeats.next(page, done) {
            let literals = repeat.at - done;
            put_literals(output.get_mut(end..)?, &page[done..], literals)?;
            *self.sequences.get_mut(count)? = Sequence::new(literals, repeat, &mut distances);
            count += 1;
            end += literals;
            done = repeat.at + repeat.len;
        }
        let last = &page[done..];
        put_literals(output.get_mut(end..)?, last, last.len())?;
        let sequences = self.sequences.get(..count).filter(|sequences| !sequences.is_empty())?;
        Some((end + last.len(), sequences))
    }
}

/// Copies the first `len` bytes of the `rest` of a page, and maybe others behind them; `None` if there is no room.
#[inline]
fn put_literals(output: &mut [u8], rest: &[u8], len: usize) -> Option<()> {
    match rest.first_chunk::<SOME_LITERALS>() {
        Some(some) if len <= SOME_LITERALS => *output.first_chunk_mut()? = *some,
        _ => output.get_mut(..len)?.copy_from_slice(&rest[..len]),
    }
    Some(())
}

/// Writes the second part of the block behind the first `len` bytes; returns the length of it all.
fn write_sequences(sequences: &[Sequence], output: &mut Page, mut len: usize) -> Option<usize> {
    let mut put = |bytes: &[u8]| {
        let end = len + bytes.len();
        output.get_mut(len..end)?.copy_from_slice(bytes);
        len = end;
        Some(())
    };
    let count = sequences.len();
    let (low, high) = (count as u8, (count >> 8) as u8);
    let number: &[u8] = if count < FEW_SEQUENCES { &[low] } else { &[high | 0x80, low] };
    put(number)?;
    let codes = Codes::worthwhile(count);
    codes.descriptions().try_for_each(put)?;
    write_backwards(sequences, codes, BitWriter::new(output, len))
}

/// Decoders read this from its end, so the last sequence is written first (section 3.1.1.3.2.1.2).
fn write_backwards(sequences: &[Sequence], codes: &Codes, mut bits: BitWriter<'_>) -> Option<usize> {
    let (last, others) = sequences.split_last()?;
    let last = last.numbers();
    let mut literals = codes.literals.end(last.literals.symbol);
    let mut lens = codes.lens.end(last.len.symbol);
    let mut distances = codes.distances.end(last.distance.symbol);
    bits.add_all([last.literals.rest, last.len.rest, last.distance.rest]);
    bits.flush()?;
    for sequence in others.iter().rev() {
        let Numbers { literals: literal, len, distance } = sequence.numbers();
        bits.add_all([distances.put(distance.symbol), lens.put(len.symbol), literals.put(literal.symbol)]);
        bits.add_all([literal.rest, len.rest, distance.rest]);
        bits.flush()?;
    }
    bits.add_all([lens.begin(), distances.begin(), literals.begin()]);
    // A decoder begins below the highest bit that is set.
    bits.add(Bits { bits: 1, len: 1 });
    bits.finish(&[])
}
