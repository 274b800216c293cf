//! A file that is written more or less from its beginning to its end, and comes to the disk meanwhile: to wait for all of it at the end
//! takes as long as writing it did.

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use machine::{ByteOffset, Range};
use rustix::fs::{Advice, fadvise};

/// Bytes that Linux is asked to bring to the disk at a time, while there is more to write.
const STRETCH: u64 = 4 << 20;

/// A file that grows. Threads share it.
#[derive(Debug)]
pub(super) struct Growing<'f> {
    file: &'f File,
    /// Bytes before what was written last of which some may not be written yet.
    open: u64,
    /// Where the first data is. What is before that is others', who write it more than once.
    first: OnceLock<u64>,
    /// Where the part begins that Linux was not asked for yet.
    next: AtomicU64,
}

impl<'f> Growing<'f> {
    /// Grows from what is written first.
    pub(super) fn new(file: &'f File, open: u64) -> Self {
        Self { file, open, first: OnceLock::new(), next: AtomicU64::new(0) }
    }

    /// Writes data. Whenever a stretch is full, Linux begins to bring that to the disk, if the file is on one.
    pub(super) fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)?;
        self.bring(self.full(offset, data.len() as u64));
        Ok(())
    }

    /// Has Linux begin with everything else, too: there is little to come.
    pub(super) fn bring_rest(&self) {
        let first = self.first.get().copied().unwrap_or_default();
        self.bring(Range::from(0..first));
        self.bring(Range::from(self.next.load(Ordering::Relaxed).max(first)..i64::MAX as u64));
    }

    /// What is to come to the disk now that `len` bytes were written. It has no holes, as a rule. Each would make two runs of blocks of one:
    /// ext4 keeps four of these in the inode, and frees the block for more of them when holes are filled, which on a disk that is
    /// told of what is free (`discard`) let all threads wait for milliseconds.
    fn full(&self, offset: u64, len: u64) -> Range<ByteOffset> {
        let first = *self.first.get_or_init(|| offset);
        let end = (offset + len).saturating_sub(self.open) / STRETCH * STRETCH;
        Range::from(self.next.fetch_max(end, Ordering::Relaxed).max(first)..end)
    }

    fn bring(&self, range: Range<ByteOffset>) {
        if let Some(len) = NonZero::new(range.len()) {
            // A hint: of what is not needed in memory, Linux begins to write what is new.
            let _ = fadvise(self.file, range.start.get(), Some(len), Advice::DontNeed);
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
