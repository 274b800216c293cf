//! The place of a page's data in the file, when the caller and not [`Pages`](super::Pages) writes the data.

use core::sync::atomic::{AtomicU64, Ordering};

use machine::{ByteOffset, Range};

use super::WriteError;
use crate::BLOCK;
use crate::codec::{Codec, Content};

/// The place of a page in a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagePlace {
    /// Nowhere.
    Missing,
    /// The place that all pages of zeros share.
    Zero,
    /// Its data, which `codec` made, is in the file.
    Data {
        /// How to read it.
        codec: Codec,
        /// Where in the file it begins.
        offset: ByteOffset,
        /// Bytes, 4096 at most.
        len: usize,
    },
}

impl Content<'_> {
    /// The place of a page with this content, if its data begins at `offset`.
    pub fn at(self, offset: ByteOffset) -> PagePlace {
        match self {
            Self::Missing => PagePlace::Missing,
            Self::Zero => PagePlace::Zero,
            Self::Data { codec, data } => PagePlace::Data { codec, offset, len: data.len() },
        }
    }
}

/// The free end of the file; several processors may take parts of it at once.
#[derive(Debug)]
pub struct Room {
    next: AtomicU64,
    end: u64,
}

impl Room {
    pub(super) fn new(free: Range<ByteOffset>) -> Self {
        Self { next: free.start.get().into(), end: free.end.get() }
    }

    /// Takes the free blocks up to the next multiple of `size`, itself a multiple of 4096. Nobody else gets them.
    pub fn take(&self, size: u64) -> Result<Range<ByteOffset>, WriteError> {
        let end = |next: u64| (next / size + 1).checked_mul(size).map_or(self.end, |end| end.min(self.end));
        let after = |next: u64| Some(end(next)).filter(|after| *after > next);
        let taken = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
        taken.map(|start| Range::from(start..end(start))).map_err(|_| WriteError::Full)
    }

    /// Takes back the unused end of a part, as far as it is whole blocks and nobody has taken the next part.
    pub fn give_back(&self, unused: Range<ByteOffset>) {
        let (start, end) = (unused.start.get().next_multiple_of(BLOCK as u64), unused.end.get());
        // If somebody has taken the next part, a hole remains in the file.
        let _ = self.next.compare_exchange(end, start, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The blocks that nobody has taken.
    pub(super) fn free(&self) -> Range<ByteOffset> {
        Range::from(self.next.load(Ordering::Relaxed)..self.end)
    }
}
