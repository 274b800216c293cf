//! Dumps whose page data is written by the caller instead of the writer.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise as tests do")]

use kdump::{Codec, Content, Encoder, Ended, PagePlace, Reader, Room, WriteError};
use machine::Range;
use proptest::prelude::*;

use crate::disk::{Disk, Frame, begin_pages, fetch, try_write};
use crate::{BLOCK, END, frame, page, read, read_everything};

/// What is taken of the file at a time.
const PIECE: u64 = 4 * 4096;

/// Writes a dump of a made-up machine, whose pages come to the file by themselves, so many at once and the last ones first.
fn write_in_room(disk: &mut Disk, frames: &[Frame], codec: Codec, at_once: usize) -> Ended {
    let mut pages = begin_pages(disk, frames, codec).unwrap();
    let mut kept = Vec::new();
    while let Some(frame) = pages.next_frame(|_| true).unwrap() {
        kept.push(frame);
    }
    let mut data = Vec::new();
    let written = pages.with_room(|pages, room| {
        let batches = kept.chunks(at_once).rev();
        let batches: Vec<_> = batches.map(|batch| bring(batch, frames, codec, room, &mut data)).collect();
        let places = batches.into_iter().rev().flatten();
        kept.into_iter().zip(places).try_for_each(|(frame, place)| pages.place(frame, place).map(|_| ()))
    });
    assert_eq!(written, Ok(()));
    let ended = pages.finish();
    for (offset, bytes) in data {
        disk.bytes[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
    }
    ended
}

/// Takes room for some pages; tells where they are.
fn bring(
    batch: &[kdump::Frame],
    frames: &[Frame],
    codec: Codec,
    room: &Room,
    data: &mut Vec<(u64, Vec<u8>)>,
) -> Vec<PagePlace> {
    let (mut content, mut smaller) = ([0; BLOCK], [0; BLOCK]);
    let (mut encoder, mut piece) = (Encoder::new(codec).unwrap(), Range::default());
    let mut place = |frame: &kdump::Frame| {
        let read = fetch(&frames[frame.pfn() as usize], frame.pfn(), &mut content);
        let made = if read.is_ok() { encoder.encode(&content, &mut smaller) } else { Content::Missing };
        if piece.len() < BLOCK as u64 {
            piece = room.take(PIECE).unwrap();
        }
        let place = made.at(piece.start);
        if let Content::Data { data: bytes, .. } = made {
            data.push((piece.start.get(), bytes.to_vec()));
            piece.start = piece.start.saturating_add(bytes.len() as u64);
        }
        place
    };
    let places = batch.iter().map(&mut place).collect();
    room.give_back(piece);
    places
}

#[test]
fn room_is_given_to_one_only_and_ends_with_the_device() {
    let frames = [page(1)];
    // Headers, bitmaps and descriptors take five blocks, the page of zeros one.
    let mut disk = Disk::new(13);
    let mut pages = begin_pages(&mut disk, &frames, Codec::None).unwrap();
    let blocks = |blocks: core::ops::Range<u64>| Ok(Range::from(blocks.start * 4096..blocks.end * 4096));
    let written = pages.with_room(|_, room| {
        assert_eq!(room.take(PIECE), blocks(6..8), "up to a multiple of four blocks");
        assert_eq!(room.take(PIECE), blocks(8..12));
        room.give_back(Range::from(10 * 4096 - 1..12 * 4096));
        assert_eq!(room.take(PIECE), blocks(10..12), "what nobody has used");
        assert_eq!(room.take(PIECE), blocks(12..13), "up to the device's end");
        assert_eq!(room.take(PIECE), Err(WriteError::Full));
        assert_eq!(room.take(1 << 63), Err(WriteError::Full));
        room.give_back(Range::from(8 * 4096..12 * 4096));
        assert_eq!(room.take(PIECE), Err(WriteError::Full), "somebody has what follows");
        Ok(())
    });
    assert_eq!(written, Ok(()));
    assert_eq!(pages.abandon().statistics.file_bytes, 13 * 4096);
}

#[test]
fn what_the_writer_stores_itself_does_not_get_into_room_of_others() {
    let frames = [page(1), page(2)];
    let mut disk = Disk::new(5 + 1 + 16);
    let mut pages = begin_pages(&mut disk, &frames, Codec::None).unwrap();
    let write = |pages: &mut kdump::Pages<'_, Disk>| {
        pages.write_next(|_| true, |pfn, page| fetch(&frames[pfn as usize], pfn, page))
    };
    let written = pages.with_room(|pages, room| {
        assert_eq!(write(pages), Err(WriteError::Full));
        let taken = room.take(PIECE)?;
        room.give_back(Range::new(taken.start.saturating_add(4097), taken.end));
        Ok(())
    });
    assert_eq!(written, Ok(()));
    write(&mut pages).unwrap();
    assert_eq!(pages.abandon().statistics.file_bytes, (5 + 1 + 2 + 1) * 4096);
    let mut reader = Reader::open(disk).unwrap();
    assert!(read(&mut reader, 1).is_ok_and(|page| page[1] == 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn who_brings_the_data_and_in_which_order_changes_nothing_that_a_reader_reads(
        frames in prop::collection::vec(frame(), 1..80), at_once in 1usize..20, codec in prop::sample::select(Codec::ALL),
    ) {
        let (mut stream, mut room) = (Disk::new(128), Disk::new(128));
        let one = try_write(&mut stream, &frames, codec, END).unwrap();
        let many = write_in_room(&mut room, &frames, codec, at_once);
        prop_assert_eq!(one.error, many.error);
        let counts = |ended: Ended| (ended.statistics.done, ended.statistics.missing, ended.statistics.zero, ended.statistics.raw);
        prop_assert_eq!(counts(one), counts(many));
        prop_assert_eq!(read_everything(stream), read_everything(room));
    }
}
