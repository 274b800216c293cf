//! The label at the start of each extent of a file: which of the extents it is, of which area, and where.

use core::mem::{offset_of, size_of};

use machine::{BlockDevice, BlockError};
use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::list::FileExtent;
use crate::area::OpenError;
use crate::record::{self, Contradiction, Damage, Magic};
use crate::{BLOCK, Block};

const LABEL_MAGIC: Magic = *b"HOLDEXTN";
const VERSION: u32 = 1;

/// The label of an extent as it lies on disk, from byte 16 of its block.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct LabelLayout {
    version: U32,
    /// How many extents there are.
    count: U32,
    uuid: [u8; 16],
    index: U32,
    reserved: U32,
    file: U64,
    disk: U64,
    length: U64,
}

const _: () = {
    assert!(offset_of!(LabelLayout, index) == 24);
    assert!(size_of::<LabelLayout>() == 56);
};

/// The label of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExtentLabel {
    pub(super) uuid: Uuid,
    pub(super) index: u32,
    pub(super) count: u32,
    pub(super) extent: FileExtent,
}

impl ExtentLabel {
    pub(super) fn encode(&self) -> Block {
        let layout = LabelLayout {
            version: VERSION.into(),
            count: self.count.into(),
            uuid: self.uuid.into_bytes(),
            index: self.index.into(),
            reserved: U32::ZERO,
            file: self.extent.file.into(),
            disk: self.extent.disk.into(),
            length: self.extent.length.into(),
        };
        record::encode(LABEL_MAGIC, &layout)
    }

    fn decode(block: &Block) -> Result<Self, Damage> {
        let layout: LabelLayout = record::decode(LABEL_MAGIC, block)?;
        if layout.version != VERSION {
            return Err(Damage::Version(layout.version.get()));
        }
        let [file, disk, length] = [layout.file, layout.disk, layout.length].map(U64::get);
        let extent = FileExtent { file, disk, length };
        let (index, count) = (layout.index.get(), layout.count.get());
        Ok(Self { uuid: Uuid::from_bytes(layout.uuid), index, count, extent })
    }

    /// Reads the label at a place of the disk.
    pub(super) fn read(device: &mut dyn BlockDevice, place: u64) -> Result<Result<Self, Damage>, BlockError> {
        let mut block = [0; BLOCK as usize];
        device.read(place, &mut block)?;
        Ok(Self::decode(&block))
    }
}

/// Checks that each extent begins with its label at its `place` on the device.
pub(super) fn check_labels(
    device: &mut dyn BlockDevice,
    first: &ExtentLabel,
    extents: &[FileExtent],
    place: fn(&FileExtent) -> u64,
) -> Result<(), OpenError> {
    extents.iter().enumerate().try_for_each(|(index, extent)| {
        let expected = ExtentLabel { index: index as u32, extent: *extent, ..*first };
        check_label(device, &expected, place(extent))
    })
}

/// Checks that an extent is where it was.
fn check_label(device: &mut dyn BlockDevice, expected: &ExtentLabel, place: u64) -> Result<(), OpenError> {
    let index = expected.index;
    match ExtentLabel::read(device, place)? {
        Ok(found) if found == *expected => Ok(()),
        Ok(_) => Err(OpenError::Moved { index, place, damage: Contradiction::Extents.into() }),
        Err(damage) => Err(OpenError::Moved { index, place, damage }),
    }
}
