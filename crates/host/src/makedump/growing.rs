//! A file that grows roughly from its beginning to its end, so that Linux can write it to the disk in the meantime.
//! If Linux began only at the end, waiting for the disk would take as long again as making the dump.

use std::io;
use std::num::NonZero;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use machine::{ByteOffset, Range};

use super::hostfile::HostFile;

/// Bytes of a stretch: as many as Linux is asked to bring to the disk at a time.
const STRETCH: u64 = 4 << 20;

/// A file that grows. Threads share it.
#[derive(Debug)]
pub(super) struct Growing<'f> {
    file: &'f dyn HostFile,
    /// Bytes before the last written byte within which some may still be unwritten.
    open: u64,
    /// Offset of the first data. The bytes before it are written more than once, by others.
    first: OnceLock<u64>,
    /// Start of the part that Linux has not yet been asked to write to the disk.
    next: AtomicU64,
}

impl<'f> Growing<'f> {
    /// A file that grows from where the first data is written.
    pub(super) fn new(file: &'f dyn HostFile, open: u64) -> Self {
        Self { file, open, first: OnceLock::new(), next: AtomicU64::new(0) }
    }

    /// Writes data. Whenever a stretch is full, asks Linux to bring it to the disk, if the file is on one.
    pub(super) fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)?;
        self.bring(self.full(offset, data.len() as u64));
        Ok(())
    }

    /// Asks Linux to write everything else to the disk too, because little is still to come.
    pub(super) fn bring_rest(&self) {
        let first = self.first.get().copied().unwrap_or_default();
        self.bring(Range::from(0..first));
        self.bring(Range::from(self.next.load(Ordering::Relaxed).max(first)..i64::MAX as u64));
    }

    /// The stretches that became full when `len` bytes were written, and may go to the disk.
    ///
    /// Usually they have no holes, because a hole splits a run of blocks in two. ext4 keeps four runs in the inode and
    /// allocates a block for more; when the holes are filled, it frees that block again. On a disk that is told about free
    /// blocks (`discard`), all threads waited for milliseconds in that case.
    fn full(&self, offset: u64, len: u64) -> Range<ByteOffset> {
        let first = *self.first.get_or_init(|| offset);
        let end = (offset + len).saturating_sub(self.open) / STRETCH * STRETCH;
        Range::from(self.next.fetch_max(end, Ordering::Relaxed).max(first)..end)
    }

    fn bring(&self, range: Range<ByteOffset>) {
        if let Some(len) = NonZero::new(range.len()) {
            self.file.bring(range.start.get(), len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_follow_each_other_behind_what_may_be_missing() {
        let file = tempfile::tempfile().unwrap();
        let growing = Growing::new(&file, STRETCH);
        let begin = STRETCH / 2;
        let written = [(begin, STRETCH / 2), (STRETCH, STRETCH), (3 * STRETCH, 1), (2 * STRETCH, STRETCH)];
        let full = written.map(|(offset, len)| growing.full(offset, len));
        assert_eq!(full.map(Range::len), [0, STRETCH / 2, STRETCH, 0]);
        assert_eq!(full[1], Range::from(begin..STRETCH));
        assert_eq!(full[2], Range::from(STRETCH..2 * STRETCH));
        assert!(growing.full(begin, 1).is_empty(), "this one is late");
        assert_eq!(growing.full(5 * STRETCH, STRETCH), Range::from(2 * STRETCH..5 * STRETCH));
    }
}
