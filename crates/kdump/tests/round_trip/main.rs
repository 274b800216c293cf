//! Reads back what the writer wrote, complete or cut short, and checks where everything lies in the file.

mod disk;
mod passes;
mod room;

use disk::{Disk, Frame, NOTES, PATIENCE, bitmaps, header, notes, try_write, write};
use kdump::{BLOCK, Bitmap, Codec, Page, ReadError, Reader, WriteError, begin};
use proptest::prelude::*;

const END: usize = usize::MAX;

fn page(byte: u8) -> Frame {
    let mut content = [byte; BLOCK];
    content[0] = 1;
    Frame::Kept(Box::new(content))
}

fn read(reader: &mut Reader<Disk>, pfn: u64) -> Result<Page, ReadError> {
    let mut page = [0; BLOCK];
    reader.read_page(pfn, &mut page).map(|()| page)
}

#[test]
fn a_dump_says_what_was_said_to_the_writer() {
    let mut disk = Disk::new(64);
    let statistics = write(&mut disk, &[page(1), Frame::Hole, page(2)], Codec::Zlib, END).unwrap();
    assert_eq!((statistics.pages, statistics.done, statistics.compressed), (2, 2, 2));
    let mut reader = Reader::open(disk).unwrap();
    assert_eq!(reader.header(), &header(3));
    assert!(reader.is_complete());
    assert_eq!(reader.pages(), 2);
    assert_eq!(reader.notes().unwrap(), NOTES);
    assert_eq!(reader.vmcoreinfo().unwrap(), b"PAGESIZE=4096");
    assert_eq!(read(&mut reader, 1), Err(ReadError::NotKept(1)));
    assert_eq!(read(&mut reader, 3), Err(ReadError::NotKept(3)));
}

/// Byte offsets are those of a file by makedumpfile 1.7.2 on x86-64.
#[test]
fn fields_lie_where_makedumpfile_puts_them() {
    let mut disk = Disk::new(64);
    write(&mut disk, &[Frame::Excluded, page(7)], Codec::None, END).unwrap();
    let word = |at: usize| u32::from_le_bytes(*disk.bytes[at..].first_chunk().unwrap());
    let long = |at: usize| u64::from_le_bytes(*disk.bytes[at..].first_chunk().unwrap());
    assert_eq!(&disk.bytes[..12], b"KDUMP   \x06\0\0\0");
    assert_eq!(&disk.bytes[12..18], b"Linux\0");
    assert_eq!(&disk.bytes[142..157], b"6.1.0-56-amd64\0");
    assert_eq!(&disk.bytes[272..279], b"x86_64\0");
    assert_eq!(long(408), 1_700_000_000, "seconds of the crash");
    assert_eq!(word(424), 0, "status: complete, not compressed");
    assert_eq!((word(428), word(432), word(436)), (4096, 1, 2), "block size, sub header, bitmaps");
    assert_eq!((word(440), word(460)), (2, 2), "page frames, CPUs");
    assert_eq!(long(4096), 0x1234_5000, "phys_base");
    assert_eq!((word(4104), word(4108)), (31, 0), "dump level, split");
    assert_eq!((long(4128), long(4136)), (4096 + 104 + 24, 13), "VMCOREINFO");
    assert_eq!((long(4144), long(4152)), (4096 + 104, NOTES.len() as u64), "notes");
    assert_eq!(long(4192), 2, "page frames, 64 bits");
    assert_eq!((disk.bytes[2 * BLOCK], disk.bytes[3 * BLOCK]), (0b11, 0b10), "bitmaps");
    assert_eq!((long(4 * BLOCK), long(4 * BLOCK + 8)), (5 * 4096, 4096), "offset; size and flags");
    assert_eq!(&disk.bytes[5 * BLOCK..][..3], [1, 7, 7], "data");
}

#[test]
fn pages_of_zeros_share_one_place() {
    let zero = || Frame::Kept(Box::new([0; BLOCK]));
    let mut disk = Disk::new(64);
    let statistics = write(&mut disk, &[zero(), page(3), zero(), zero()], Codec::None, END).unwrap();
    assert_eq!((statistics.zero, statistics.raw), (3, 1));
    assert_eq!(statistics.data_bytes, 2 * 4096);
    let mut reader = Reader::open(disk).unwrap();
    assert_eq!(read(&mut reader, 3), Ok([0; BLOCK]));
}

#[test]
fn every_block_is_written_once_and_the_first_twice() {
    let frames = vec![page(9); 2000];
    let mut disk = Disk::new(2100);
    let statistics = write(&mut disk, &frames, Codec::None, END).unwrap();
    let blocks = (statistics.file_bytes / 4096) as usize;
    assert_eq!(disk.written[0], 2);
    assert!(disk.written[1..blocks].iter().all(|count| *count == 1));
    assert!(disk.written[blocks..].iter().all(|count| *count == 0));
    assert!(disk.lengths.len() < 140, "2000 pages in {} writes", disk.lengths.len());
}

#[test]
fn an_abandoned_dump_is_incomplete_and_reads_as_far_as_it_goes() {
    let frames = vec![page(4); 300];
    let mut disk = Disk::new(400);
    write(&mut disk, &frames, Codec::Zlib, 200).unwrap();
    assert_eq!(disk.bytes[424], 0x8 | 0x1, "status: incomplete, zlib");
    let mut reader = Reader::open(disk).unwrap();
    assert!(!reader.is_complete());
    assert_eq!(read(&mut reader, 199).unwrap()[1], 4);
    assert_eq!(read(&mut reader, 200), Err(ReadError::Missing(200)));
    assert_eq!(read(&mut reader, 299), Err(ReadError::Missing(299)));
}

#[test]
fn a_full_area_keeps_every_page_that_fitted() {
    let mut disk = Disk::new(20);
    let statistics = write(&mut disk, &vec![page(5); 100], Codec::None, END).unwrap();
    assert_eq!((statistics.raw, statistics.file_bytes), (15, 20 * 4096));
    let mut reader = Reader::open(disk).unwrap();
    assert!(!reader.is_complete());
    assert_eq!(read(&mut reader, 14).unwrap()[1], 5);
    assert_eq!(read(&mut reader, 15), Err(ReadError::Missing(15)));
}

#[test]
fn an_area_too_small_for_the_bitmaps_is_refused_before_anything_is_written() {
    let mut disk = Disk::new(3);
    assert_eq!(write(&mut disk, &[page(1)], Codec::None, END), Err(WriteError::Full));
    assert!(disk.lengths.is_empty());
}

#[test]
fn a_disk_that_fails_ends_the_dump_with_its_error() {
    let mut disk = Disk::new(64);
    disk.writes_left = 3;
    let result = write(&mut disk, &[page(1), page(2)], Codec::None, END);
    assert_eq!(result, Err(WriteError::Device(machine::BlockError::Device(5))));
}

#[test]
fn a_page_that_cannot_be_read_is_missing_and_the_rest_is_there() {
    let mut disk = Disk::new(64);
    let statistics = write(&mut disk, &[page(1), Frame::Unreadable, page(3)], Codec::Zlib, END).unwrap();
    assert_eq!((statistics.missing, statistics.done), (1, 3));
    let mut reader = Reader::open(disk).unwrap();
    assert!(reader.is_complete());
    assert_eq!(read(&mut reader, 1), Err(ReadError::Missing(1)));
    assert_eq!(read(&mut reader, 2).unwrap()[1], 3);
}

/// A disk tells of a bad sector when it gets to it, often at the very end: that must not cost what is on it.
#[test]
fn one_late_complaint_of_the_disk_costs_no_page_that_was_written() {
    let frames: Vec<_> = (0..60).map(page).collect();
    let mut complaints = 0;
    for calls in 0.. {
        let mut disk = Disk::new(96);
        disk.calls_until_failure = Some(calls);
        let Ok(ended) = try_write(&mut disk, &frames, Codec::None, END) else { continue };
        let mut reader = Reader::open(disk).unwrap();
        assert_eq!(reader.is_complete(), ended.error.is_none());
        let read = (0..60).filter(|pfn| read(&mut reader, *pfn).is_ok_and(|page| page[1] == *pfn as u8));
        assert_eq!(read.count() as u64, ended.statistics.done, "complaint at call {calls}");
        if ended.error.is_none() {
            break;
        }
        complaints += 1;
    }
    assert!(complaints > 4, "data, descriptors and both flushes");
}

#[test]
fn a_bad_stretch_of_the_disk_costs_the_pages_in_it_and_no_others() {
    let frames: Vec<_> = (0..200).map(page).collect();
    let mut disk = Disk::new(256);
    // Headers, bitmaps and descriptors take six blocks; writes have thirty-two.
    disk.bad = 6 + 40..6 + 41;
    let ended = try_write(&mut disk, &frames, Codec::None, END).unwrap();
    assert_eq!(ended.error, Some(WriteError::Device(machine::BlockError::Device(9))));
    assert_eq!(ended.statistics.done, 200);
    let mut reader = Reader::open(disk).unwrap();
    assert!(!reader.is_complete());
    let lost: Vec<_> = (0..200).filter(|pfn| read(&mut reader, *pfn).unwrap()[1] != *pfn as u8).collect();
    assert_eq!(lost, (32..64).collect::<Vec<_>>());
}

#[test]
fn a_disk_that_is_bad_all_over_ends_the_dump_soon() {
    let frames: Vec<_> = (0..2000u32).map(|byte| page(byte as u8)).collect();
    let mut disk = Disk::new(2100);
    disk.bad = 100..2100;
    let ended = try_write(&mut disk, &frames, Codec::None, END).unwrap();
    assert!(ended.statistics.done < 100 + 16 * PATIENCE as u64, "{ended:?}");
    let mut reader = Reader::open(disk).unwrap();
    assert_eq!(read(&mut reader, 50).unwrap()[1], 50);
    assert_eq!(read(&mut reader, 1999), Err(ReadError::Missing(1999)));
}

#[test]
fn bits_past_the_last_frame_count_as_no_pages() {
    let mut disk = Disk::new(64);
    write(&mut disk, &[page(1), page(2)], Codec::None, END).unwrap();
    disk.bytes[3 * BLOCK..4 * BLOCK].fill(0xFF);
    let mut reader = Reader::open(disk).unwrap();
    assert_eq!(reader.pages(), 2);
    assert_eq!(reader.next_set(Bitmap::Kept, 2), Ok(None));
}

#[test]
fn more_page_frames_than_a_processor_can_address_are_refused() {
    let mut disk = Disk::new(64);
    write(&mut disk, &[page(1)], Codec::None, END).unwrap();
    disk.bytes[436..440].copy_from_slice(&u32::MAX.to_le_bytes());
    disk.bytes[4192..4200].copy_from_slice(&((1u64 << 40) + 1).to_le_bytes());
    disk.claimed = 1 << 48;
    assert_eq!(Reader::open(disk).err(), Some(ReadError::OutOfBounds("bitmaps")));
}

#[test]
fn a_dump_that_was_not_written_to_its_end_cannot_be_finished() {
    let mut disk = Disk::new(64);
    let mut stage = begin(&mut disk, &header(8), &notes(), Codec::None).unwrap();
    stage.push(&[0xFF], &[0x01]).unwrap();
    assert_eq!(stage.finish().unwrap().finish().error, Some(WriteError::Unfinished));
    assert!(!Reader::open(disk).unwrap().is_complete());
}

#[test]
fn bits_past_the_last_frame_are_ignored_and_more_bytes_refused() {
    let mut disk = Disk::new(64);
    let mut stage = begin(&mut disk, &header(10), &notes(), Codec::None).unwrap();
    stage.push(&[0xFF, 0xFF], &[0x00, 0xFF]).unwrap();
    assert_eq!(stage.push(&[0], &[0]), Err(WriteError::WrongBitmap));
    assert_eq!(stage.finish().unwrap().statistics().pages, 2);
}

fn frame() -> impl Strategy<Value = Frame> {
    let run = (any::<u8>(), 0..BLOCK).prop_map(|(byte, len)| {
        let mut content = [0; BLOCK];
        content[..len].fill(byte);
        Frame::Kept(Box::new(content))
    });
    let noise = any::<u64>().prop_map(|seed| {
        let mut state = seed | 1;
        let mut content = [0; BLOCK];
        for byte in &mut content {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        Frame::Kept(Box::new(content))
    });
    prop_oneof![3 => Just(Frame::Hole), 2 => Just(Frame::Excluded), 1 => Just(Frame::Unreadable), 4 => run, 2 => noise]
}

fn codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(Codec::ALL)
}

/// All that a reader can be asked; returns what pages it gave.
fn read_everything(disk: Disk) -> Vec<(u64, Page)> {
    let Ok(mut reader) = Reader::open(disk) else { return Vec::new() };
    let _ = (reader.notes(), reader.vmcoreinfo(), reader.next_set(Bitmap::Existing, 0));
    let mut pages = Vec::new();
    let mut pfn = 0;
    while let Ok(Some(next)) = reader.next_set(Bitmap::Kept, pfn) {
        if let Ok(page) = read(&mut reader, next) {
            pages.push((next, page));
        }
        pfn = next + 1;
    }
    pages
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_kept_page_comes_back_and_no_other(frames in prop::collection::vec(frame(), 1..80), codec in codec()) {
        let mut disk = Disk::new(128);
        write(&mut disk, &frames, codec, END).unwrap();
        let read = read_everything(disk.clone());
        let expected = frames.iter().enumerate().filter_map(|(pfn, frame)| match frame {
            Frame::Kept(content) => Some((pfn as u64, **content)),
            _ => None,
        });
        prop_assert!(expected.eq(read));
        let mut reader = Reader::open(disk).unwrap();
        let (existing, kept) = bitmaps(&frames);
        for (which, bits) in [(Bitmap::Existing, existing), (Bitmap::Kept, kept)] {
            for pfn in 0..frames.len() {
                let set = reader.next_set(which, pfn as u64).unwrap() == Some(pfn as u64);
                prop_assert_eq!(set, bits[pfn / 8] >> (pfn % 8) & 1 == 1);
            }
            let (mut all, mut runs) = (vec![0xFF; bits.len() + 1], vec![0; bits.len() + 1]);
            reader.retain(which, 0, &mut all).unwrap();
            prop_assert_eq!(&all[..bits.len()], &bits[..]);
            let mut pfn = 0;
            while let Some(run) = reader.clone().next_run(which, pfn).unwrap() {
                let run = run.start.get()..run.end.get();
                prop_assert!(run.start >= pfn && !run.is_empty());
                pfn = run.end;
                run.for_each(|pfn| runs[pfn as usize / 8] |= 1 << (pfn % 8));
            }
            prop_assert_eq!(runs, all);
        }
    }

    #[test]
    fn a_disk_that_fails_at_any_moment_never_leaves_a_dump_that_looks_complete(
        frames in prop::collection::vec(frame(), 1..80), codec in codec(), writes in 0usize..12,
    ) {
        let mut disk = Disk::new(128);
        disk.writes_left = writes;
        if write(&mut disk, &frames, codec, END).is_err() {
            prop_assert!(!Reader::open(disk).is_ok_and(|reader| reader.is_complete()));
        }
    }

    #[test]
    fn a_damaged_dump_gives_errors_but_no_panic_and_no_wrong_number_of_pages(
        frames in prop::collection::vec(frame(), 1..40), codec in codec(),
        damage in prop::collection::vec((0usize..24 * BLOCK, any::<u8>()), 1..40),
        len in 0usize..128,
    ) {
        let mut disk = Disk::new(128);
        write(&mut disk, &frames, codec, END).unwrap();
        for (at, byte) in damage {
            // Most of the damage goes where the numbers are.
            let at = if at % 3 == 0 { at } else { at % (BLOCK + 104) };
            disk.bytes[at] ^= byte;
        }
        disk.bytes.truncate(len * BLOCK);
        disk.claimed = disk.bytes.len() as u64;
        read_everything(disk);
    }

    #[test]
    fn any_bytes_after_a_signature_can_be_opened(bytes in prop::collection::vec(any::<u8>(), 464..4 * BLOCK)) {
        let mut bytes = bytes;
        bytes[..12].copy_from_slice(b"KDUMP   \x06\0\0\0");
        bytes[428..432].copy_from_slice(&4096u32.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        read_everything(Disk::holding(bytes));
    }
}
