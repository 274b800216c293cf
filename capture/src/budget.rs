//! Shares of the reservation: no part of the capture kernel may take what the others need.

/// The part of the reservation that one purpose may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    divisor: u64,
}

impl Share {
    /// Our own page tables.
    pub(crate) const PAGE_TABLES: Self = Self { divisor: 4 };
    /// Tables for all remapping units.
    pub(crate) const UNIT_TABLES: Self = Self { divisor: 4 };
    /// Buffers for requests to the disk.
    pub(crate) const DISK_BUFFERS: Self = Self { divisor: 16 };

    /// This share of `reserved` bytes, in bytes.
    pub(crate) fn of(self, reserved: u64) -> u64 {
        reserved / self.divisor
    }
}
