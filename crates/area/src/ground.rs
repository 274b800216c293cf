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

use alloc::vec::Vec;
use core::mem::{offset_of, size_of};

use machine::growth::{OutOfMemory, collected, push};
use machine::{BlockDevice, BlockError, ByteOffset, Position, Range};
use twox_hash::XxHash64;
use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::area::OpenError;
use crate::record::{self, Contradiction, Damage, Magic};
use crate::{BLOCK, Block};

/// Most extents of a file that is an area.
pub const MOST_FILE_EXTENTS: usize = 4 * ENTRIES;

const LABEL_MAGIC: Magic = *b"HOLDEXTN";
const LIST_MAGIC: Magic = *b"HOLDEXTS";
const VERSION: u32 = 1;
/// Entries in a block of the list.
const ENTRIES: usize = 253;

/// A stretch of a file that is in one piece on the disk. All values are multiples of 4096 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileExtent {
    /// Where it begins in the file, in bytes.
    pub file: u64,
    /// Where it begins on the whole disk, in bytes.
    pub disk: u64,
    /// Its length in bytes.
    pub length: u64,
}

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

/// A block of the list of extents. Its hash is XXH64 of bytes 16 to 4096, seed 0.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ListLayout {
    magic: [u8; 8],
    hash: U64,
    uuid: [u8; 16],
    /// The number of the block.
    index: U32,
    reserved: U32,
    /// Place on the disk and length of each extent; zeros after the last one.
    entries: [[U64; 2]; ENTRIES],
    rest: [u8; 8],
}

const _: () = {
    assert!(offset_of!(LabelLayout, index) == 24);
    assert!(size_of::<LabelLayout>() == 56);
    assert!(size_of::<ListLayout>() == BLOCK as usize);
};

/// The label of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ExtentLabel {
    uuid: Uuid,
    index: u32,
    count: u32,
    extent: FileExtent,
}

impl ExtentLabel {
    fn encode(&self) -> Block {
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
    fn read(device: &mut dyn BlockDevice, place: u64) -> Result<Result<Self, Damage>, BlockError> {
        let mut block = [0; BLOCK as usize];
        device.read(place, &mut block)?;
        Ok(Self::decode(&block))
    }
}

/// Blocks in front of the area's part of an extent: its label, and the list in the first one.
fn blocks_before(index: usize, count: usize) -> u64 {
    1 + if index == 0 { count.div_ceil(ENTRIES) as u64 } else { 0 }
}

/// Lays out block number `index` of the list of `extents`.
fn list_block(uuid: Uuid, index: usize, extents: &[FileExtent]) -> Block {
    let mut entries = [[U64::ZERO; 2]; ENTRIES];
    for (entry, extent) in entries.iter_mut().zip(extents.iter().skip(index * ENTRIES)) {
        *entry = [extent.disk.into(), extent.length.into()];
    }
    let mut layout = ListLayout {
        magic: LIST_MAGIC,
        hash: U64::ZERO,
        uuid: uuid.into_bytes(),
        index: U32::new(index as u32),
        reserved: U32::ZERO,
        entries,
        rest: [0; 8],
    };
    layout.hash = XxHash64::oneshot(0, &layout.as_bytes()[16..]).into();
    let mut block = [0; BLOCK as usize];
    block.copy_from_slice(layout.as_bytes());
    block
}

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

/// What a file says of itself that is an area, or was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstExtent {
    /// The area.
    pub uuid: Uuid,
    /// Where on its disk the file's first extent was when the area was made. Whether it is there the labels on the disk tell.
    pub disk: u64,
}

impl FirstExtent {
    /// Reads the label of the first extent at byte `offset` of a file; `None` if there is none.
    pub fn read(file: &mut dyn BlockDevice, offset: u64) -> Result<Option<Self>, BlockError> {
        let label = ExtentLabel::read(file, offset)?.ok().filter(|label| label.index == 0);
        Ok(label.map(|label| Self { uuid: label.uuid, disk: label.extent.disk }))
    }
}

/// Erases the labels and the list of a file that is an area, through the file: `offset` is where the area begins in it. From then on
/// nobody takes the file's blocks for an area, wherever they are and whoever gets them.
///
/// The first label goes first: whoever looks for the area looks there, and finds none without it. What the list does not tell, because it
/// is damaged, stays.
pub fn erase_file(file: &mut dyn BlockDevice, offset: u64) -> Result<(), OpenError> {
    let first = ExtentLabel::read(file, offset)?.map_err(OpenError::Label)?;
    let extents = list_in_file(file, offset, &first);
    let mut erase = |offset| file.write(offset, &[0; BLOCK as usize]);
    erase(offset)?;
    let erased = extents.and_then(|extents| {
        // Behind the list is the area's own label.
        (1..=blocks_before(0, extents.len())).try_for_each(|block| erase(offset + block * BLOCK))?;
        Ok(extents.iter().skip(1).try_for_each(|extent| erase(extent.file))?)
    });
    file.flush()?;
    erased
}

/// The extents of a file, as the list in it says.
fn list_in_file(
    file: &mut dyn BlockDevice,
    offset: u64,
    first: &ExtentLabel,
) -> Result<Vec<FileExtent>, OpenError> {
    let extents = read_list(file, offset, first)?;
    let (start, size) = (first.extent.file, file.size());
    let in_file = extents.last().is_some_and(|last| last.file + last.length <= size);
    let has_room =
        |(index, extent): (usize, &FileExtent)| extent.length >= blocks_before(index, extents.len()) * BLOCK;
    if start != offset || !in_file || !extents.iter().enumerate().all(has_room) {
        return Err(OpenError::List(Contradiction::Extents.into()));
    }
    Ok(extents)
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
    /// extents were [checked](are_possible).
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
        for index in 0..count.div_ceil(ENTRIES) {
            let place = extents[0].file + (1 + index as u64) * BLOCK;
            file.write(place, &list_block(uuid, index, extents))?;
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

/// Reads the list of extents of a file on its disk, and checks the label of each.
fn read_checked_list(
    device: &mut dyn BlockDevice,
    offset: u64,
    first: &ExtentLabel,
) -> Result<Vec<FileExtent>, OpenError> {
    if first.extent.disk != offset {
        return Err(OpenError::Label(Contradiction::Extents.into()));
    }
    let extents = read_list(device, offset, first)?;
    if !are_possible(&extents, device.size())? {
        return Err(OpenError::List(Contradiction::Extents.into()));
    }
    check_labels(device, first, &extents, |extent| extent.disk)?;
    Ok(extents)
}

/// Reads the list of extents behind the first one's label, which is at byte `offset`: of the disk or of the file.
fn read_list(
    device: &mut dyn BlockDevice,
    offset: u64,
    first: &ExtentLabel,
) -> Result<Vec<FileExtent>, OpenError> {
    let count = first.count as usize;
    if !(1..=MOST_FILE_EXTENTS).contains(&count) || first.index != 0 {
        return Err(OpenError::Label(Contradiction::Extents.into()));
    }
    let (mut extents, mut file) = (Vec::new(), first.extent.file);
    for index in 0..count.div_ceil(ENTRIES) {
        let place = offset.checked_add((1 + index as u64) * BLOCK).ok_or(BlockError::OutOfBounds)?;
        let list = read_list_block(device, place, first.uuid, index)?;
        for [disk, length] in list.entries.iter().take(count - extents.len()) {
            let extent = FileExtent { file, disk: disk.get(), length: length.get() };
            file = file.checked_add(extent.length).ok_or(OpenError::List(Contradiction::Extents.into()))?;
            push(&mut extents, extent)?;
        }
    }
    if extents.first() != Some(&first.extent) {
        return Err(OpenError::List(Contradiction::Extents.into()));
    }
    Ok(extents)
}

fn read_list_block(
    device: &mut dyn BlockDevice,
    place: u64,
    uuid: Uuid,
    index: usize,
) -> Result<ListLayout, OpenError> {
    let mut block = [0; BLOCK as usize];
    device.read(place, &mut block)?;
    let damaged = |damage| Err(OpenError::List(damage));
    let Ok(list) = ListLayout::read_from_bytes(&block) else { return damaged(Damage::Checksum) };
    if list.magic != LIST_MAGIC {
        return damaged(Damage::NoMagic);
    }
    if list.hash.get() != XxHash64::oneshot(0, &block[16..]) {
        return damaged(Damage::Checksum);
    }
    if list.uuid != uuid.into_bytes() || list.index.get() != index as u32 {
        return damaged(Contradiction::Extents.into());
    }
    Ok(list)
}

/// Checks that each extent begins with its label at its `place` on the device.
fn check_labels(
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

/// Whether these can be the extents of a file on a disk of `size` bytes: in whole blocks, one after another in the file, with room
/// for their labels, and none over another.
pub(crate) fn are_possible(extents: &[FileExtent], size: u64) -> Result<bool, OutOfMemory> {
    let count = extents.len();
    let is_possible = |(index, extent): (usize, &FileExtent)| {
        let end = extent.disk.checked_add(extent.length);
        let numbers = [extent.file, extent.disk, extent.length];
        numbers.iter().all(|number| number.is_multiple_of(BLOCK))
            && extent.length >= blocks_before(index, count) * BLOCK
            && end.is_some_and(|end| end <= size)
    };
    let follows = |pair: &[FileExtent]| pair[0].file.checked_add(pair[0].length) == Some(pair[1].file);
    if !(1..=MOST_FILE_EXTENTS).contains(&count)
        || !extents.iter().enumerate().all(is_possible)
        || !extents.windows(2).all(follows)
    {
        return Ok(false);
    }
    let mut places = collected(extents.iter().map(|extent| (extent.disk, extent.disk + extent.length)))?;
    places.sort_unstable();
    Ok(places.windows(2).all(|pair| pair[0].1 <= pair[1].0))
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
