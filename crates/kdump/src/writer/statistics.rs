//! Counts what happened to the pages of a dump.

use super::WriteError;

/// The result of storing a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOutcome {
    /// It holds zeros only; all such pages share one place in the file.
    Zero,
    /// It was stored compressed.
    Compressed,
    /// It was stored as it is.
    Raw,
    /// Its memory could not be read; the dump names it as missing.
    Missing,
}

/// Counts of a dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Pages that the second bitmap keeps.
    pub pages: u64,
    /// Number of these processed so far: the sum of the four that follow.
    pub done: u64,
    /// Pages of zeros.
    pub zero: u64,
    /// Pages stored compressed.
    pub compressed: u64,
    /// Pages stored as they are.
    pub raw: u64,
    /// Pages whose memory could not be read.
    pub missing: u64,
    /// Bytes of page data in the file.
    pub data_bytes: u64,
    /// Length of the file in bytes, a multiple of [`BLOCK`](crate::BLOCK); 0 until it is finished or abandoned.
    pub file_bytes: u64,
}

impl Statistics {
    pub(super) fn count(&mut self, outcome: PageOutcome) {
        self.done += 1;
        match outcome {
            PageOutcome::Zero => self.zero += 1,
            PageOutcome::Compressed => self.compressed += 1,
            PageOutcome::Raw => self.raw += 1,
            PageOutcome::Missing => self.missing += 1,
        }
    }
}

/// How the writing of pages ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Counts of the file's content, even after an error.
    pub statistics: Statistics,
    /// The first error, if there was one.
    pub error: Option<WriteError>,
}
