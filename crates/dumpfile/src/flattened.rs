//! Flattened files: dumps that went through a pipe, as `makedumpfile -F` and QEMU write them.
//!
//! A pipe cannot seek, so each piece of the dump says where it belongs. All numbers are big-endian:
//!
//! ```text
//! 4096 bytes   "makedumpfile", padded with zeros to 16 bytes; type 1; version 1; zeros
//! record …     where the piece belongs (8 bytes), its length (8 bytes), the piece
//! last record  -1, -1
//! ```
//!
//! Pieces come in any order, and a later piece replaces an earlier one: the writer writes block 0 of a dump again at
//! the end. Bytes that no piece contains are zero.

use std::collections::{BinaryHeap, TryReserveError};
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek};
use std::os::unix::fs::FileExt;

use machine::{ByteOffset, Position, Range};

use crate::DumpError;

/// `signature` of `struct makedumpfile_header`.
pub(crate) const SIGNATURE: [u8; 16] = *b"makedumpfile\0\0\0\0";
/// The only `type` that there is (`TYPE_FLAT_HEADER`).
const TYPE: u64 = 1;
/// Where the first record begins (`MAX_SIZE_MDF_HEADER`).
const FIRST_RECORD: u64 = 4096;
/// Bytes of a record before its piece (`struct makedumpfile_data_header`).
const RECORD_HEADER: u64 = 16;
/// Both numbers of the last record (`END_FLAG_FLAT_HEADER`, -1).
const END: u64 = u64::MAX;
/// No file is longer: offsets have a sign.
const LONGEST: ByteOffset = ByteOffset::new(i64::MAX as u64);

/// Where the pieces of a flattened dump are.
#[derive(Debug)]
pub(crate) struct Flattened {
    /// Ascending, disjoint.
    pieces: Vec<Piece>,
    is_whole: bool,
}

/// A piece of the dump. One that comes later in the flattened file is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    /// Offset of its first byte in the flattened file.
    stored_at: u64,
    /// Where it belongs.
    place: Range<ByteOffset>,
}

impl Flattened {
    /// Looks through the records of a file of `len` bytes.
    pub(crate) fn read(mut file: &File, len: u64) -> Result<Self, DumpError> {
        file.rewind()?;
        let mut records = Records::begin(file, len)?;
        let mut pieces = Vec::new();
        let is_whole = loop {
            match records.next()? {
                Record::Piece(piece) => push(&mut pieces, piece)?,
                Record::End => break true,
                Record::Cut => break false,
            }
        };
        Ok(Self { pieces: arrange(pieces)?, is_whole })
    }

    /// Bytes of the dump.
    pub(crate) fn len(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.place.end.get())
    }

    /// Whether the last record says that it is the last.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Reads bytes of the dump. If records are missing, bytes in no piece are unknown, except in the ranges `zeros`.
    pub(crate) fn read_at(
        &self,
        file: &File,
        offset: u64,
        mut into: &mut [u8],
        zeros: &[Range<u64>],
    ) -> io::Result<()> {
        let mut offset = ByteOffset::new(offset);
        while !into.is_empty() {
            let after = self.pieces.partition_point(|piece| piece.place.end <= offset);
            let piece = self.pieces.get(after).ok_or(ErrorKind::UnexpectedEof)?;
            let until = if piece.place.contains(offset) {
                piece.place.end
            } else {
                piece.place.start.min(self.end_of_zeros(offset, zeros)?)
            };
            let len = until.count_since(offset).min(into.len() as u64);
            let (now, later) = into.split_at_mut(len as usize);
            match offset.get().checked_sub(piece.place.start.get()) {
                Some(skip) => file.read_exact_at(now, piece.stored_at + skip)?,
                None => now.fill(0),
            }
            (offset, into) = (offset.saturating_add(len), later);
        }
        Ok(())
    }
}

impl Flattened {
    /// Up to where bytes from `offset` on are zeros, if they are in no piece.
    fn end_of_zeros(&self, offset: ByteOffset, zeros: &[Range<u64>]) -> io::Result<ByteOffset> {
        if self.is_whole {
            return Ok(LONGEST);
        }
        let within = zeros.iter().find(|range| range.contains(offset.get()));
        Ok(ByteOffset::new(within.ok_or(ErrorKind::UnexpectedEof)?.end))
    }
}

/// What comes next in a flattened file.
enum Record {
    Piece(Piece),
    /// The end, as it should be.
    End,
    /// The end of the file, or of what makes sense.
    Cut,
}

/// The records of a flattened file.
struct Records<'f> {
    file: BufReader<&'f File>,
    /// Bytes of the file.
    len: u64,
    /// Where the next one begins.
    at: u64,
}

impl<'f> Records<'f> {
    fn begin(file: &'f File, len: u64) -> Result<Self, DumpError> {
        let mut records = Self { file: BufReader::new(file), len, at: FIRST_RECORD };
        let mut header = [0; FIRST_RECORD as usize];
        if len < FIRST_RECORD {
            return Err(DumpError::HeaderCut { len });
        }
        let read = records.file.read_exact(&mut header).is_ok();
        let kind = header[SIGNATURE.len()..].first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        if read && kind == Some(TYPE) { Ok(records) } else { Err(DumpError::BadRecord { at: 0 }) }
    }

    fn next(&mut self) -> Result<Record, DumpError> {
        let bad = DumpError::BadRecord { at: self.at };
        let stored_at = self.at.saturating_add(RECORD_HEADER);
        if stored_at > self.len {
            return Ok(Record::Cut);
        }
        let mut words = [[0; 8]; 2];
        self.file.read_exact(words.as_flattened_mut())?;
        let [start, len] = words.map(u64::from_be_bytes);
        if [start, len] == [END; 2] {
            return Ok(Record::End);
        }
        let place = Range::sized(ByteOffset::new(start), len);
        if place.is_none_or(|place| place.is_empty() || place.end > LONGEST) {
            // What comes before a damaged record is there, such as before the zeros that a file system leaves after a crash.
            return if self.at == FIRST_RECORD { Err(bad) } else { Ok(Record::Cut) };
        }
        self.file.seek_relative(len.cast_signed())?;
        self.at = stored_at.saturating_add(len);
        let stored = self.at.min(self.len) - stored_at;
        Ok(Record::Piece(Piece { stored_at, place: Range::from(start..start + stored) }))
    }
}

/// Sorts the pieces, which come in any order; where they overlap, the later one counts.
fn arrange(mut pieces: Vec<Piece>) -> Result<Vec<Piece>, TryReserveError> {
    pieces.sort_unstable_by_key(|piece| piece.place.start);
    let mut coming = pieces.iter().peekable();
    // Those that have begun, the latest at the top.
    let mut begun = BinaryHeap::new();
    let (mut arranged, mut at) = (Vec::new(), ByteOffset::default());
    loop {
        while let Some(piece) = coming.next_if(|piece| piece.place.start <= at) {
            begun.try_reserve(1)?;
            begun.push(*piece);
        }
        let next = coming.peek().map(|piece| piece.place.start);
        match begun.peek() {
            Some(latest) if latest.place.end <= at => {
                begun.pop();
            }
            Some(latest) => {
                let end = next.unwrap_or(LONGEST).min(latest.place.end);
                push(&mut arranged, latest.part(Range::new(at, end)))?;
                at = end;
            }
            None => match next {
                Some(start) => at = start,
                None => return Ok(arranged),
            },
        }
    }
}

impl Piece {
    fn part(self, place: Range<ByteOffset>) -> Self {
        Self { stored_at: self.stored_at + place.start.count_since(self.place.start), place }
    }

    /// Whether `next` continues this piece, in the dump as in the file.
    fn goes_on_with(self, next: Self) -> bool {
        self.place.end == next.place.start && self.stored_at + self.place.len() == next.stored_at
    }
}

/// Adds a piece, or makes the last one longer.
fn push(pieces: &mut Vec<Piece>, piece: Piece) -> Result<(), TryReserveError> {
    match pieces.last_mut() {
        Some(last) if last.goes_on_with(piece) => last.place.end = piece.place.end,
        _ => {
            pieces.try_reserve(1)?;
            pieces.push(piece);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// A flattened file of pieces: where each belongs, and its bytes.
    fn flattened(pieces: &[(u64, Vec<u8>)]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([1u64, 1].map(u64::to_be_bytes).as_flattened());
        bytes.resize(4096, 0);
        for (at, piece) in pieces {
            bytes.extend([*at, piece.len() as u64].map(u64::to_be_bytes).as_flattened());
            bytes.extend(piece);
        }
        bytes.extend([0xFF; 16]);
        file.write_all(&bytes).unwrap();
        file
    }

    fn read(file: &File) -> Flattened {
        Flattened::read(file, file.metadata().unwrap().len()).unwrap()
    }

    #[test]
    fn pieces_that_follow_each_other_nowhere_are_read_in_one_go() {
        let file = flattened(&[(6, vec![3; 2]), (0, vec![1; 4])]);
        let mut bytes = [9; 8];
        read(&file).read_at(&file, 0, &mut bytes, &[]).unwrap();
        assert_eq!(bytes, [1, 1, 1, 1, 0, 0, 3, 3]);
        assert!(read(&file).read_at(&file, 1, &mut bytes, &[]).is_err(), "it ends before");
    }

    fn pieces() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
        prop::collection::vec((0u64..64, prop::collection::vec(1u8.., 1..24)), 0..24)
    }

    proptest! {
        /// The plain file is what writing one piece after the other makes of it.
        #[test]
        fn what_is_read_is_what_unpacking_would_write(pieces in pieces(), cut in 0u64..200) {
            let mut plain = vec![];
            for (at, piece) in &pieces {
                let (start, end) = (*at as usize, *at as usize + piece.len());
                plain.resize(plain.len().max(end), 0);
                plain[start..end].copy_from_slice(piece);
            }
            let file = flattened(&pieces);
            let whole = read(&file);
            let mut bytes = vec![0xEE; plain.len()];
            prop_assert!(whole.is_whole() && whole.len() == plain.len() as u64);
            whole.read_at(&file, 0, &mut bytes, &[]).unwrap();
            prop_assert_eq!(&bytes, &plain);

            // Bytes that are read from a truncated file were in the whole file.
            let len = file.metadata().unwrap().len();
            let cut = Flattened::read(&file, len.saturating_sub(cut + 1).max(4096)).unwrap();
            prop_assert!(!cut.is_whole());
            for at in 0..plain.len() as u64 {
                let mut byte = [0];
                if cut.read_at(&file, at, &mut byte, &[]).is_ok() {
                    prop_assert!(byte[0] != 0, "no zeros are made up");
                }
            }
        }
    }
}
