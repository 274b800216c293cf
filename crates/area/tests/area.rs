//! Tests the promises of a dump area on a disk that can lose its power and its writes, and can get another owner.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise, as tests do")]

use area::{
    Area, Completeness, Contradiction, Damage, Destination, Dump, FormatError, Held, Label, Lack, LeftOut,
    OpenError, ReadError, SealError, SealState,
};
use fixtures::CachedDisk as Disk;
use machine::{BlockDevice, BlockError, Range};
use proptest::prelude::*;
use uuid::Uuid;

const UUID: Uuid = Uuid::from_u128(0x1234);
/// Where the area lies on the disk, how long it is, and how long the disk is.
const OFFSET: u64 = 64 << 10;
const LENGTH: u64 = area::DUMP_OFFSET + 64 * 4096;
const DISK: usize = 5 << 20;
const DUMP: usize = (OFFSET + area::DUMP_OFFSET) as usize;
const SEAL: usize = (OFFSET + area::SEAL_OFFSET) as usize;
const CAPACITY: u64 = 63 * 4096;
/// What other owners of the disk have written around the area.
const FOREIGN: u8 = 0xf0;

fn label() -> Label {
    Label { uuid: UUID, length: LENGTH, created: 1_700_000_000 }
}

thread_local! {
    /// Made once for the many cases of a property.
    static FORMATTED: Vec<u8> = {
        let mut disk = Disk::holding(vec![FOREIGN; DISK]);
        Area::format(&mut disk, OFFSET, label()).unwrap();
        flushed(&disk)
    };
}

fn formatted() -> Disk {
    Disk::holding(FORMATTED.with(Vec::clone))
}

/// What of a disk is durable now.
fn flushed(disk: &Disk) -> Vec<u8> {
    disk.after_power_loss(usize::MAX, || false)
}

fn open(disk: &mut Disk) -> Area<&mut Disk> {
    Area::open(disk, OFFSET, UUID).unwrap()
}

fn state(disk: &mut Disk) -> SealState {
    open(disk).read_seal().unwrap().state
}

/// A dump of eight blocks as it is written: header, two streams that take turns, and the header again.
fn write_dump<D: BlockDevice>(dump: &mut Dump<D>, fill: u8) -> Result<(), BlockError> {
    dump.write(0, &[0; 4096])?;
    for step in 0..2 {
        dump.write(4096 + step * 4096, &[fill; 4096])?;
        dump.write(3 * 4096 + step * 8192, &[fill + 1; 8192])?;
    }
    dump.write(7 * 4096, &[fill + 2; 4096])?;
    dump.write(0, &[fill + 3; 4096])
}

const DUMP_LEN: u64 = 8 * 4096 - 100;

/// The same dump as the host should find it.
fn expected(fill: u8) -> Vec<u8> {
    let blocks = [3, 0, 0, 1, 1, 1, 1, 2].map(|plus| [fill + plus; 4096]);
    let mut bytes = blocks.concat();
    bytes.truncate(DUMP_LEN as usize);
    bytes
}

fn dumped(fill: u8) -> Disk {
    let mut disk = formatted();
    let mut dump = open(&mut disk).begin().unwrap();
    write_dump(&mut dump, fill).unwrap();
    assert_eq!(dump.seal(Completeness::Complete, DUMP_LEN).unwrap().state, SealState::Complete);
    disk
}

/// Reads the dump back and checks it; bytes that were not written are zero.
fn collect(disk: &mut Disk) -> Result<Vec<u8>, ReadError<()>> {
    let mut area = open(disk);
    let seal = area.read_seal().unwrap();
    let mut file = vec![0; seal.dump_len as usize];
    area.read_dump(&seal, |offset, bytes| {
        file[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    })?;
    Ok(file)
}

/// Begin, write, save, seal: what a dump goes through whatever kind of destination it has.
#[test]
fn an_area_is_a_destination() {
    let mut disk = formatted();
    let mut dump = Destination::Area(open(&mut disk)).begin().unwrap();
    assert_eq!((dump.size(), dump.block_size()), (CAPACITY, 4096));
    dump.write(0, &[7; 4096]).unwrap();
    dump.flush().unwrap();
    let mut back = [0; 4096];
    dump.read(0, &mut back).unwrap();
    assert_eq!(back, [7; 4096]);
    let mut saved = Disk::holding(flushed(dump.device()));
    let saved = open(&mut saved).read_seal().unwrap();
    assert_eq!((saved.state, saved.dump_len), (SealState::InProgress, 4096));
    let seal = dump.seal(Completeness::Complete, 4000).unwrap();
    assert_eq!((seal.state, seal.dump_len), (SealState::Complete, 4000));
    assert_eq!(open(&mut disk).read_seal(), Ok(seal));
}

#[test]
fn a_sealed_dump_is_read_back_complete() {
    let mut disk = dumped(10);
    let seal = open(&mut disk).read_seal().unwrap();
    assert_eq!((seal.state, seal.sequence, seal.dump_len), (SealState::Complete, 1, DUMP_LEN));
    assert_eq!(collect(&mut disk).unwrap(), expected(10));
}

#[test]
fn an_area_of_version_1_is_refused_with_what_to_do() {
    let mut disk = formatted();
    let first = &mut disk.now[OFFSET as usize..][..4096];
    first[16] = 1;
    let hash = twox_hash::XxHash64::oneshot(0, &first[16..]);
    first[8..16].copy_from_slice(&hash.to_le_bytes());
    let refused = Area::open(&mut disk, OFFSET, UUID).err().unwrap();
    assert_eq!(refused, OpenError::Label(Damage::Version(1)));
    assert!(refused.to_string().ends_with("format the area again"), "{refused}");
}

#[test]
fn labels_seal_and_dump_lie_where_the_layout_says() {
    let platter = flushed(&dumped(10));
    let (first, last) = (OFFSET as usize, (OFFSET + LENGTH) as usize - 4096);
    assert_eq!(&platter[first..first + 8], b"HOLDAREA");
    assert_eq!(&platter[last..last + 8], b"HOLDAREA");
    assert_eq!(&platter[SEAL..SEAL + 8], b"HOLDSEAL");
    assert_eq!(platter[DUMP..DUMP + DUMP_LEN as usize], expected(10));
    assert!(platter[..first].iter().chain(&platter[last + 4096..]).all(|&byte| byte == FOREIGN));
}

#[test]
fn opening_writes_nothing() {
    let mut disk = dumped(10);
    let steps = disk.count.get();
    open(&mut disk).read_seal().unwrap();
    assert_eq!(Area::open(&mut disk, OFFSET, Uuid::nil()).err(), Some(OpenError::OtherArea { found: UUID }));
    assert_eq!(disk.count.get(), steps);
}

#[test]
fn an_area_is_not_found_where_it_is_not() {
    let mut disk = formatted();
    for (offset, error) in [
        (0, OpenError::Label(Damage::NoMagic)),
        (OFFSET + LENGTH - 4096, OpenError::Label(Contradiction::Place.into())),
        (OFFSET + 512, OpenError::Device(BlockError::Misaligned)),
        (DISK as u64, OpenError::Device(BlockError::OutOfBounds)),
        (u64::MAX - 4095, OpenError::Device(BlockError::OutOfBounds)),
    ] {
        assert_eq!(Area::open(&mut disk, offset, UUID).err(), Some(error), "offset {offset:#x}");
    }
}

#[test]
fn an_area_on_a_disk_that_has_become_smaller_is_refused() {
    let mut disk = formatted();
    disk.now.truncate((OFFSET + LENGTH) as usize - 4096);
    assert_eq!(Area::open(&mut disk, OFFSET, UUID).err(), Some(OpenError::Length { length: LENGTH }));
}

/// Where others put their first mark when they take a device over; all spare the label's first 512 bytes or more.
#[test]
fn an_area_that_somebody_else_has_taken_is_refused() {
    let checksum = OpenError::Label(Damage::Checksum);
    for (owner, at, error) in [
        ("volume manager label, sector 1", 512, checksum),
        ("ext4 superblock", 1024 + 56, checksum),
        ("swap signature", 4086, checksum),
        ("RAID 1.2 superblock", 4096, OpenError::InUse { offset: 4096 }),
        ("btrfs superblock", 0x10040, OpenError::InUse { offset: 0x10040 }),
        ("RAID 1.0 superblock or GPT copy at the end", LENGTH as usize - 512, OpenError::LabelsDiffer),
    ] {
        let mut disk = formatted();
        disk.now[OFFSET as usize + at] ^= 1;
        assert_eq!(Area::open(&mut disk, OFFSET, UUID).err(), Some(error), "{owner}");
    }
}

#[test]
fn a_place_that_is_no_good_is_not_formatted() {
    for (offset, length, error) in [
        (512, LENGTH, FormatError::Misaligned),
        (0, LENGTH + 512, FormatError::Misaligned),
        (0, area::DUMP_OFFSET + 4096, FormatError::TooShort),
        (DISK as u64 - LENGTH + 4096, LENGTH, FormatError::DoesNotFit),
        (4096, u64::MAX - 4095, FormatError::DoesNotFit),
    ] {
        let mut disk = Disk::holding(vec![FOREIGN; DISK]);
        assert_eq!(Area::format(&mut disk, offset, Label { length, ..label() }).err(), Some(error));
        assert_eq!(disk.count.get(), 0, "nothing was written");
    }
}

#[test]
fn an_older_dump_is_void_before_the_first_byte_of_a_new_one() {
    let mut disk = dumped(10);
    let dump = open(&mut disk).begin().unwrap();
    drop(dump);
    let mut disk = Disk::holding(flushed(&disk));
    assert_eq!(state(&mut disk), SealState::InProgress);
    assert_eq!(open(&mut disk).read_seal().unwrap().sequence, 2);
}

#[test]
fn what_was_flushed_is_collected_though_the_dump_was_never_sealed() {
    let mut disk = dumped(10);
    let mut dump = open(&mut disk).begin().unwrap();
    dump.write(0, &[1; 4096]).unwrap();
    dump.write(2 * 4096, &[2; 8192]).unwrap();
    dump.flush().unwrap();
    dump.write(5 * 4096, &[3; 4096]).unwrap();
    drop(dump);
    let mut disk = Disk::holding(disk.after_power_loss(usize::MAX, || true));
    let seal = open(&mut disk).read_seal().unwrap();
    assert_eq!((seal.state, seal.dump_len, seal.written.blocks()), (SealState::InProgress, 4 * 4096, 3));
    let part = |start: u64, end: u64| seal.holds(Range::from(start * 4096 + 1..end * 4096 - 1));
    assert!(part(2, 4) && !part(1, 3) && !part(3, 5));
    assert_eq!(collect(&mut disk).unwrap(), [[1; 4096], [0; 4096], [2; 4096], [2; 4096]].concat());
}

/// What is on the disk then, nobody knows.
#[test]
fn after_a_failed_write_nothing_more_is_recorded_as_safe() {
    let mut disk = formatted();
    let late_error = disk.late_error.clone();
    let mut dump = open(&mut disk).begin().unwrap();
    dump.write(0, &[1; 4096]).unwrap();
    dump.flush().unwrap();
    late_error.set(true);
    dump.write(4096, &[2; 4096]).unwrap_err();
    dump.write(4096, &[2; 4096]).unwrap();
    dump.flush().unwrap();
    drop(dump);
    assert_eq!(open(&mut disk).read_seal().unwrap().dump_len, 4096);
}

#[test]
fn a_dump_with_a_gap_is_not_complete() {
    let mut disk = formatted();
    let mut dump = open(&mut disk).begin().unwrap();
    dump.write(0, &[1; 4096]).unwrap();
    dump.write(8192, &[2; 4096]).unwrap();
    let seal = dump.seal(Completeness::Complete, 3 * 4096).unwrap();
    assert_eq!(seal.state, SealState::Partial(Lack::Gap));
    assert_eq!(
        collect(&mut disk).unwrap(),
        [[1; 4096], [0; 4096], [2; 4096]].concat(),
        "and its gap reads as zeros"
    );
}

#[test]
fn a_dump_whose_last_block_is_missing_is_not_complete() {
    let mut disk = formatted();
    let mut dump = open(&mut disk).begin().unwrap();
    dump.write(0, &[1; 4096]).unwrap();
    assert_eq!(dump.seal(Completeness::Complete, 4097).unwrap().state, SealState::Partial(Lack::Gap));
}

/// A queued write fails, and the disk says so only when it is asked for something else.
#[test]
fn a_write_that_failed_late_makes_the_dump_partial() {
    type Ask = fn(&mut Dump<&mut Disk>) -> Result<(), BlockError>;
    let asks: [Ask; 3] =
        [|dump| dump.read(0, &mut [0; 4096]), |dump| dump.flush(), |dump| dump.write(0, &[1; 4096])];
    for ask in asks {
        let mut disk = formatted();
        let late_error = disk.late_error.clone();
        let mut dump = open(&mut disk).begin().unwrap();
        write_dump(&mut dump, 10).unwrap();
        late_error.set(true);
        assert_eq!(ask(&mut dump), Err(BlockError::Device(5)));
        assert_eq!(
            dump.seal(Completeness::Complete, DUMP_LEN).unwrap().state,
            SealState::Partial(Lack::Write)
        );
    }
}

#[test]
fn a_write_that_was_refused_and_tried_again_counts_once() {
    for again in [0, 4096] {
        let mut disk = formatted();
        let late_error = disk.late_error.clone();
        let mut dump = open(&mut disk).begin().unwrap();
        write_dump(&mut dump, 10).unwrap();
        late_error.set(true);
        dump.write(again, &[0xaa; 8192]).unwrap_err();
        dump.write(again, &[0xaa; 8192]).unwrap();
        dump.write(8 * 4096, &[0xbb; 4096]).unwrap();
        dump.seal(Completeness::Complete, 9 * 4096).unwrap();
        let bytes = collect(&mut disk).unwrap();
        assert_eq!(bytes[again as usize..][..8192], [0xaa; 8192]);
    }
}

/// More than is read back at once, over a gap, and not from its beginning.
#[test]
fn a_table_that_was_written_again_counts_once() {
    let mut disk = formatted();
    let mut dump = open(&mut disk).begin().unwrap();
    dump.write(0, &vec![1; 20 * 4096]).unwrap();
    dump.write(22 * 4096, &vec![2; 20 * 4096]).unwrap();
    dump.write(2 * 4096, &vec![3; 38 * 4096]).unwrap();
    let seal = dump.seal(Completeness::Complete, 42 * 4096).unwrap();
    assert_eq!((seal.state, seal.written.blocks()), (SealState::Complete, 42));
    let bytes = collect(&mut disk).unwrap();
    assert_eq!([1, 2, 39, 40].map(|block| bytes[block * 4096]), [1, 3, 3, 2]);
}

#[test]
fn a_new_block_that_was_refused_is_not_part_of_the_dump() {
    let mut disk = formatted();
    let late_error = disk.late_error.clone();
    let mut dump = open(&mut disk).begin().unwrap();
    dump.write(0, &[1; 4096]).unwrap();
    late_error.set(true);
    dump.write(4096, &[2; 4096]).unwrap_err();
    assert_eq!(dump.seal(Completeness::Complete, 8192).unwrap().written.blocks(), 1);
    assert_eq!(collect(&mut disk).unwrap(), [[1; 4096], [0; 4096]].concat());
}

/// The flush before the seal is the last that can tell of it.
#[test]
fn the_seal_names_no_level_as_reached_if_the_disk_refused_a_block() {
    let mut disk = formatted();
    let late_error = disk.late_error.clone();
    let mut dump = open(&mut disk).begin().unwrap();
    write_dump(&mut dump, 10).unwrap();
    dump.leave_out(LeftOut { pages: 3, reached: Some(30) });
    late_error.set(true);
    let seal = dump.seal(Completeness::Partial, DUMP_LEN).unwrap();
    assert_eq!((seal.state, seal.left_out.reached), (SealState::Partial(Lack::Write), None));
}

#[test]
fn a_dump_that_was_called_partial_is_partial() {
    let mut disk = formatted();
    let mut dump = open(&mut disk).begin().unwrap();
    write_dump(&mut dump, 10).unwrap();
    assert_eq!(dump.seal(Completeness::Partial, DUMP_LEN).unwrap().state, SealState::Partial(Lack::Content));
    assert_eq!(state(&mut disk), SealState::Partial(Lack::Content));
    assert_eq!(collect(&mut disk).unwrap(), expected(10));
}

#[test]
fn a_dump_that_outgrew_the_area_is_partial() {
    let mut disk = formatted();
    let mut dump = open(&mut disk).begin().unwrap();
    dump.write(0, &vec![1; CAPACITY as usize]).unwrap();
    assert_eq!(dump.write(CAPACITY, &[2; 4096]), Err(BlockError::OutOfBounds));
    let seal = dump.seal(Completeness::Complete, CAPACITY + 4096).unwrap();
    assert_eq!((seal.state, seal.dump_len), (SealState::Partial(Lack::Write), CAPACITY));
    assert_eq!(open(&mut disk).read_seal(), Ok(seal));
}

#[test]
fn a_seal_that_is_torn_or_another_areas_is_refused() {
    let mut disk = dumped(10);
    disk.now[SEAL + 300] ^= 1;
    assert_eq!(open(&mut disk).read_seal(), Err(SealError::Damaged(Damage::Checksum)));

    let (mut disk, mut other) = (dumped(10), Disk::holding(vec![0; DISK]));
    let uuid = Uuid::from_u128(9);
    Area::format(&mut other, OFFSET, Label { uuid, ..label() }).unwrap();
    disk.now[SEAL..SEAL + 4096].copy_from_slice(&other.now[SEAL..SEAL + 4096]);
    assert_eq!(open(&mut disk).read_seal(), Err(SealError::OtherArea { found: uuid }));
    assert!(open(&mut disk).begin().is_ok(), "and does not stand in the way of the next dump");
}

#[test]
fn a_dump_awaits_collection_until_a_host_has_it_and_the_next_one_does_again() {
    let mut disk = dumped(1);
    let held = |disk: &mut Disk| Destination::Area(open(disk)).held();
    assert_eq!(held(&mut disk), Held::Dump(expected(1).len() as u64));
    let mut area = open(&mut disk);
    let seal = area.read_seal().unwrap();
    area.mark_collected(&seal, 0).unwrap();
    assert_eq!(held(&mut disk), Held::Nothing, "whatever the clock says");
    assert_eq!(collect(&mut disk), Ok(expected(1)));
    let mut dump = open(&mut disk).begin().unwrap();
    write_dump(&mut dump, 2).unwrap();
    dump.flush().unwrap();
    drop(dump);
    assert!(matches!(held(&mut disk), Held::Dump(_)), "a part of one is there");
}

#[test]
fn blocks_that_changed_places_are_noticed() {
    let mut disk = dumped(10);
    let (left, right) = disk.now[DUMP..].split_at_mut(4096);
    left.swap_with_slice(&mut right[..4096]);
    assert!(matches!(collect(&mut disk), Err(ReadError::Checksum { .. })));
}

/// Where a hostile or broken writer might aim.
fn hostile_offset() -> impl Strategy<Value = u64> {
    let near =
        |at: u64| (0..8_u64).prop_map(move |blocks| at.wrapping_sub(4 * 4096).wrapping_add(blocks * 4096));
    prop_oneof![near(0), near(CAPACITY), near(area::DUMP_OFFSET.wrapping_neg()), near(1 << 63), any::<u64>()]
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(512), Just(4096), Just(8192), 0_usize..9000]
}

proptest! {
    #[test]
    fn no_byte_is_written_outside_the_area(
        writes in prop::collection::vec((hostile_offset(), length()), 1..12),
        dump_len in any::<u64>(),
    ) {
        let mut disk = formatted();
        let mut dump = open(&mut disk).begin().unwrap();
        for (offset, len) in writes {
            let aligned = offset % 4096 == 0 && len % 4096 == 0;
            let inside = offset.checked_add(len as u64).is_some_and(|end| end <= CAPACITY);
            prop_assert_eq!(dump.write(offset, &vec![1; len]).is_ok(), aligned && inside);
            let _ = dump.read(offset, &mut vec![0; len]);
        }
        let seal = dump.seal(Completeness::Complete, dump_len).unwrap();
        prop_assert_eq!(open(&mut disk).read_seal(), Ok(seal));
        let area = Range::from(OFFSET + area::SEAL_OFFSET..OFFSET + LENGTH - 4096);
        prop_assert!(disk.writes().all(|write| area.covers(write)));
    }

    /// The power goes after any number of steps, and any of the sectors that were not flushed are lost.
    #[test]
    fn an_interrupted_dump_never_reads_as_complete(steps in 0_usize..16, lost in prop::collection::vec(any::<bool>(), 256)) {
        let mut disk = dumped(10);
        let cut = disk.count.get() + steps;
        let mut dump = open(&mut disk).begin().unwrap();
        write_dump(&mut dump, 100).unwrap();
        dump.seal(Completeness::Complete, DUMP_LEN).unwrap();
        let sealed = disk.count.get() <= cut;
        let mut lost = lost.into_iter().cycle();
        let mut disk = Disk::holding(disk.after_power_loss(cut, || lost.next() == Some(false)));
        match open(&mut disk).read_seal().map(|seal| seal.state) {
            Ok(SealState::Complete) => {
                let dump = collect(&mut disk).unwrap();
                prop_assert!(dump == expected(10) || dump == expected(100), "one dump or the other, whole");
            }
            Ok(SealState::Empty) | Err(SealError::Device(_)) => prop_assert!(false, "neither can come about"),
            _ => prop_assert!(!sealed),
        }
    }

    /// A disk that reports a flush that it did not do.
    #[test]
    fn a_dump_that_a_disk_changed_is_noticed(at in 0_usize..8 * 4096, flip in 1_u8..) {
        let mut disk = dumped(10);
        disk.now[DUMP + at] ^= flip;
        let noticed = matches!(collect(&mut disk), Err(ReadError::Checksum { .. }));
        prop_assert!(noticed);
    }
}

#[test]
fn an_area_that_was_erased_is_none() {
    let mut disk = formatted();
    open(&mut disk).erase().unwrap();
    assert_eq!(Area::open(&mut disk, OFFSET, UUID).err(), Some(OpenError::Label(Damage::NoMagic)));
    let bounds = Range::from(OFFSET..OFFSET + LENGTH);
    assert!(disk.writes().all(|write| bounds.covers(write)));
    assert!(flushed(&disk).chunks(4096).all(|block| !block.starts_with(b"HOLD")));
}
