//! A kdump-compressed file: whatever it contains, opening it and reading its pages returns a value or an error.

#![no_main]

use holdover_fuzz::Disk;
use kdump::{BLOCK, Bitmap, Reader};
use libfuzzer_sys::fuzz_target;

/// How many pages are read: a file may say that it has 2^40.
const PAGES: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = Reader::open(Disk::new(bytes)) else { return };
    let (frames, kept) = (reader.header().frames, reader.pages());
    assert!(kept <= frames, "{kept} of {frames} pages are kept");
    if let Ok(notes) = reader.notes() {
        assert!(notes.len() <= bytes.len().next_multiple_of(BLOCK));
        let _ = vmcore::notes_in(&notes).count();
    }
    let _ = reader.vmcoreinfo();
    for bitmap in [Bitmap::Existing, Bitmap::Kept] {
        read_pages(&mut reader, bitmap, frames);
    }
    let _ = reader.read_page(u64::MAX, &mut [0; BLOCK]);
});

/// Reads the first pages of a bitmap.
fn read_pages(reader: &mut Reader<Disk>, bitmap: Bitmap, frames: u64) {
    let mut next = 0;
    for _ in 0..PAGES {
        let Ok(Some(pfn)) = reader.next_set(bitmap, next) else { return };
        assert!((next..frames).contains(&pfn));
        let _ = reader.read_page(pfn, &mut [0; BLOCK]);
        next = pfn + 1;
    }
}
