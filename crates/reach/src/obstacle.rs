//! Obstacles: why requests fault, or why nobody knows where they lead.

use machine::{IoAddress, PhysicalAddress};
use vtd::control::TableMode;

/// Why the target of requests is unknown, or why they fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The table at this physical address could not be read here; hardware may have been able to read it.
    #[error("the table at {0:#x} cannot be read")]
    Unreadable(PhysicalAddress),
    /// The mode of the tables blocks everything, or is undefined.
    #[error("translation table mode {} lets nothing pass", .0.0)]
    Mode(TableMode),
    /// Bits that must be zero are not: requests fault.
    #[error("reserved bits are set")]
    ReservedBits,
    /// The unit does not support this translation type, or it is undefined: requests fault.
    #[error("translation type {0} is not supported")]
    Type(u8),
    /// The unit does not support this width or number of levels: requests fault.
    #[error("address width {0} is not supported")]
    Width(u8),
    /// There is no entry for requests without PASID: they fault.
    #[error("no PASID entry for requests without PASID")]
    NoPasidEntry,
    /// Requests have supervisor privilege, which the PASID entry does not allow: they fault.
    #[error("supervisors' requests are not allowed")]
    Supervisor,
    /// The second stage does not map the first-stage table at this address: requests fault.
    #[error("the first-stage table at {0:#x} is not mapped by the second stage")]
    TableUnmapped(IoAddress),
}

impl Obstacle {
    /// Whether hardware may have read what could not be read here.
    pub const fn is_unknown(self) -> bool {
        matches!(self, Self::Unreadable(_))
    }
}
