//! A file that is an area, whose labels and list of extents come from the fuzzer: read on the disk, through the file, and erased through it.
//! The target computes the checksums, and repeats what the list says in the labels of the other extents.
//!
//! The first 40 bytes are the fields of the area's label, then come 56 of the first extent's label, and then 16 for each entry of the list.

#![no_main]

use area::{Area, BLOCK, FirstExtent, erase_file, read_label};
use libfuzzer_sys::fuzz_target;
use machine::{BlockDevice, BlockError};
use twox_hash::XxHash64;

/// Bytes of the fields of an area's label, of an extent's label, and of an entry.
const LABEL: usize = 40;
const EXTENT: usize = 56;
const ENTRY: usize = 16;
/// Byte of an area's label that says which of the two it is.
const PLACE: usize = 4;
/// Entries in a block of the list.
const ENTRIES: usize = 253;
/// Where the area begins in its file.
const HEAD: u64 = 64 << 10;
/// Bytes of the disk and of the file.
const SIZE: u64 = 1 << 30;

fuzz_target!(|bytes: &[u8]| {
    let Some(file) = File::new(bytes) else { return };
    let on_disk = || Device { file: &file, place: |extent| extent.disk, label: None };
    let in_file = || Device { file: &file, place: |extent| extent.file, label: Some(HEAD) };
    let first = file.extents[0];
    let _ = read_label(&mut on_disk(), first.disk);
    if let Ok(area) = Area::open(on_disk(), first.disk, file.uuid()) {
        assert!(area.extents().eq(file.extents.iter().take(file.count()).map(|one| (one.disk, one.length))));
        // Each write is checked by the device.
        let _ = area.begin().map(|mut dump| dump.write(0, &[1; BLOCK as usize]));
    }
    if let Ok(Some(_)) = FirstExtent::read(&mut in_file(), HEAD) {
        let _ = Area::open_in_file(in_file(), HEAD, file.uuid()).map(|mut area| area.read_seal());
        let _ = erase_file(&mut in_file(), HEAD);
    }
});

/// An entry of the list, and where it would be in the file.
#[derive(Clone, Copy)]
struct Extent {
    file: u64,
    disk: u64,
    length: u64,
}

/// What the fuzzer says of a file.
struct File<'a> {
    label: &'a [u8],
    first: &'a [u8],
    extents: Vec<Extent>,
}

impl<'a> File<'a> {
    /// Reads the fuzzer's bytes, if there is an entry at least.
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let (label, rest) = bytes.split_at_checked(LABEL)?;
        let (first, entries) = rest.split_at_checked(EXTENT)?;
        let mut next = HEAD;
        let extent = |entry: &[u8]| {
            let (disk, length) = (number(entry, 0), number(entry, 8));
            let file = next;
            next = next.wrapping_add(length);
            Extent { file, disk, length }
        };
        let extents: Vec<_> = entries.chunks_exact(ENTRY).map(extent).collect();
        (!extents.is_empty()).then_some(Self { label, first, extents })
    }

    fn uuid(&self) -> uuid::Uuid {
        uuid::Uuid::from_slice(&self.first[8..24]).expect("it has 16 bytes")
    }

    /// How many extents the first label tells of.
    fn count(&self) -> usize {
        u32::from_le_bytes(self.first[4..8].try_into().expect("it has 4 bytes")) as usize
    }

    /// The label of an extent.
    fn extent_label(&self, index: usize) -> Vec<u8> {
        let mut fields = self.first.to_vec();
        if index > 0 {
            let Extent { file, disk, length } = self.extents[index];
            fields[24..28].copy_from_slice(&(index as u32).to_le_bytes());
            for (at, value) in [(32, file), (40, disk), (48, length)] {
                fields[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
        block(*b"HOLDEXTN", &fields)
    }

    /// A block of the list.
    fn list(&self, index: usize) -> Vec<u8> {
        let mut fields = self.first[8..24].to_vec();
        fields.extend((index as u64).to_le_bytes());
        for extent in self.extents.iter().skip(index * ENTRIES).take(ENTRIES) {
            fields.extend([extent.disk.to_le_bytes(), extent.length.to_le_bytes()].concat());
        }
        block(*b"HOLDEXTS", &fields)
    }

    /// The area's own label, or the second one.
    fn area_label(&self, plus: u8) -> Vec<u8> {
        let mut fields = self.label.to_vec();
        fields[PLACE] = fields[PLACE].wrapping_add(plus);
        block(*b"HOLDAREA", &fields)
    }
}

/// The file as one of both sees it that hold its blocks: its disk, or the file system.
struct Device<'a> {
    file: &'a File<'a>,
    place: fn(&Extent) -> u64,
    /// A block that may be written whatever the list says: the label that makes the file an area.
    label: Option<u64>,
}

impl Device<'_> {
    /// The block at `offset`; most are zeros.
    fn block(&self, offset: u64) -> Vec<u8> {
        let extents = &self.file.extents;
        if let Some(index) = extents.iter().position(|extent| (self.place)(extent) == offset) {
            return self.file.extent_label(index);
        }
        let lists = self.file.count().div_ceil(ENTRIES) as u64;
        let behind = offset.wrapping_sub((self.place)(&extents[0])) / BLOCK;
        let last = extents.last().map(|last| (self.place)(last).wrapping_add(last.length));
        match behind {
            1.. if behind <= lists => self.file.list(behind as usize - 1),
            _ if behind == lists + 1 => self.file.area_label(0),
            _ if Some(offset + BLOCK) == last => self.file.area_label(1),
            _ => vec![0; BLOCK as usize],
        }
    }
}

impl BlockDevice for Device<'_> {
    fn size(&self) -> u64 {
        SIZE
    }

    fn block_size(&self) -> u32 {
        BLOCK as u32
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        let end = offset.checked_add(into.len() as u64).filter(|end| *end <= SIZE);
        end.ok_or(BlockError::OutOfBounds)?;
        for (offset, part) in (offset..).step_by(BLOCK as usize).zip(into.chunks_mut(BLOCK as usize)) {
            part.copy_from_slice(&self.block(offset)[..part.len()]);
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        let end = offset.checked_add(from.len() as u64).filter(|end| *end <= SIZE);
        let end = end.ok_or(BlockError::OutOfBounds)?;
        let holds = |extent: &Extent| {
            let start = (self.place)(extent);
            start <= offset && start.checked_add(extent.length).is_some_and(|last| end <= last)
        };
        let is_label = Some(offset) == self.label && from.len() as u64 == BLOCK;
        assert!(is_label || self.file.extents.iter().any(holds), "{offset:#x} is in no extent");
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        Ok(())
    }
}

fn number(entry: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(entry[at..at + 8].try_into().expect("it has 8 bytes"))
}

/// A block with a record: magic, checksum, fields.
fn block(magic: [u8; 8], fields: &[u8]) -> Vec<u8> {
    let mut block = vec![0; BLOCK as usize];
    block[..8].copy_from_slice(&magic);
    block[16..16 + fields.len()].copy_from_slice(fields);
    let hash = XxHash64::oneshot(0, &block[16..]).to_le_bytes();
    block[8..16].copy_from_slice(&hash);
    block
}
