//! The extents of a file, and the list of them behind the label of the first.

use alloc::vec::Vec;
use core::mem::size_of;

use machine::growth::{OutOfMemory, collected, push};
use machine::{BlockDevice, BlockError};
use twox_hash::XxHash64;
use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::label::{ExtentLabel, check_labels};
use crate::area::OpenError;
use crate::record::{Contradiction, Damage, Magic};
use crate::{BLOCK, Block};

/// Most extents of a file that is an area.
pub const MOST_FILE_EXTENTS: usize = 4 * ENTRIES;

const LIST_MAGIC: Magic = *b"HOLDEXTS";
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
    assert!(size_of::<ListLayout>() == BLOCK as usize);
};

/// Blocks in front of the area's part of an extent: its label, and the list in the first one.
pub(super) fn blocks_before(index: usize, count: usize) -> u64 {
    1 + if index == 0 { count.div_ceil(ENTRIES) as u64 } else { 0 }
}

/// The blocks of the list of `extents`.
pub(super) fn list_blocks(uuid: Uuid, extents: &[FileExtent]) -> impl Iterator<Item = Block> {
    (0..extents.len().div_ceil(ENTRIES)).map(move |index| list_block(uuid, index, extents))
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

/// The extents of a file, as the list in it says.
pub(super) fn list_in_file(
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

/// Reads the list of extents of a file on its disk, and checks the label of each.
pub(super) fn read_checked_list(
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
