//! Dump levels, in makedumpfile's numbers.

use core::ops::BitOr;

use crate::page::Reason;

/// What a dump leaves out, as a sum of makedumpfile's numbers: 1 pages full of zeroes, 2 cache, 4 private cache, 8 user
/// pages, 16 free pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// Nothing is left out but pages that may not be read.
    pub const NOTHING: Self = Self(0);
    /// All that can be left out is.
    pub const ALL: Self = Self(31);

    /// A level from 0 to 31.
    pub fn new(number: u8) -> Option<Self> {
        Some(Self(number)).filter(|level| *level <= Self::ALL)
    }

    /// The sum.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Whether pages full of zeroes are left out: for whoever reads the pages to do.
    pub fn leaves_out_zero(self) -> bool {
        self.0 & 1 != 0
    }

    pub(crate) fn looks_at_types(self) -> bool {
        self.0 & !1 != 0
    }

    /// The private cache only goes with its own number; the rest goes with that as well.
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

/// What is left out by one or the other.
impl BitOr for Level {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
