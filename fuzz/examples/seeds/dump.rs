//! kdump-compressed files, made by the writer.

use crate::Seed;
use kdump::layout::Name;
use kdump::{Codec, Header, NoteSegment, Page, Utsname, begin};
use machine::{BlockDevice, BlockError};

/// Notes with one VMCOREINFO.
const NOTES: &[u8] = b"\x0b\0\0\0\x0d\0\0\0\0\0\0\0VMCOREINFO\0\0PAGESIZE=4096\0\0\0";

pub(crate) fn seeds() -> Vec<Seed> {
    vec![
        ("zlib", dump(Codec::Zlib, usize::MAX)),
        ("lzo", dump(Codec::Lzo, usize::MAX)),
        ("snappy", dump(Codec::Snappy, usize::MAX)),
        ("zstd", dump(Codec::Zstd, usize::MAX)),
        ("raw", dump(Codec::None, usize::MAX)),
        ("cut_short", dump(Codec::Zlib, 1)),
    ]
}

/// Dumps of which blocks are missing: the first eight bytes say which of the first 64 are there.
pub(crate) fn unfinished_seeds() -> Vec<Seed> {
    let with = |there: u64, dump: Vec<u8>| [&there.to_le_bytes()[..], &dump].concat();
    vec![
        ("all", with(u64::MAX, dump(Codec::Zlib, usize::MAX))),
        ("some", with(!(1 << 5), dump(Codec::None, usize::MAX))),
        ("none", with(0, dump(Codec::Lzo, usize::MAX))),
        ("cut_short", with(u64::MAX, dump(Codec::Zlib, 1))),
    ]
}

/// Sixteen page frames, of which four are kept; the dump ends after `pages` of them.
fn dump(codec: Codec, pages: usize) -> Vec<u8> {
    let utsname = Utsname { release: Name::new("6.1.0-56-amd64"), ..Utsname::default() };
    let header =
        Header { utsname, crashed_at: 1_700_000_000, cpus: 2, frames: 16, phys_base: 0, dump_level: 31 };
    let notes = NoteSegment { bytes: NOTES, vmcoreinfo: Some(24..37), eraseinfo: None };
    let mut disk = Growing(Vec::new());
    let mut bitmaps = begin(&mut disk, &header, &notes, codec).expect("no disk error");
    bitmaps.push(&[0xFF, 0x7F], &[0b10011, 0b100]).expect("no disk error");
    let mut stage = bitmaps.finish().expect("no disk error");
    for _ in 0..pages {
        if stage.write_next(|_| true, fill).expect("no disk error").is_none() {
            stage.finish();
            return disk.0;
        }
    }
    stage.abandon();
    disk.0
}

/// The page frame is full of its number, and some text.
fn fill(pfn: u64, page: &mut Page) -> Result<(), machine::Unreadable> {
    page.fill(pfn as u8);
    page[..5].copy_from_slice(b"Linux");
    Ok(())
}

/// A disk that reports a size of 1 MiB, and stores only as much as was written.
struct Growing(Vec<u8>);

impl BlockDevice for Growing {
    fn size(&self) -> u64 {
        1 << 20
    }

    fn block_size(&self) -> u32 {
        512
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), BlockError> {
        let bytes = self.0.get(offset as usize..).unwrap_or_default();
        let len = bytes.len().min(into.len());
        into[..len].copy_from_slice(&bytes[..len]);
        into[len..].fill(0);
        Ok(())
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> Result<(), BlockError> {
        let end = offset as usize + from.len();
        self.0.resize(self.0.len().max(end), 0);
        self.0[offset as usize..end].copy_from_slice(from);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BlockError> {
        Ok(())
    }
}
