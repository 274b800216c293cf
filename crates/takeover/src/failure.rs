//! Errors: why a unit was not taken over, and which tables it then uses; why a device was not attached; why memory
//! was not mapped or unmapped.

use core::error::Error;
use core::fmt;

use machine::{IoAddress, PhysicalAddress, Range, SourceId};
use vtd::control::TableMode;

use crate::patience::Patience;
use crate::unit::{Unit, UnitError};
use machine::growth::OutOfMemory;

/// Which tables a unit uses after a takeover failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InForce {
    /// The old kernel's: nothing changed that devices can notice.
    Old,
    /// The copies, which translate alike; but the unit's caches may still hold what was fenced.
    New,
    /// The unit did not say.
    Unknown,
}

/// Why a unit was not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Translation is off: there is nothing to inherit.
    #[error("translation is off")]
    TranslationOff,
    /// The tables are of a mode that Holdover does not support.
    #[error("translation table mode {} is not handled", .0.0)]
    Mode(TableMode),
    /// The root table is not in the machine's memory.
    #[error("the root table at {0:#x} is not in memory")]
    RootUnreadable(PhysicalAddress),
    /// The root table is in the capture kernel's memory.
    #[error("the root table at {0:#x} is in the capture kernel's memory")]
    RootInOwnMemory(PhysicalAddress),
    /// There are not enough frames side by side for the device table.
    #[error("no {pages} frames side by side are left for the device table")]
    DeviceTable {
        /// How many it takes.
        pages: usize,
    },
    /// Another unit uses the same device table, which was changed where it is, and has tables that this unit does not know, or heeds others.
    #[error("its device table was changed for another unit, which knows or heeds other paging modes")]
    OtherModes,
    /// There are not enough frames for root and context tables, or for the queue.
    #[error("no frames are left")]
    OutOfFrames,
    /// There is not enough memory for the lists.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// A register did not answer, or did not hold what was written.
    #[error(transparent)]
    Unit(#[from] UnitError),
}

/// Why a unit was not taken over, and which tables it uses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({})", self.in_force_words())]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// Which tables the unit uses now.
    pub in_force: InForce,
}

impl Failure {
    fn in_force_words(&self) -> &'static str {
        match self.in_force {
            InForce::Old => "the old tables are in force",
            InForce::New => "the new tables are in force",
            InForce::Unknown => "which tables are in force is not known",
        }
    }
}

/// A unit that was not taken over, and why.
pub struct Refusal<'c, R, C> {
    /// Why, and which tables the unit uses now.
    pub failure: Failure,
    /// What is left of [`Limits::patience`](crate::Limits::patience), for the next unit.
    pub patience: Patience,
    /// The unit, as it was given.
    pub unit: Unit<'c, R, C>,
}

impl<R, C> fmt::Debug for Refusal<'_, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.failure, f)
    }
}

impl<R, C> fmt::Display for Refusal<'_, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.failure, f)
    }
}

impl<R, C> Error for Refusal<'_, R, C> {}

impl<R, C> From<Refusal<'_, R, C>> for Failure {
    fn from(refusal: Refusal<'_, R, C>) -> Self {
        refusal.failure
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self { reason, in_force: InForce::Old }
    }
}

impl From<OutOfMemory> for Failure {
    fn from(reason: OutOfMemory) -> Self {
        Reason::from(reason).into()
    }
}

/// Why a device cannot be given to a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// No frame is left for a table.
    #[error("no frames are left")]
    OutOfFrames,
    /// There is no memory for a list.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The takeover did not look at this device's context, for want of frames or of domain-ids, or because of
    /// [`Limits::contexts`](crate::Limits::contexts). Nobody knows which I/O addresses its work still uses.
    #[error("the I/O addresses of {0} are not known: its context was not looked at")]
    AddressesUnknown(SourceId),
    /// RID_PASID is beyond the device's PASID directory, and within it every PASID is in use.
    #[error("the device's PASID directory has no place for requests without PASID")]
    NoPlace,
    /// The old kernel allowed the device only to read, or only to write, and tables cannot restrict it in place of its entry: it has
    /// guest tables, or an alias with other rights.
    #[error("the old kernel let {0} only read, or only write, and its tables cannot say so")]
    Restricted(SourceId),
    /// The unit's device table is too small for the device.
    #[error("the device table has no entry for {0}")]
    NoEntry(SourceId),
    /// Every domain-id is in use.
    #[error("no domain-id is left")]
    NoDomainId,
    /// The unit supports no known width of tables.
    #[error("the unit supports no known width of tables")]
    NoWidth,
    /// The unit did not answer.
    #[error(transparent)]
    Unit(#[from] UnitError),
}

/// Why memory cannot be mapped for a device, or unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The physical range is empty, not made of whole pages, or beyond what entries can hold.
    #[error("{0} is not a range of pages")]
    NotPages(Range<PhysicalAddress>),
    /// No I/O addresses are free in the domain.
    #[error("no I/O addresses are free")]
    NoAddress,
    /// No frame is left for a table.
    #[error("no frames are left")]
    OutOfFrames,
    /// The range was not mapped by [`Takeover::map`](crate::Takeover::map).
    #[error("{0} was not mapped")]
    NotMapped(Range<IoAddress>),
    /// The unit did not answer.
    #[error(transparent)]
    Unit(#[from] UnitError),
}
