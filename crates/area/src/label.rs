//! The label: marks a stretch of a disk as Holdover's.
//!
//! One copy is in the first block of the area and one in the last. Each copy says which of the two it is, so that the
//! end of one area is not mistaken for the start of another.

use core::mem::offset_of;

use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::record::{self, Contradiction, Damage, Magic};
use crate::{BLOCK, Block, DUMP_OFFSET};

const MAGIC: Magic = *b"HOLDAREA";
/// Version 1 had no room for the log, and its dump at 1 MiB.
const VERSION: u32 = 2;

/// The content of a dump area's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Identifies the area; the capture kernel gets it when it is loaded.
    pub uuid: Uuid,
    /// Size of the area in bytes, both labels included; a multiple of 4096.
    pub length: u64,
    /// When it was formatted, in seconds since 1970.
    pub created: u64,
}

/// Which of the two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LabelCopy {
    First,
    Last,
}

impl LabelCopy {
    const fn code(self) -> u32 {
        match self {
            Self::First => 1,
            Self::Last => 2,
        }
    }
}

/// The label as it lies on disk, from byte 16 of its block.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Layout {
    version: U32,
    place: U32,
    uuid: [u8; 16],
    length: U64,
    created: U64,
}

const _: () = {
    assert!(offset_of!(Layout, uuid) == 8);
    assert!(offset_of!(Layout, length) == 24);
    assert!(size_of::<Layout>() == 40);
};

impl Label {
    /// Longest dump that this area can hold, in bytes.
    pub const fn capacity(&self) -> u64 {
        self.length.saturating_sub(DUMP_OFFSET + BLOCK)
    }

    /// Lays out the copy for `place`.
    pub(crate) fn encode(&self, place: LabelCopy) -> Block {
        let layout = Layout {
            version: VERSION.into(),
            place: place.code().into(),
            uuid: self.uuid.into_bytes(),
            length: self.length.into(),
            created: self.created.into(),
        };
        record::encode(MAGIC, &layout)
    }

    /// Reads the copy for `place`.
    pub(crate) fn decode(block: &Block, place: LabelCopy) -> Result<Self, Damage> {
        let layout: Layout = record::decode(MAGIC, block)?;
        let length = layout.length.get();
        if layout.version != VERSION {
            return Err(Damage::Version(layout.version.get()));
        }
        if layout.place != place.code() {
            return Err(Contradiction::Place.into());
        }
        if !length.is_multiple_of(BLOCK) {
            return Err(Contradiction::Length.into());
        }
        Ok(Self { uuid: Uuid::from_bytes(layout.uuid), length, created: layout.created.get() })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    const LABEL: Label = Label {
        uuid: Uuid::from_u128(0x00112233_4455_6677_8899_aabbccddeeff),
        length: 0x20_0000,
        created: 0x6553_f100,
    };

    #[test]
    fn fields_lie_where_the_layout_says() {
        let block = LABEL.encode(LabelCopy::Last);
        assert_eq!(&block[0..8], b"HOLDAREA");
        assert_eq!(block[16..24], [2, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(block[24..40], *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff");
        assert_eq!(block[40..48], [0, 0, 0x20, 0, 0, 0, 0, 0]);
        assert_eq!(block[48..56], [0, 0xf1, 0x53, 0x65, 0, 0, 0, 0]);
        assert!(block[56..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn a_copy_is_refused_in_the_others_place() {
        assert_eq!(Label::decode(&LABEL.encode(LabelCopy::First), LabelCopy::First), Ok(LABEL));
        let last = LABEL.encode(LabelCopy::Last);
        assert_eq!(Label::decode(&last, LabelCopy::First), Err(Contradiction::Place.into()));
    }

    #[test]
    fn a_label_that_cannot_be_is_told_with_what_is_wrong_with_it() {
        let odd = Label { length: LABEL.length + 512, ..LABEL }.encode(LabelCopy::First);
        let told = Label::decode(&odd, LabelCopy::First).unwrap_err().to_string();
        assert_eq!(told, "the record is impossible: the area's length is not a multiple of 4096 bytes");
    }

    #[test]
    fn a_change_anywhere_in_the_block_is_noticed() {
        let good = LABEL.encode(LabelCopy::First);
        for at in 0..good.len() {
            let mut bad = good;
            bad[at] ^= 0x10;
            assert!(Label::decode(&bad, LabelCopy::First).is_err(), "byte {at}");
        }
    }
}
