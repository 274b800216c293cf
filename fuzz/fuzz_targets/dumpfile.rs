//! A dump of any kind as a file, also flattened: the library opens or refuses it, and reads its pages as far as the
//! file has them.

#![no_main]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::LazyLock;

use dumpfile::Dump;
use libfuzzer_sys::fuzz_target;
use machine::{OldMemory, PAGE_SIZE};

/// How many pages are read: a file may say that it has 2^40.
const PAGES: usize = 64;

/// A file without a name.
static FILE: LazyLock<File> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("holdover-fuzz-{}", std::process::id()));
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("a temporary file");
    std::fs::remove_file(&path).expect("its name goes");
    file
});

fuzz_target!(|bytes: &[u8]| {
    FILE.set_len(0).and_then(|()| FILE.write_all_at(bytes, 0)).expect("the file can be written");
    let Ok(dump) = Dump::open(Path::new(&format!("/proc/self/fd/{}", FILE.as_raw_fd()))) else { return };
    let _ = (dump.lacks().count(), dump.level(), dump.release());
    let Ok(ram) = dump.ram() else { return };
    assert!(ram.ranges().is_sorted());
    let mut next = 0;
    for _ in 0..PAGES {
        let Ok(Some(pfn)) = dump.next_page(next) else { return };
        assert!(pfn >= next);
        check(&dump, pfn);
        next = pfn + 1;
    }
});

/// Checks that every way of reading a page gives the same content.
fn check(dump: &Dump, pfn: u64) {
    let (mut whole, mut part, mut bits) = ([0; PAGE_SIZE as usize], [0; 16], [0xFF]);
    let read = dump.read_page(pfn, &mut whole);
    dump.keep_saved(pfn & !7, &mut bits);
    if dump.check_page(pfn).is_ok() && dump.read((pfn * PAGE_SIZE + 100).into(), &mut part).is_ok() {
        assert!(read.is_ok() && whole[100..116] == part);
        assert!(bits[0] >> (pfn % 8) & 1 == 1, "page {pfn:#x} is there");
    }
}
