//! Accesses that devices make, and the answers that the hardware gives.

use crate::amdvi::walk::Abort;
use machine::{IoAddress, PhysicalAddress};
use std::fmt;
use vtd::fault::FaultReason;

/// Whether a device reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The device reads memory.
    Read,
    /// The device writes memory.
    Write,
}

/// One access of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Access {
    /// The requester's source-id.
    pub source: u16,
    /// The PASID that the request carries, if any: the process that it is for.
    pub pasid: Option<u32>,
    /// The I/O virtual address.
    pub iova: IoAddress,
    /// Read or write.
    pub direction: Direction,
}

/// A requester: a function's requests that carry a PASID, or those that carry none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requester {
    /// The source-id.
    pub source: u16,
    /// The PASID, if the requests carry one.
    pub pasid: Option<u32>,
}

impl Requester {
    /// Makes an access of this requester.
    pub fn access(self, iova: impl Into<IoAddress>, direction: Direction) -> Access {
        Access { source: self.source, pasid: self.pasid, iova: iova.into(), direction }
    }
}

impl Access {
    /// The requester of this access.
    pub fn requester(&self) -> Requester {
        Requester { source: self.source, pasid: self.pasid }
    }
}

impl Answer {
    /// The answer to an access whose address no table translates.
    pub(crate) fn untranslated(access: Access) -> Self {
        Self::Memory(PhysicalAddress::new(access.iova.get()))
    }
}

/// What happened to an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It reaches this physical address.
    Memory(PhysicalAddress),
    /// It was an interrupt message to a processor, not an access to memory (VT-d, 3.14).
    Interrupt,
    /// The same, and this entry of an interrupt table says what becomes of it (AMD-Vi, 2.2.5).
    Remapped(u64),
    /// It was blocked.
    Blocked(Reason),
}

/// Why an access was blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A unit of VT-d blocked it.
    Vtd(FaultReason),
    /// A unit of AMD-Vi blocked it.
    AmdVi(Abort),
}

impl From<FaultReason> for Reason {
    fn from(reason: FaultReason) -> Self {
        Self::Vtd(reason)
    }
}

impl From<Abort> for Reason {
    fn from(abort: Abort) -> Self {
        Self::AmdVi(abort)
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "reads",
            Self::Write => "writes",
        })
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Bdf(self.source))?;
        if let Some(pasid) = self.pasid {
            write!(f, " for PASID {pasid:#x}")?;
        }
        write!(f, " {} {:#x}", self.direction, self.iova)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(address) => write!(f, "{address:#x}"),
            Self::Interrupt => f.write_str("an interrupt"),
            Self::Remapped(entry) => write!(f, "an interrupt by {entry:#x}"),
            Self::Blocked(reason) => write!(f, "blocked ({reason})"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vtd(reason) => write!(f, "reason {:#x}", reason.0),
            Self::AmdVi(abort) => write!(f, "{abort:?}"),
        }
    }
}

/// A source-id as people write it: bus, device, function.
pub(crate) struct Bdf(pub(crate) u16);

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.0 >> 8, self.0 >> 3 & 0x1F, self.0 & 7)
    }
}
