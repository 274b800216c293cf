//! Dumps in two passes: the wanted pages are written first, and in the end all pages are there.

use kdump::{Bitmap, Codec, PagePlace, Reader, WriteError};
use machine::Range;
use proptest::prelude::*;

use crate::disk::{Disk, Frame, begin_pages, write_in_passes};
use crate::{BLOCK, END, frame, page, read, read_everything};
use kdump::ReadError;

/// Kept pages whose descriptors take more than the window of 2,560 that is in memory.
const MANY: usize = 6000;

#[test]
fn pages_that_were_wanted_first_are_there_when_the_dump_is_cut_short() {
    let frames = vec![page(4); 300];
    let mut disk = Disk::new(400);
    let ended = write_in_passes(&mut disk, &frames, Codec::Zlib, 100, |pfn| pfn >= 250).unwrap();
    assert_eq!(ended.statistics.done, 100);
    let mut reader = Reader::open(disk).unwrap();
    assert!(!reader.is_complete());
    let there: Vec<_> = (0..300).filter(|pfn| read(&mut reader, *pfn).is_ok()).collect();
    assert_eq!(there, (0..50).chain(250..300).collect::<Vec<_>>());
    assert_eq!(read(&mut reader, 50), Err(ReadError::Missing(50)));
}

#[test]
fn an_area_that_only_holds_the_wanted_pages_holds_them_all() {
    // Headers, bitmaps and descriptors take five blocks; data comes in chunks of sixteen.
    let mut disk = Disk::new(5 + 16);
    let ended = write_in_passes(&mut disk, &vec![page(5); 100], Codec::None, END, |pfn| pfn >= 90).unwrap();
    assert_eq!((ended.error, ended.statistics.done), (Some(WriteError::Full), 16));
    let mut reader = Reader::open(disk).unwrap();
    assert!((90..100).all(|pfn| read(&mut reader, pfn).is_ok_and(|page| page[1] == 5)));
    assert_eq!(read(&mut reader, 89), Err(ReadError::Missing(89)));
}

#[test]
fn no_block_is_written_twice_but_the_first_and_descriptors() {
    let frames = vec![page(9); MANY];
    let mut disk = Disk::new(MANY + 100);
    let ended = write_in_passes(&mut disk, &frames, Codec::None, END, |pfn| pfn == 5500).unwrap();
    assert_eq!(ended.error, None);
    let (descriptors, blocks) = (4, (ended.statistics.file_bytes / 4096) as usize);
    let data = descriptors + (MANY * 24).div_ceil(BLOCK);
    assert_eq!(disk.written[0], 2);
    assert!(disk.written[1..descriptors].iter().all(|count| *count == 1));
    assert!(disk.written[descriptors..data].iter().all(|count| *count == 2));
    assert!(disk.written[data..blocks].iter().all(|count| *count == 1));
}

#[test]
fn descriptors_that_a_pass_does_not_change_are_not_written_again() {
    let mut disk = Disk::new(MANY + 100);
    write_in_passes(&mut disk, &vec![page(9); MANY], Codec::None, END, |pfn| pfn < 5500).unwrap();
    assert_eq!((disk.written[4], disk.written[4 + 30]), (1, 2), "the first window and the last");
}

#[test]
fn a_page_that_cannot_be_read_is_tried_again_and_counted_once() {
    let frames = [page(1), Frame::Unreadable, page(3), Frame::Unreadable];
    let mut disk = Disk::new(64);
    let ended = write_in_passes(&mut disk, &frames, Codec::Zlib, END, |pfn| pfn < 2).unwrap();
    assert_eq!((ended.error, ended.statistics.missing, ended.statistics.done), (None, 2, 4));
    assert_eq!(read_everything(disk).len(), 2);
}

#[test]
fn descriptors_that_cannot_be_read_back_end_the_dump_and_stay_as_they_were() {
    let frames = vec![page(7); 100];
    let mut disk = Disk::new(200);
    disk.unreadable = 4..5;
    let ended = write_in_passes(&mut disk, &frames, Codec::None, END, |pfn| pfn < 10).unwrap();
    assert_eq!(ended.error, Some(WriteError::Device(machine::BlockError::Device(11))));
    disk.unreadable = 0..0;
    assert_eq!(read_everything(disk).len(), 10);
}

/// As after a loss of power: the place of one page's data was never written, and the descriptors of others are torn.
#[test]
fn pages_whose_data_is_not_there_are_named_as_missing() {
    let frames = vec![page(6); 200];
    let mut disk = Disk::new(300);
    assert_eq!(write_in_passes(&mut disk, &frames, Codec::None, END, |_| true).unwrap().error, None);
    let descriptors = 4 * BLOCK;
    let lost = u64::from_le_bytes(*disk.bytes[descriptors + 24..].first_chunk().unwrap());
    disk.bytes[descriptors + 2 * 24 + 8..][..4].fill(0);
    disk.bytes[descriptors + 3 * 24 + 12..][..4].fill(0xff);
    disk.bytes[descriptors + 4 * 24..][..8].fill(0xff);
    let is_there = |data: Range<_>| data.end < (1 << 32).into() && !data.contains(lost.into());
    let there = kdump::name_missing(&mut disk, is_there).unwrap();
    assert_eq!(there, 200 - 4);
    let mut reader = Reader::open(disk).unwrap();
    assert!(!reader.is_complete());
    let missing: Vec<_> =
        (0..200).filter(|pfn| read(&mut reader, *pfn) == Err(ReadError::Missing(*pfn))).collect();
    assert_eq!(missing, [1, 2, 3, 4]);
    assert!((5..200).all(|pfn| read(&mut reader, pfn).is_ok_and(|page| page[1] == 6)));
}

#[test]
fn a_file_that_ends_within_its_descriptors_has_the_pages_of_those_before() {
    let mut disk = Disk::new(MANY + 100);
    write_in_passes(&mut disk, &vec![page(9); MANY], Codec::None, END, |_| true).unwrap();
    disk.bytes.truncate(5 * BLOCK);
    disk.claimed = disk.bytes.len() as u64;
    assert_eq!(kdump::name_missing(&mut disk, |_| true), Ok(BLOCK as u64 / 24));
    assert_eq!(kdump::name_missing(Disk::new(20), |_| true), Err(ReadError::NotADump));
}

#[test]
fn pages_out_of_order_are_refused_where_their_descriptors_are_gone() {
    let frames = vec![page(2); MANY];
    let mut disk = Disk::new(MANY + 100);
    let mut pages = begin_pages(&mut disk, &frames, Codec::None).unwrap();
    let first = pages.next_frame(|_| true).unwrap().unwrap();
    let later = pages.next_frame(|pfn| pfn > 3000).unwrap().unwrap();
    pages.place(later, PagePlace::Zero).unwrap();
    assert_eq!(pages.place(first, PagePlace::Zero), Err(WriteError::WrongOrder));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_pages_changes_nothing_that_a_reader_reads(
        frames in prop::collection::vec(frame(), 1..80), wanted in any::<u128>(),
    ) {
        let is_wanted = |pfn| wanted >> pfn & 1 == 1;
        let (mut plain, mut passes) = (Disk::new(128), Disk::new(128));
        let once = write_in_passes(&mut plain, &frames, Codec::Zlib, END, |_| true).unwrap();
        let mut twice = write_in_passes(&mut passes, &frames, Codec::Zlib, END, is_wanted).unwrap();
        // The first pass ends with a whole block.
        let padding = twice.statistics.file_bytes - once.statistics.file_bytes;
        prop_assert!(padding <= BLOCK as u64);
        twice.statistics.file_bytes -= padding;
        prop_assert_eq!(once, twice);
        prop_assert!(Reader::open(passes.clone()).unwrap().is_complete());
        prop_assert_eq!(read_everything(plain), read_everything(passes));
    }

    #[test]
    fn a_dump_that_ends_anywhere_holds_what_was_done_and_the_wanted_pages_first(
        frames in prop::collection::vec(frame(), 1..80), wanted in any::<u128>(), stop in 0usize..80,
    ) {
        let is_wanted = |pfn: u64| wanted >> pfn & 1 == 1;
        let mut disk = Disk::new(128);
        let ended = write_in_passes(&mut disk, &frames, Codec::Zlib, stop, is_wanted).unwrap();
        let read: Vec<_> = read_everything(disk.clone()).into_iter().map(|(pfn, _)| pfn).collect();
        prop_assert_eq!(read.len() as u64 + ended.statistics.missing, ended.statistics.done);
        let reader = &mut Reader::open(disk).unwrap();
        let kept = (0..frames.len() as u64).filter(|pfn| reader.next_set(Bitmap::Kept, *pfn) == Ok(Some(*pfn)));
        let unread: Vec<_> = kept.filter(|pfn| !read.contains(pfn)).collect();
        let lacks = |pfn: &u64| !matches!(frames[*pfn as usize], Frame::Unreadable);
        if read.iter().any(|pfn| !is_wanted(*pfn)) {
            prop_assert!(!unread.iter().any(|pfn| is_wanted(*pfn) && lacks(pfn)));
        }
    }
}
