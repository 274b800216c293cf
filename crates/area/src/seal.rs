//! The seal: records how far a dump got, and the checksum that its blocks must have.

use core::mem::offset_of;

use machine::{ByteOffset, Range};
use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::extents::{Extents, MAX_EXTENTS};
use crate::record::{self, Contradiction, Damage, Magic};
use crate::sum::Sum;
use crate::{BLOCK, Block};

const MAGIC: Magic = *b"HOLDSEAL";
const VERSION: u32 = 1;

/// How far a dump got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealState {
    /// The area was formatted and holds no dump.
    Empty,
    /// A dump was begun and never sealed: the capture kernel was interrupted. The blocks that the seal lists are there, but those
    /// that were written again after the last flush may hold the new content: the checksum need not match.
    InProgress,
    /// A dump was sealed that lacks something.
    Partial(Lack),
    /// Everything was written, without a gap, and was durable before this was.
    Complete,
}

/// What a partial dump lacks, as far as the area can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The capture kernel itself called the dump partial.
    Content,
    /// The disk reported an error on at least one write.
    Write,
    /// A block inside the dump's length was never written.
    Gap,
}

/// Pages of a dump that belong in it and are not there, as its writer counts them; nothing to start with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub pages: u64,
    /// The level of a smaller dump of which all pages are there, if there is one, in makedumpfile's numbers.
    pub reached: Option<u8>,
}

/// What the seal block holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// How far the dump got.
    pub state: SealState,
    /// The area that the seal was written for.
    pub uuid: Uuid,
    /// Counts the dumps that were begun in this area; 0 before the first.
    pub sequence: u64,
    /// Length of the dump in bytes.
    pub dump_len: u64,
    /// Which blocks of the dump were written. The other blocks keep their old content and are not part of the dump.
    pub written: Extents,
    /// Checksum over the blocks in `written`.
    pub sum: Sum,
    /// When a host copied the dump, or the log if there is no more, into a file, in seconds since 1970; 0 if none did.
    pub collected: u64,
    /// Which pages are not there; unknown unless the dump was sealed.
    pub left_out: LeftOut,
}

/// The seal as it lies on disk, from byte 16 of its block.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Layout {
    version: U32,
    state: U32,
    uuid: [u8; 16],
    sequence: U64,
    dump_len: U64,
    sum: U64,
    lack: U32,
    extents: U32,
    written: [[U64; 2]; MAX_EXTENTS],
    /// A field that is added lies where older seals have zeros, which must therefore mean what they meant.
    collected: U64,
    pages_left_out: U64,
    /// One more than the level that was reached; 0 if none was.
    reached: U32,
    reserved: U32,
}

const _: () = {
    assert!(offset_of!(Layout, sequence) == 24);
    assert!(offset_of!(Layout, sum) == 40);
    assert!(offset_of!(Layout, written) == 56);
    assert!(offset_of!(Layout, collected) == 312);
    assert!(offset_of!(Layout, reached) == 328);
    assert!(size_of::<Layout>() == 336);
};

impl SealState {
    /// The codes of `state` and `lack`.
    const fn codes(self) -> (u32, u32) {
        match self {
            Self::Empty => (1, 0),
            Self::InProgress => (2, 0),
            Self::Partial(Lack::Content) => (3, 1),
            Self::Partial(Lack::Write) => (3, 2),
            Self::Partial(Lack::Gap) => (3, 3),
            Self::Complete => (4, 0),
        }
    }

    const fn from_codes(state: u32, lack: u32) -> Option<Self> {
        match (state, lack) {
            (1, 0) => Some(Self::Empty),
            (2, 0) => Some(Self::InProgress),
            (3, 1) => Some(Self::Partial(Lack::Content)),
            (3, 2) => Some(Self::Partial(Lack::Write)),
            (3, 3) => Some(Self::Partial(Lack::Gap)),
            (4, 0) => Some(Self::Complete),
            _ => None,
        }
    }
}

impl Seal {
    /// Whether all bytes of a part of the dump were written.
    pub fn holds(&self, part: Range<ByteOffset>) -> bool {
        self.written.contain_all(part.start.get() / BLOCK..part.end.get().div_ceil(BLOCK))
    }

    /// A seal over no bytes.
    pub(crate) fn over_nothing(state: SealState, uuid: Uuid, sequence: u64) -> Self {
        let (written, sum) = (Extents::default(), Sum::default());
        Self { state, uuid, sequence, dump_len: 0, written, sum, collected: 0, left_out: LeftOut::default() }
    }

    pub(crate) fn encode(&self) -> Block {
        let (state, lack) = self.state.codes();
        let mut written = [[U64::ZERO; 2]; MAX_EXTENTS];
        let mut extents = 0;
        for (slot, blocks) in written.iter_mut().zip(self.written.iter()) {
            *slot = [blocks.start.into(), blocks.end.into()];
            extents += 1;
        }
        let layout = Layout {
            version: VERSION.into(),
            state: state.into(),
            uuid: self.uuid.into_bytes(),
            sequence: self.sequence.into(),
            dump_len: self.dump_len.into(),
            sum: self.sum.value().into(),
            lack: lack.into(),
            extents: U32::new(extents),
            written,
            collected: self.collected.into(),
            pages_left_out: self.left_out.pages.into(),
            reached: self.left_out.reached.map_or(0, |level| u32::from(level) + 1).into(),
            reserved: U32::ZERO,
        };
        record::encode(MAGIC, &layout)
    }

    /// Reads a seal for an area whose dumps are at most `capacity` bytes long.
    pub(crate) fn decode(block: &Block, capacity: u64) -> Result<Self, Damage> {
        let layout: Layout = record::decode(MAGIC, block)?;
        if layout.version != VERSION {
            return Err(Damage::Version(layout.version.get()));
        }
        let seal = layout.seal(capacity)?;
        if seal.state == SealState::Complete && !seal.written.cover_first(seal.dump_len.div_ceil(BLOCK)) {
            return Err(Contradiction::Gap.into());
        }
        Ok(seal)
    }
}

impl Layout {
    /// The seal, if each field of it can be.
    fn seal(&self, capacity: u64) -> Result<Seal, Contradiction> {
        if self.dump_len > capacity {
            return Err(Contradiction::DumpLength);
        }
        Ok(Seal {
            state: SealState::from_codes(self.state.get(), self.lack.get()).ok_or(Contradiction::State)?,
            uuid: Uuid::from_bytes(self.uuid),
            sequence: self.sequence.get(),
            dump_len: self.dump_len.get(),
            written: self.written(capacity).ok_or(Contradiction::Written)?,
            sum: Sum::from_value(self.sum.get()),
            collected: self.collected.get(),
            left_out: self.left_out(),
        })
    }

    fn left_out(&self) -> LeftOut {
        let reached = self.reached.get().checked_sub(1).and_then(|level| u8::try_from(level).ok());
        LeftOut { pages: self.pages_left_out.get(), reached }
    }

    /// The extents, if they are ascending and end within `capacity` bytes.
    fn written(&self, capacity: u64) -> Option<Extents> {
        let mut written = Extents::default();
        let mut last_end = 0;
        for &[start, end] in self.written.get(..self.extents.get() as usize)? {
            let (start, end) = (start.get(), end.get());
            if start < last_end || end <= start || end > capacity / BLOCK {
                return None;
            }
            written.insert(start..end).ok()?;
            last_end = end;
        }
        Some(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        let mut written = Extents::default();
        written.insert(0..3).unwrap();
        written.insert(0x10..0x2345).unwrap();
        Seal {
            state: SealState::Partial(Lack::Gap),
            uuid: Uuid::from_u128(7),
            sequence: 0x0102,
            dump_len: 0x1234_5678,
            written,
            sum: Sum::from_value(0xfedc_ba98_7654_3210),
            collected: 0x6553_f100,
            left_out: LeftOut { pages: 0x0908, reached: Some(30) },
        }
    }

    #[test]
    fn fields_lie_where_the_layout_says() {
        let block = seal().encode();
        assert_eq!(&block[0..8], b"HOLDSEAL");
        assert_eq!(block[16..24], [1, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(block[24..40], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(block[40..48], [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(block[48..56], [0x78, 0x56, 0x34, 0x12, 0, 0, 0, 0]);
        assert_eq!(block[56..64], [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe]);
        assert_eq!(block[64..72], [3, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(block[72..88], [0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(block[88..104], [0x10, 0, 0, 0, 0, 0, 0, 0, 0x45, 0x23, 0, 0, 0, 0, 0, 0]);
        assert!(block[104..328].iter().all(|&byte| byte == 0));
        assert_eq!(block[328..336], [0, 0xf1, 0x53, 0x65, 0, 0, 0, 0]);
        assert_eq!(block[336..352], [8, 9, 0, 0, 0, 0, 0, 0, 31, 0, 0, 0, 0, 0, 0, 0]);
        assert!(block[352..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_seal_is_read_back_unless_its_dump_is_longer_than_the_area() {
        let block = seal().encode();
        assert_eq!(Seal::decode(&block, 0x1234_5678), Ok(seal()));
        assert_eq!(Seal::decode(&block, 0x1234_5677), Err(Contradiction::DumpLength.into()));
        assert_eq!(Seal::decode(&[0; 4096], u64::MAX), Err(Damage::NoMagic));
    }

    #[test]
    fn extents_past_the_area_are_refused() {
        let mut past = seal();
        past.dump_len = 4096;
        assert_eq!(Seal::decode(&past.encode(), 0x2345 * 4096), Ok(past.clone()));
        let refused = Seal::decode(&past.encode(), 0x2345 * 4096 - 1);
        assert_eq!(refused, Err(Contradiction::Written.into()));
    }

    #[test]
    fn a_seal_that_calls_a_dump_with_a_gap_complete_is_refused() {
        let mut gap = Seal { state: SealState::Complete, dump_len: 3 * BLOCK, ..seal() };
        assert_eq!(Seal::decode(&gap.encode(), u64::MAX), Ok(gap.clone()));
        gap.dump_len += 1;
        assert_eq!(Seal::decode(&gap.encode(), u64::MAX), Err(Contradiction::Gap.into()));
    }
}
