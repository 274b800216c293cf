//! Obstacles: why requests fault, or why it is not known where they lead.

use machine::{IoAddress, PhysicalAddress};
use vtd::control::TableMode;

/// Why it is not told where requests lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The table at this physical address could not be read: hardware may have read it.
    #[error("the table at {0:#x} cannot be read")]
    Unreadable(PhysicalAddress),
    /// The tables are of a mode that blocks everything, or of none that is defined.
    #[error("translation table mode {} lets nothing pass", .0.0)]
    Mode(TableMode),
    /// Bits that must be zero are not: requests fault.
    #[error("reserved bits are set")]
    ReservedBits,
    /// A translation type that the unit does not have, or that is not defined: requests fault.
    #[error("translation type {0} is not supported")]
    Type(u8),
    /// A width or number of levels that the unit does not have: requests fault.
    #[error("address width {0} is not supported")]
    Width(u8),
    /// There is no entry for requests without PASID: they fault.
    #[error("no PASID entry for requests without PASID")]
    NoPasidEntry,
    /// Requests are made as a supervisor, which the PASID entry does not allow: they fault.
    #[error("supervisors' requests are not allowed")]
    Supervisor,
    /// The second stage does not map the first-stage table at this address: requests fault.
    #[error("the first-stage table at {0:#x} is not mapped by the second stage")]
    TableUnmapped(IoAddress),
}

impl Obstacle {
    /// Whether hardware may have known more than could be read.
    pub const fn is_unknown(self) -> bool {
        matches!(self, Self::Unreadable(_))
    }
}
