//! A file that is written more or less from its beginning to its end, and comes to the disk meanwhile: to wait for all of it at the end
//! takes as long as writing it did.

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use machine::Range;
use rustix::fs::{Advice, fadvise};

/// Bytes that Linux is asked to bring to the disk at a time, while there is more to write.
const STRETCH: u64 = 4 << 20;

/// A file that grows. Threads share it.
#[derive(Debug)]
pub(super) struct Growing<'f> {
    file: &'f File,
    /// Bytes before what was written last of which some may not be written yet.
    open: u64,
    /// Where the part begins that Linux was not asked for yet; 0 until something is written.
    next: AtomicU64,
}

impl<'f> Growing<'f> {
    /// Its beginning is what is written first: what lies before that is not asked for.
    pub(super) fn new(file: &'f File, open: u64) -> Self {
        Self { file, open, next: AtomicU64::new(0) }
    }

    /// Writes data. Whenever a stretch is full, Linux begins to bring that to the disk, if the file is on one.
    pub(super) fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)?;
        let full = self.full(offset, data.len() as u64);
        if let Some(len) = NonZero::new(full.len()) {
            // A hint: of what is not needed in memory, Linux begins to write what is new.
            let _ = fadvise(self.file, full.start, Some(len), Advice::DontNeed);
        }
        Ok(())
    }

    /// What is to come to the disk now that `len` bytes were written. It has no holes, as a rule. Each would make two runs of blocks of one:
    /// ext4 keeps four of these in the inode, and frees the block for more of them when holes are filled, which on a disk that is
    /// told of what is free (`discard`) let all threads wait for milliseconds.
    fn full(&self, offset: u64, len: u64) -> Range {
        let _ = self.next.compare_exchange(0, offset, Ordering::Relaxed, Ordering::Relaxed);
        let end = (offset + len).saturating_sub(self.open) / STRETCH * STRETCH;
        Range::new(self.next.fetch_max(end, Ordering::Relaxed), end)
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
        assert_eq!(full[1], Range::new(begin, STRETCH));
        assert_eq!(full[2], Range::new(STRETCH, 2 * STRETCH));
        assert_eq!(growing.full(5 * STRETCH, STRETCH), Range::new(2 * STRETCH, 5 * STRETCH));
    }
}
