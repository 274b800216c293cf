//! What a dump in the making asks of its file. Tests put a disk that fills in the file's place.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;

use machine::{ByteOffset, Range};
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate, fstatfs};

/// `TMPFS_MAGIC` and `OVERLAYFS_SUPER_MAGIC`, which Linux's `statfs` tells; what is under an overlay may be tmpfs.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x794c_7630];

/// A file on which a dump is made. Threads share it.
pub(super) trait HostFile: Debug + Sync {
    /// Fills `into` with the bytes at `offset`.
    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all these bytes, or some of them if there is an error.
    fn write_all_at(&self, from: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the file this long.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Where the first byte at or after `offset` is that is in no hole; see [`dumpfile::next_data`].
    fn next_data(&self, offset: u64) -> u64;

    /// Takes the room of these bytes on the disk: they can be written even after it is full.
    fn reserve(&self, range: Range<ByteOffset>) -> io::Result<()>;

    /// Whether a hole takes room when a program that has mapped it reads it. On a full file system, that ends the program by
    /// SIGBUS. tmpfs is one.
    fn mapped_holes_take_room(&self) -> bool;

    /// Asks Linux to write these bytes to the disk; `len` may reach beyond the file's end.
    fn bring(&self, offset: u64, len: NonZero<u64>);
}

impl HostFile for File {
    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, into, offset)
    }

    fn write_all_at(&self, from: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, from, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn next_data(&self, offset: u64) -> u64 {
        dumpfile::next_data(self, offset)
    }

    fn reserve(&self, range: Range<ByteOffset>) -> io::Result<()> {
        Ok(fallocate(self, FallocateFlags::empty(), range.start.get(), range.len())?)
    }

    fn mapped_holes_take_room(&self) -> bool {
        fstatfs(self).is_ok_and(|found| IN_MEMORY.contains(&found.f_type.cast_unsigned()))
    }

    /// This tells Linux that the bytes are not needed in memory; Linux then starts to write those that are not on the disk.
    fn bring(&self, offset: u64, len: NonZero<u64>) {
        let _ = fadvise(self, offset, Some(len), Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    /// Linux keeps such files in a tmpfs, whatever is mounted.
    #[test]
    fn room_is_taken_in_tmpfs_where_readers_would_take_it() {
        let file = File::from(memfd_create("dump", MemfdFlags::CLOEXEC).unwrap());
        assert!(file.mapped_holes_take_room());
        HostFile::set_len(&file, 1 << 20).unwrap();
        assert_eq!((file.metadata().unwrap().blocks(), HostFile::next_data(&file, 0)), (0, u64::MAX));
        file.reserve(Range::from(0..1 << 20)).unwrap();
        assert_eq!(file.metadata().unwrap().blocks(), (1 << 20) / 512);
    }
}
