//! Dump levels, in makedumpfile's numbers.

use core::ops::BitOr;

use crate::page::Reason;

/// The kinds of pages that a dump excludes, as a sum of makedumpfile's numbers: 1 pages full of zeroes, 2 cache, 4 private
/// cache, 8 user pages, 16 free pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// Excludes only pages that must not be read.
    pub const NOTHING: Self = Self(0);
    /// Excludes all kinds.
    pub const ALL: Self = Self(31);

    /// A level from 0 to 31.
    pub fn new(number: u8) -> Option<Self> {
        Some(Self(number)).filter(|level| *level <= Self::ALL)
    }

    /// The sum.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Whether pages full of zeroes are excluded; the writer that reads the pages does this.
    pub fn leaves_out_zero(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether pages are excluded by what the kernel uses them for, which takes VMCOREINFO.
    pub fn looks_at_types(self) -> bool {
        self.0 & !1 != 0
    }

    /// The private cache is excluded only by its own number; the rest of the cache is excluded by that number too.
    pub(crate) fn leaves_out_cache(self, kind: Reason) -> bool {
        self.0 & 4 != 0 || (kind == Reason::Cache && self.0 & 2 != 0)
    }

    pub(crate) fn leaves_out_user(self) -> bool {
        self.0 & 8 != 0
    }

    pub(crate) fn leaves_out_free(self) -> bool {
        self.0 & 16 != 0
    }
}

/// Excludes the kinds that either level excludes.
impl BitOr for Level {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
