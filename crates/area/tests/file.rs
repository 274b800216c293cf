//! Tests an area that is a file: its extents lie anywhere on the disk, and nothing between them is touched.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise, as tests do")]

use area::{
    Area, Completeness, DUMP_OFFSET, Damage, FileExtent, FirstExtent, FormatError, Label, MOST_FILE_EXTENTS,
    OpenError, SealState, erase_file, read_label,
};
use fixtures::CachedDisk as Disk;
use machine::{BlockDevice, BlockError, ByteOffset, Range};
use proptest::prelude::*;
use uuid::Uuid;

const UUID: Uuid = Uuid::from_u128(0x1234);
const DISK: u64 = 12 << 20;
/// Where the area begins in its file.
const HEAD: u64 = 64 << 10;
/// What others have on the disk.
const FOREIGN: u8 = 0xf0;

fn label() -> Label {
    Label { uuid: UUID, length: 0, created: 0 }
}

/// A file whose extents lie at these places of the disk, in their order.
fn extents(places: &[(u64, u64)]) -> Vec<FileExtent> {
    let mut file = HEAD;
    let extent = |&(disk, length)| {
        file += length;
        FileExtent { file: file - length, disk, length }
    };
    places.iter().map(extent).collect()
}

/// Three extents, the second of which is in front of the first on the disk; the third is nothing but its label.
fn three() -> Vec<FileExtent> {
    extents(&[(6 << 20, 3 << 20), (1 << 20, 2 << 20), (5 << 20, 4096)])
}

/// A file system's view of a disk: writes at offsets of a file.
struct File<'a> {
    disk: &'a mut Disk,
    extents: &'a [FileExtent],
}

impl File<'_> {
    fn place(&self, offset: u64) -> u64 {
        let holds = |extent: &&FileExtent| (extent.file..extent.file + extent.length).contains(&offset);
        let extent = self.extents.iter().find(holds).unwrap();
        extent.disk + offset - extent.file
    }
}

impl BlockDevice for File<'_> {
    fn size(&self) -> u64 {
        self.extents.last().map_or(0, |last| last.file + last.length)
    }

    fn block_size(&self) -> u32 {
        4096
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        for (offset, block) in (offset..).step_by(4096).zip(into.chunks_mut(4096)) {
            self.disk.read(self.place(offset), block)?;
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        for (offset, block) in (offset..).step_by(4096).zip(from.chunks(4096)) {
            self.disk.write(self.place(offset), block)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        self.disk.flush()
    }
}

fn format(extents: &[FileExtent]) -> Disk {
    let mut disk = Disk::holding(vec![FOREIGN; DISK as usize]);
    Area::format_file(File { disk: &mut disk, extents }, extents, DISK, label()).unwrap();
    disk
}

fn open<'a>(disk: &'a mut Disk, extents: &[FileExtent]) -> Result<Area<&'a mut Disk>, OpenError> {
    Area::open(disk, extents[0].disk, UUID)
}

fn inside(extents: &[FileExtent], write: Range<ByteOffset>) -> bool {
    extents.iter().any(|extent| Range::from(extent.disk..extent.disk + extent.length).covers(write))
}

/// Writes a dump of `blocks` blocks, each of which has its own content.
fn dump(disk: &mut Disk, extents: &[FileExtent], blocks: u64) {
    let mut dump = open(disk, extents).unwrap().begin().unwrap();
    dump.log(5).store().unwrap();
    let bytes: Vec<u8> = (0..blocks * 4096).map(|at| (at / 4096 + at) as u8).collect();
    dump.write(0, &bytes).unwrap();
    let seal = dump.seal(Completeness::Complete, blocks * 4096).unwrap();
    assert_eq!(seal.state, SealState::Complete);
}

#[test]
fn a_dump_goes_over_several_extents_and_is_read_back_from_the_disk() {
    let extents = three();
    let mut disk = format(&extents);
    let mut area = open(&mut disk, &extents).unwrap();
    // Three labels, and the list in one block.
    assert_eq!(area.label().length, (5 << 20) - 3 * 4096);
    let capacity = area.label().capacity();
    assert_eq!(capacity, (1 << 20) - 4 * 4096);
    assert_eq!(area.read_seal().unwrap().state, SealState::Empty);
    dump(&mut disk, &extents, capacity / 4096);
    let mut area = open(&mut disk, &extents).unwrap();
    let (seal, mut bytes) = (area.read_seal().unwrap(), Vec::new());
    area.read_dump(&seal, |_, piece| {
        bytes.extend_from_slice(piece);
        Ok::<(), ()>(())
    })
    .unwrap();
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == (at / 4096 + at) as u8));
    assert!(disk.writes().all(|write| inside(&extents, write)));
    assert_eq!(read_label(&mut disk, 6 << 20).unwrap().uuid, UUID);
}

/// One extent at a time is overwritten, as when its file was removed and the blocks are another's.
#[test]
fn an_extent_that_is_another_files_now_is_noticed_before_anything_is_written() {
    let extents = three();
    for (index, extent) in extents.iter().enumerate().skip(1) {
        let mut disk = format(&extents);
        let steps = disk.count.get();
        disk.now[extent.disk as usize..][..4096].fill(FOREIGN);
        let refused = open(&mut disk, &extents).err().unwrap();
        let OpenError::Moved { index: moved, place, .. } = refused else { panic!("{refused}") };
        assert_eq!((moved as usize, place), (index, extent.disk));
        assert_eq!(disk.count.get(), steps, "nothing was written");
    }
}

#[test]
fn labels_that_changed_places_are_refused() {
    let extents = extents(&[(6 << 20, 3 << 20), (1 << 20, 1 << 20), (3 << 20, 1 << 20)]);
    let mut disk = format(&extents);
    let (one, two) = (1 << 20, 3 << 20);
    for at in 0..4096 {
        disk.now.swap(one + at, two + at);
    }
    assert!(matches!(open(&mut disk, &extents), Err(OpenError::Moved { index: 1, .. })));
}

#[test]
fn a_list_that_was_changed_or_replaced_is_refused() {
    let extents = three();
    let mut disk = format(&extents);
    disk.now[(6 << 20) + 4096 + 60] ^= 1;
    assert!(matches!(open(&mut disk, &extents), Err(OpenError::List(_))));
    disk.now[(6 << 20) + 4096..][..4096].fill(0);
    assert!(matches!(open(&mut disk, &extents), Err(OpenError::List(_))));
}

#[test]
fn another_files_area_and_the_place_of_another_extent_are_refused() {
    let extents = three();
    let mut disk = format(&extents);
    assert_eq!(Area::open(&mut disk, 6 << 20, Uuid::nil()).err(), Some(OpenError::OtherArea { found: UUID }));
    assert!(matches!(Area::open(&mut disk, 1 << 20, UUID).err(), Some(OpenError::Label(_))));
}

#[test]
fn a_disk_that_has_become_smaller_is_refused() {
    let extents = three();
    let mut disk = format(&extents);
    disk.now.truncate(8 << 20);
    assert!(matches!(open(&mut disk, &extents), Err(OpenError::List(_))));
}

#[test]
fn extents_that_cannot_be_are_not_formatted() {
    let mut hole = three();
    hole[2].file += 4096;
    let odd = |change: fn(&mut FileExtent)| {
        let mut odd = three();
        change(&mut odd[1]);
        odd
    };
    for bad in [
        vec![],
        hole,
        extents(&[(0, 5 << 20), (4 << 20, 1 << 20)]),
        extents(&[(DISK - 4096, 5 << 20)]),
        extents(&[(u64::MAX - 4095, 8192)]),
        extents(&[(0, 4096), (1 << 20, 5 << 20)]),
        odd(|extent| extent.disk += 512),
        odd(|extent| extent.length = 0),
        extents(&vec![(0, 4096); MOST_FILE_EXTENTS + 1]),
    ] {
        let mut disk = Disk::holding(vec![FOREIGN; DISK as usize]);
        let formatted = Area::format_file(&mut disk, &bad, DISK, label());
        assert_eq!(formatted.err(), Some(FormatError::Extents), "{bad:?}");
        assert_eq!(disk.count.get(), 0, "nothing was written");
    }
}

/// The file's blocks get another owner, who may leave what is in them.
#[test]
fn no_label_of_a_file_that_was_erased_is_left_on_the_disk() {
    let extents = three();
    let mut disk = format(&extents);
    erase_file(&mut File { disk: &mut disk, extents: &extents }, HEAD).unwrap();
    assert!(disk.writes().all(|write| inside(&extents, write)));
    assert_eq!(open(&mut disk, &extents).err(), Some(OpenError::Label(Damage::NoMagic)));
    let labels = disk.now.chunks(4096).filter(|block| block.starts_with(b"HOLDEXT"));
    assert_eq!(labels.count(), 0);
    let again = erase_file(&mut File { disk: &mut disk, extents: &extents }, HEAD);
    assert_eq!(again, Err(OpenError::Label(Damage::NoMagic)), "it is no area any more");
}

#[test]
fn a_file_whose_list_is_damaged_is_no_area_after_it_was_erased() {
    let extents = three();
    for damage in [60, 4096] {
        let mut disk = format(&extents);
        disk.now[(6 << 20) + 4096..][..damage].fill(0);
        let erased = erase_file(&mut File { disk: &mut disk, extents: &extents }, HEAD);
        assert!(matches!(erased, Err(OpenError::List(_))), "{erased:?}");
        assert_eq!(open(&mut disk, &extents).err(), Some(OpenError::Label(Damage::NoMagic)));
    }
}

/// As after a defragmentation.
#[test]
fn a_dump_in_a_file_that_moved_is_read_through_the_file() {
    let extents = three();
    let mut disk = format(&extents);
    dump(&mut disk, &extents, 9);
    let moved: Vec<_> =
        extents.iter().map(|extent| FileExtent { disk: extent.disk - (1 << 20), ..*extent }).collect();
    let mut elsewhere = Disk::holding(vec![FOREIGN; DISK as usize]);
    for (from, to) in extents.iter().zip(&moved) {
        let bytes = &disk.now[from.disk as usize..][..from.length as usize];
        elsewhere.now[to.disk as usize..][..to.length as usize].copy_from_slice(bytes);
    }
    let mut through = File { disk: &mut elsewhere, extents: &moved };
    assert_eq!(FirstExtent::read(&mut through, HEAD), Ok(Some(FirstExtent { uuid: UUID, disk: 6 << 20 })));
    let mut area = Area::open_in_file(&mut through, HEAD, UUID).unwrap();
    let seal = area.read_seal().unwrap();
    assert_eq!((seal.state, seal.dump_len), (SealState::Complete, 9 * 4096));
    assert_eq!(area.read_dump(&seal, |_, _| Ok::<(), ()>(())), Ok(()));
    area.mark_collected(&seal, 7).unwrap();
    assert!(elsewhere.writes().all(|write| inside(&moved, write)));
    assert!(matches!(Area::open(&mut elsewhere, 5 << 20, UUID).err(), Some(OpenError::Label(_))));
}

/// A copy of a file has the labels of the file that it was copied from; a file that was cut has a list that is too long.
#[test]
fn a_list_that_is_longer_than_its_file_makes_nobody_write_elsewhere() {
    let extents = three();
    let mut disk = format(&extents);
    let cut = &extents[..2];
    let erased = erase_file(&mut File { disk: &mut disk, extents: cut }, HEAD);
    assert!(matches!(erased, Err(OpenError::List(_))), "{erased:?}");
    assert!(disk.writes().all(|write| inside(&extents, write)));
}

#[test]
fn as_many_extents_as_the_list_has_room_for_are_an_area() {
    let mut places = vec![(0, DUMP_OFFSET + (1 << 20))];
    places.extend((1..MOST_FILE_EXTENTS as u64).map(|index| ((5 << 20) + index * 8192 - 4096, 4096)));
    places.reverse();
    places.swap(0, MOST_FILE_EXTENTS - 1);
    let extents = extents(&places);
    let mut disk = Disk::holding(vec![FOREIGN; 16 << 20]);
    Area::format_file(File { disk: &mut disk, extents: &extents }, &extents, 16 << 20, label()).unwrap();
    dump(&mut disk, &extents, 9);
}

#[test]
fn a_file_without_room_for_a_dump_is_not_formatted() {
    let short = extents(&[(0, DUMP_OFFSET + 3 * 4096)]);
    let mut disk = Disk::holding(vec![FOREIGN; DISK as usize]);
    let file = File { disk: &mut disk, extents: &short };
    assert_eq!(Area::format_file(file, &short, DISK, label()).err(), Some(FormatError::TooShort));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A writer that aims anywhere.
    #[test]
    fn no_byte_is_written_outside_the_extents(
        cuts in prop::collection::btree_set(1_u64..1500, 2..12),
        order in any::<prop::sample::Index>(),
        writes in prop::collection::vec((0_u64..600, 1_usize..40), 1..12),
    ) {
        // Pieces of the disk between cuts; every other one is the file's, in another order.
        let cuts: Vec<u64> = [0].into_iter().chain(cuts).chain([1500]).collect();
        let mut places: Vec<_> =
            cuts.windows(2).step_by(2).map(|cut| (cut[0] * 4096, (cut[1] - cut[0]) * 4096)).collect();
        places.push((1600 * 4096, 1300 * 4096));
        let first = order.index(places.len());
        places.rotate_left(first);
        let extents = extents(&places);
        let mut disk = Disk::holding(vec![FOREIGN; DISK as usize]);
        let formatted =
            Area::format_file(File { disk: &mut disk, extents: &extents }, &extents, DISK, label()).map(drop);
        prop_assume!(formatted != Err(FormatError::Extents));
        prop_assert_eq!(formatted, Ok(()));
        let mut dump = open(&mut disk, &extents).unwrap().begin().unwrap();
        for (block, blocks) in writes {
            let _ = dump.write(block * 4096, &vec![1; blocks * 4096]);
        }
        dump.seal(Completeness::Complete, 4096).unwrap();
        prop_assert!(disk.writes().all(|write| inside(&extents, write)));
        prop_assert!(open(&mut disk, &extents).unwrap().read_seal().is_ok());
    }
}
