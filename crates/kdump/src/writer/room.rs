//! Where the data of a page is, if others than [`Pages`](super::Pages) bring it to the file.

use core::sync::atomic::{AtomicU64, Ordering};

use machine::Range;

use super::WriteError;
use crate::BLOCK;
use crate::codec::{Codec, Content};

/// What a dump has of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing.
    Missing,
    /// It holds zeros only, as others do.
    Zero,
    /// Its data, which `codec` made, is in the file.
    Data {
        /// How to read it.
        codec: Codec,
        /// Where in the file it begins.
        offset: u64,
        /// Bytes, 4096 at most.
        len: usize,
    },
}

impl Content<'_> {
    /// Where a page of this content is, if its data begins at `offset`.
    pub fn at(self, offset: u64) -> Place {
        match self {
            Self::Missing => Place::Missing,
            Self::Zero => Place::Zero,
            Self::Data { codec, data } => Place::Data { codec, offset, len: data.len() },
        }
    }
}

/// What is free of the file's end; several processors may take of it at once.
#[derive(Debug)]
pub struct Room {
    next: AtomicU64,
    end: u64,
}

impl Room {
    pub(super) fn new(free: Range) -> Self {
        Self { next: free.start.into(), end: free.end }
    }

    /// Takes `len` bytes, which nobody else gets; returns the offset of the first.
    pub fn take(&self, len: u64) -> Result<u64, WriteError> {
        let after = |next: u64| next.checked_add(len).filter(|after| *after <= self.end);
        self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after).map_err(|_| WriteError::Full)
    }

    /// The whole blocks of which nothing was taken.
    pub(super) fn free(&self) -> Range {
        Range::new(self.next.load(Ordering::Relaxed).next_multiple_of(BLOCK as u64), self.end)
    }
}
