//! Parts of the descriptions of machines of either architecture.

use machine::{IoAddress, Level, Permission, PhysicalAddress};

/// A mapped page of some size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// I/O virtual address, aligned to the page.
    pub iova: IoAddress,
    /// Physical address, aligned to the page; a guest physical address in a nested domain.
    pub memory: PhysicalAddress,
    /// The page's size, as the level of its leaf.
    pub level: Level,
    /// What it allows.
    pub permission: Permission,
}

/// How a device with a device-TLB answers an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceTlb {
    /// It invalidates its translations and confirms.
    Answers,
    /// It keeps its translations; the unit waits for a while and gives up (ITE).
    Silent,
    /// It keeps its translations and gives a malformed answer (ICE); then the unit gives up.
    Garbles,
    /// It keeps its translations, and the unit waits: one of VT-d for ever, one of AMD-Vi as long as it is told to (InvTimeOut).
    Stalls,
}

/// A word of old memory that changes while the capture kernel reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meddling {
    /// It happens just before this read of old memory, counted from one.
    pub before_read: u64,
    /// The word's address.
    pub address: PhysicalAddress,
    /// Its new value.
    pub value: u64,
}
