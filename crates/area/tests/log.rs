//! Tests the dead kernel's log in an area: it is there before the dump, it is the newest text, and it is no other dump's.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise, as tests do")]

use area::{
    Area, BLOCK, Completeness, DUMP_OFFSET, Dump, Held, LOG_CAPACITY, LOG_OFFSET, Label, Log, LogError,
    SEAL_OFFSET, SealState, Untold,
};
use fixtures::CachedDisk as Disk;
use machine::{BlockDevice, BlockError, Range};
use proptest::prelude::*;
use uuid::Uuid;

const UUID: Uuid = Uuid::from_u128(0x1234);
const LENGTH: u64 = DUMP_OFFSET + 8 * BLOCK;
const TEXT: &[u8] = b"[    0.000000] Linux\n[   12.345678] Kernel panic - not syncing\n";

thread_local! {
    /// Made once for the many cases of a property.
    static FORMATTED: Vec<u8> = {
        let mut disk = Disk::holding(vec![0x55; LENGTH as usize]);
        Area::format(&mut disk, 0, Label { uuid: UUID, length: LENGTH, created: 0 }).unwrap();
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

fn begin(disk: &mut Disk) -> Dump<&mut Disk> {
    Area::open(disk, 0, UUID).unwrap().begin().unwrap()
}

/// Stores a text that comes in pieces.
fn store<D: BlockDevice>(dump: &mut Dump<D>, text: &[u8], piece: usize) -> Result<(), BlockError> {
    let mut log = dump.log(text.len() as u64);
    for piece in text.chunks(piece) {
        log.write(piece)?;
    }
    log.store().map(|_| ())
}

/// The log of the newest dump.
fn read(disk: &mut Disk) -> Result<Option<Log>, LogError> {
    let mut area = Area::open(disk, 0, UUID).unwrap();
    let seal = area.read_seal().unwrap();
    area.read_log(&seal)
}

fn whole(text: &[u8]) -> Log {
    Log { text: text.to_vec(), left_out: 0 }
}

/// Lines that differ, `len` bytes of them.
fn lines(len: usize) -> Vec<u8> {
    let mut text: Vec<u8> =
        (0..=len / 16).flat_map(|line| format!("[{line:8}] line\n").into_bytes()).collect();
    text.truncate(len);
    text
}

#[test]
fn the_log_is_durable_before_the_first_page() {
    let mut disk = formatted();
    let mut dump = begin(&mut disk);
    store(&mut dump, TEXT, 7).unwrap();
    dump.write(0, &[1; 4096]).unwrap();
    drop(dump);
    let mut disk = Disk::holding(flushed(&disk));
    assert_eq!(Area::open(&mut disk, 0, UUID).unwrap().read_seal().unwrap().state, SealState::InProgress);
    assert_eq!(read(&mut disk), Ok(Some(whole(TEXT))));
}

#[test]
fn record_and_text_lie_where_the_layout_says() {
    let mut disk = formatted();
    store(&mut begin(&mut disk), TEXT, 1000).unwrap();
    let (record, text) = (LOG_OFFSET as usize, (LOG_OFFSET + BLOCK) as usize);
    assert_eq!(&disk.now[record..record + 8], b"HOLDDMSG");
    assert_eq!(&disk.now[text..text + TEXT.len()], TEXT);
    assert!(
        disk.now[text + TEXT.len()..text + 4096].iter().all(|&byte| byte == 0),
        "the block ends with zeros"
    );
}

#[test]
fn a_dump_without_a_log_has_none_and_not_that_of_the_dump_before() {
    let mut disk = formatted();
    assert_eq!(read(&mut disk), Ok(None));
    let mut dump = begin(&mut disk);
    store(&mut dump, TEXT, 1000).unwrap();
    dump.seal(Completeness::Complete, 0).unwrap();
    assert_eq!(read(&mut disk), Ok(Some(whole(TEXT))));
    let _unsealed = begin(&mut disk);
    assert_eq!(read(&mut disk), Ok(None));
}

/// The numbers of dumps would begin anew, and the log of the old number 1 is still there.
#[test]
fn an_older_log_is_not_taken_for_the_new_ones_though_the_seal_was_lost() {
    let mut disk = formatted();
    store(&mut begin(&mut disk), TEXT, 1000).unwrap();
    disk.now[SEAL_OFFSET as usize + 100] ^= 1;
    let _unsealed = begin(&mut disk);
    assert_eq!(read(&mut disk), Ok(None));
}

#[test]
fn a_text_as_long_as_its_region_is_kept_and_a_longer_one_loses_its_first_lines() {
    for (more, left_out) in [(0, 0), (1, 16), (15, 16), (16, 32)] {
        let (mut disk, text) = (formatted(), lines(LOG_CAPACITY as usize + more));
        store(&mut begin(&mut disk), &text, 5000).unwrap();
        let log = read(&mut disk).unwrap().unwrap();
        assert_eq!(log.left_out, left_out, "{more}");
        assert!(log.text == text[left_out as usize..], "{more}");
    }
}

/// The ring buffer of a dead kernel may change while it is read.
#[test]
fn a_text_that_is_longer_than_was_announced_is_cut_at_its_region() {
    let (mut disk, text) = (formatted(), lines(LOG_CAPACITY as usize + 100));
    let mut dump = begin(&mut disk);
    let mut log = dump.log(10);
    log.write(&text).unwrap();
    log.store().unwrap();
    let log = read(&mut disk).unwrap().unwrap();
    assert_eq!((log.text.len() as u64, log.left_out), (LOG_CAPACITY, 100));
}

#[test]
fn a_text_that_the_disk_changed_is_noticed_and_a_torn_record_too() {
    let mut disk = formatted();
    store(&mut begin(&mut disk), TEXT, 1000).unwrap();
    disk.now[(LOG_OFFSET + BLOCK) as usize] ^= 1;
    assert!(matches!(read(&mut disk), Err(LogError::Checksum { .. })));
    disk.now[LOG_OFFSET as usize + 30] ^= 1;
    assert!(matches!(read(&mut disk), Err(LogError::Damaged(_))));
}

#[test]
fn a_log_that_the_disk_refused_takes_nothing_from_the_dump() {
    let mut disk = formatted();
    let late_error = disk.late_error.clone();
    let mut dump = begin(&mut disk);
    late_error.set(true);
    store(&mut dump, TEXT, 1000).unwrap_err();
    dump.write(0, &[1; 4096]).unwrap();
    assert_eq!(dump.seal(Completeness::Complete, 4096).unwrap().state, SealState::Complete);
    assert_eq!(read(&mut disk), Ok(None));
}

/// The error may be that of a page that was queued.
#[test]
fn an_error_after_the_first_page_counts_for_the_dump() {
    let mut disk = formatted();
    let late_error = disk.late_error.clone();
    let mut dump = begin(&mut disk);
    dump.write(0, &[1; 4096]).unwrap();
    late_error.set(true);
    store(&mut dump, TEXT, 1000).unwrap_err();
    assert_ne!(dump.seal(Completeness::Complete, 4096).unwrap().state, SealState::Complete);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The power goes after any number of steps, and any of the sectors that were not flushed are lost.
    #[test]
    fn an_interrupted_log_is_there_whole_or_not_at_all(
        steps in 0_usize..12,
        len in 0_usize..300_000,
        lost in prop::collection::vec(any::<bool>(), 256),
    ) {
        let (mut disk, text) = (formatted(), lines(len));
        begin(&mut disk).seal(Completeness::Complete, 0).unwrap();
        let begun = disk.count.get();
        let mut dump = begin(&mut disk);
        store(&mut dump, &text, 4099).unwrap();
        let stored = disk.count.get() <= begun + steps;
        let mut lost = lost.into_iter().cycle();
        let mut disk = Disk::holding(disk.after_power_loss(begun + steps, || lost.next() == Some(false)));
        match read(&mut disk) {
            Ok(Some(log)) => prop_assert!(log == whole(&text)),
            _ => prop_assert!(!stored),
        }
        prop_assert!(Area::open(&mut disk, 0, UUID).is_ok());
    }

    #[test]
    fn no_byte_is_written_outside_the_logs_region(
        announced in 0_u64..2 * LOG_CAPACITY,
        pieces in prop::collection::vec(0_usize..(1 << 20), 0..6),
    ) {
        let mut disk = formatted();
        let mut dump = begin(&mut disk);
        let mut log = dump.log(announced);
        for piece in pieces {
            log.write(&lines(piece)).unwrap();
        }
        log.store().unwrap();
        let region = Range::from(SEAL_OFFSET..DUMP_OFFSET);
        prop_assert!(disk.writes().all(|write| region.covers(write)));
        prop_assert!(read(&mut disk).unwrap().is_some());
    }
}

#[test]
fn a_log_whose_dump_never_began_is_not_given_up() {
    let mut disk = formatted();
    store(&mut begin(&mut disk), TEXT, 1000).unwrap();
    let held = |disk: &mut Disk| Area::open(disk, 0, UUID).unwrap().held();
    assert_eq!(held(&mut disk), Held::Log(TEXT.len() as u64));
    let (mut area, at) = (Area::open(&mut disk, 0, UUID).unwrap(), 1_700_000_000);
    let seal = area.read_seal().unwrap();
    area.mark_collected(&seal, at).unwrap();
    assert_eq!(held(&mut disk), Held::Nothing);
    let _unsealed = begin(&mut disk);
    assert_eq!(held(&mut disk), Held::Nothing, "an older log is not this dump's");
}

#[test]
fn what_cannot_be_told_is_not_nothing() {
    let mut disk = formatted();
    store(&mut begin(&mut disk), TEXT, 1000).unwrap();
    let held = |disk: &mut Disk| Area::open(disk, 0, UUID).unwrap().held();
    disk.now[LOG_OFFSET as usize + 100] ^= 1;
    assert!(matches!(held(&mut disk), Held::Unknown(Untold::Log(_))));
    disk.now[SEAL_OFFSET as usize + 100] ^= 1;
    assert!(matches!(held(&mut disk), Held::Unknown(Untold::Seal(_))));
}

#[test]
fn who_stores_a_log_is_told_how_much_of_it_was_kept() {
    let (mut disk, text) = (formatted(), lines(LOG_CAPACITY as usize + 16));
    let mut dump = begin(&mut disk);
    let mut log = dump.log(text.len() as u64);
    log.write(&text).unwrap();
    assert_eq!(log.store(), Ok(LOG_CAPACITY - 16));
}
