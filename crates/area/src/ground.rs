//! What an area lies on: a disk as it is, or the extents of a file on it.
//!
//! A file that was written through and is kept where it is (see the host's `format --file`) is a list of extents of its disk. Nobody
//! can ask the file system in a machine that has crashed, so each extent begins with a label of its own, and the first one's label is
//! followed by the list:
//!
//! ```text
//! extent 0:    label | list of extents, 1 to 4 blocks | area, first part
//! extent 1:    label | area, next part
//! …
//! ```
//!
//! The area's offsets count in these parts, one after another. All labels are read before there is an area, so nothing is written
//! unless each extent is where it was, and nothing is written outside the extents, because no offset of the area leads there.

pub(crate) mod file;
mod label;
pub(crate) mod list;

use alloc::vec::Vec;

use machine::growth::{OutOfMemory, push};
use machine::{BlockDevice, BlockError, ByteOffset, Position, Range};
use uuid::Uuid;

use self::label::{ExtentLabel, check_labels};
use self::list::{FileExtent, blocks_before, list_blocks, list_in_file, read_checked_list};
use crate::BLOCK;
use crate::area::OpenError;
use crate::record::Damage;

/// A part of the area that is in one piece.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Its first byte in the area.
    start: u64,
    /// Where it is.
    place: Range<ByteOffset>,
}

/// What an area lies on.
pub(crate) enum Ground<D> {
    /// A device as it is.
    Whole(D),
    /// Parts of a device, one after another.
    Parts(Parts<D>),
}

/// Parts of a device as one device.
pub(crate) struct Parts<D> {
    device: D,
    /// In ascending order of their starts, without gaps.
    list: Vec<Part>,
    size: u64,
}

impl<D> Ground<D> {
    /// The same place on what `exchange` gives for the device.
    pub(crate) fn map<E>(self, exchange: impl FnOnce(D) -> E) -> Ground<E> {
        match self {
            Self::Whole(device) => Ground::Whole(exchange(device)),
            Self::Parts(Parts { device, list, size }) => {
                Ground::Parts(Parts { device: exchange(device), list, size })
            }
        }
    }
}

impl<D: BlockDevice> Ground<D> {
    /// Finds out what is at byte `offset` of a disk; returns it, and the offset on it at which the area is. `uuid` is the area that is
    /// meant; with `None` it may be any.
    pub(crate) fn find(mut device: D, offset: u64, uuid: Option<Uuid>) -> Result<(Self, u64), OpenError> {
        match ExtentLabel::read(&mut device, offset)? {
            Err(Damage::NoMagic) => Ok((Self::Whole(device), offset)),
            Err(damage) => Err(OpenError::Label(damage)),
            Ok(first) if uuid.is_some_and(|uuid| uuid != first.uuid) => {
                Err(OpenError::OtherArea { found: first.uuid })
            }
            Ok(first) => Ok((Self::Parts(Parts::read(device, offset, first)?), 0)),
        }
    }

    /// The area in a file that begins at byte `offset` of it, wherever the file is.
    pub(crate) fn in_file(mut file: D, offset: u64, uuid: Uuid) -> Result<Self, OpenError> {
        let first = ExtentLabel::read(&mut file, offset)?.map_err(OpenError::Label)?;
        if first.uuid != uuid {
            return Err(OpenError::OtherArea { found: first.uuid });
        }
        let extents = list_in_file(&mut file, offset, &first)?;
        let in_file = extents.iter().map(|extent| (extent.file, extent.length));
        check_labels(&mut file, &first, &extents, |extent| extent.file)?;
        Ok(Self::Parts(Parts::over(file, in_file, extents.len())?))
    }

    /// Place on the device and length of each extent of a file, labels included; none of another area.
    pub(crate) fn extents(&self) -> impl Iterator<Item = (u64, u64)> {
        let parts = match self {
            Self::Whole(_) => &[],
            Self::Parts(parts) => parts.list.as_slice(),
        };
        parts.iter().enumerate().map(|(index, part)| {
            let before = blocks_before(index, parts.len()) * BLOCK;
            (part.place.start.get() - before, part.place.len() + before)
        })
    }

    /// The device underneath.
    pub(crate) fn device(&self) -> &D {
        match self {
            Self::Whole(device) => device,
            Self::Parts(parts) => &parts.device,
        }
    }
}

impl<D: BlockDevice> Parts<D> {
    /// Reads the list of extents behind the first one's label, and the label of each.
    fn read(mut device: D, offset: u64, first: ExtentLabel) -> Result<Self, OpenError> {
        let extents = read_checked_list(&mut device, offset, &first)?;
        Ok(Self::over(device, extents.iter().map(|extent| (extent.disk, extent.length)), extents.len())?)
    }

    /// The parts of the area in extents, each given by its place on the device and its length.
    fn over(device: D, extents: impl Iterator<Item = (u64, u64)>, count: usize) -> Result<Self, OutOfMemory> {
        let (mut list, mut size) = (Vec::new(), 0);
        for (index, (place, length)) in extents.enumerate() {
            let before = blocks_before(index, count) * BLOCK;
            let place = Range::from(place + before..place + length);
            push(&mut list, Part { start: size, place })?;
            size += place.len();
        }
        Ok(Self { device, list, size })
    }

    /// Writes the labels of a file's extents and the list of them, and returns the parts between them, as parts of the file. The
    /// extents were [checked](list::are_possible).
    pub(crate) fn format(
        mut file: D,
        extents: &[FileExtent],
        uuid: Uuid,
    ) -> Result<Self, crate::FormatError> {
        let count = extents.len();
        for (index, extent) in extents.iter().enumerate() {
            let label = ExtentLabel { uuid, index: index as u32, count: count as u32, extent: *extent };
            file.write(extent.file, &label.encode())?;
        }
        for (index, block) in (1..).zip(list_blocks(uuid, extents)) {
            file.write(extents[0].file + index * BLOCK, &block)?;
        }
        file.flush()?;
        Ok(Self::over(file, extents.iter().map(|extent| (extent.file, extent.length)), count)?)
    }

    /// The part of the area in which byte `offset` is, and where that byte is on the device.
    fn locate(&self, offset: u64) -> Result<Range<ByteOffset>, BlockError> {
        let after = self.list.partition_point(|part| part.start <= offset);
        let part = after.checked_sub(1).and_then(|index| self.list.get(index));
        let part = part.ok_or(BlockError::OutOfBounds)?;
        let start = part.place.start.checked_add(offset - part.start);
        let start = start.filter(|start| *start < part.place.end).ok_or(BlockError::OutOfBounds)?;
        Ok(Range { start, end: part.place.end })
    }

    /// The places on the device of `len` bytes at `offset`: has `access` access each, with its place among the bytes.
    fn each(
        &mut self,
        offset: u64,
        len: usize,
        mut access: impl FnMut(&mut D, u64, core::ops::Range<usize>) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.size);
        end.ok_or(BlockError::OutOfBounds)?;
        let mut done = 0;
        while done < len {
            let place = self.locate(offset + done as u64)?;
            let piece = place.len().min((len - done) as u64) as usize;
            access(&mut self.device, place.start.get(), done..done + piece)?;
            done += piece;
        }
        Ok(())
    }
}

impl<D: BlockDevice> BlockDevice for Ground<D> {
    fn size(&self) -> u64 {
        match self {
            Self::Whole(device) => device.size(),
            Self::Parts(parts) => parts.size,
        }
    }

    fn block_size(&self) -> u32 {
        BLOCK as u32
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        match self {
            Self::Whole(device) => device.read(offset, into),
            Self::Parts(parts) => {
                parts.each(offset, into.len(), |device, place, piece| device.read(place, &mut into[piece]))
            }
        }
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        match self {
            Self::Whole(device) => device.write(offset, from),
            Self::Parts(parts) => {
                parts.each(offset, from.len(), |device, place, piece| device.write(place, &from[piece]))
            }
        }
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        match self {
            Self::Whole(device) => device.flush(),
            Self::Parts(parts) => parts.device.flush(),
        }
    }
}
