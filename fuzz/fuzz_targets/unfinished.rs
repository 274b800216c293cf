//! A dump that the capture kernel did not finish, with any content and any of its blocks missing: marking its missing
//! pages a second time changes nothing, and afterwards at most as many pages can be read as were counted.
//!
//! The first eight bytes say which blocks are there, by their number modulo 64; the rest is the file.

#![no_main]

use fixtures::Disk;
use kdump::{BLOCK, Bitmap, Reader, name_missing};
use libfuzzer_sys::fuzz_target;
use machine::{ByteOffset, Range};

/// How many pages are read: a file may say that it has 2^40.
const PAGES: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let Some((there, file)) = bytes.split_first_chunk() else { return };
    let there = u64::from_le_bytes(*there);
    let mut disk = Disk(file.to_vec());
    disk.0.resize(file.len().next_multiple_of(BLOCK), 0);
    let Ok(pages) = name_missing(&mut disk, |data| holds(there, data)) else { return };
    let once = disk.clone();
    assert_eq!(name_missing(&mut disk, |data| holds(there, data)), Ok(pages), "a second time");
    assert!(disk.0 == once.0, "a second time");
    check(Reader::open(disk).expect("it could be opened before"), pages);
});

/// Whether all blocks that the bytes `data` touch are there.
fn holds(there: u64, data: Range<ByteOffset>) -> bool {
    assert!(data.len() <= BLOCK as u64, "a page's data is no longer than a page");
    let mut blocks = data.start.get() / BLOCK as u64..data.end.get().div_ceil(BLOCK as u64);
    blocks.all(|block| there >> (block % 64) & 1 == 1)
}

/// The dump is marked as incomplete, and no more than `pages` of its pages can be read.
fn check(mut reader: Reader<Disk>, pages: u64) {
    assert!(!reader.is_complete());
    let (mut next, mut read) = (0, 0);
    for _ in 0..PAGES {
        let Ok(Some(pfn)) = reader.next_set(Bitmap::Kept, next) else { break };
        read += u64::from(reader.read_page(pfn, &mut [0; BLOCK]).is_ok());
        next = pfn + 1;
    }
    assert!(read <= pages, "{read} of {pages}");
}
