//! What the tables in memory say, asked without any cache: the cold answer.
//!
//! A walk has three parts, as the caches have: from a source-id to its [`Device`], from there to the [`Context`] of its
//! requests, with a PASID or without, and from there through the paging structures to a page ([`second_stage`]). The
//! tables' mode decides how the first two look ([`legacy`], [`scalable`]).

mod legacy;
mod reach;
mod scalable;
mod second_stage;

use crate::answer::{Access, Answer, Direction, Requester};
use crate::memory::Memory;
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::{RootTableAddress, TableMode};
use vtd::fault::FaultReason;
use vtd::paging::Level;
use vtd::second_stage::ReservedBits;

pub use reach::Reached;
pub(crate) use scalable::Directory;

/// What one kind of unit can do, as far as a walk depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traits {
    /// CAP.
    pub capability: Capability,
    /// ECAP.
    pub extended: ExtendedCapability,
    /// Physical address bits of the machine.
    pub host_address_bits: u32,
}

impl Traits {
    /// Bits that must be zero in second-stage entries.
    pub(crate) fn reserved(&self) -> ReservedBits {
        ReservedBits::new(self.host_address_bits, self.capability)
    }
}

/// What the context table says of a function: what the context cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// Legacy mode: all there is to know.
    Legacy(Context),
    /// Scalable mode: where its PASIDs are found.
    Scalable(Directory),
}

/// What the tables say of a requester: in scalable mode, what the PASID cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    /// The domain-id, which tags all that is cached of its translations.
    pub(crate) domain: u16,
    /// Whether faults go unrecorded.
    pub(crate) fault_disabled: bool,
    pub(crate) translation: Translation,
}

/// How a requester's addresses are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Translation {
    /// They are physical.
    PassThrough,
    /// Through second-stage tables.
    SecondStage(Table),
}

/// A table that a walk has come to, and what all entries on the way to it allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Table {
    pub(crate) address: u64,
    pub(crate) level: Level,
    pub(crate) rights: Rights,
}

/// What a translation allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rights {
    /// Reads pass.
    pub read: bool,
    /// Writes pass.
    pub write: bool,
}

impl Rights {
    pub(crate) const ALL: Self = Self { read: true, write: true };

    fn and(self, other: Self) -> Self {
        Self { read: self.read && other.read, write: self.write && other.write }
    }

    /// Whether anything passes.
    pub(crate) fn any(self) -> bool {
        self.read || self.write
    }

    /// Passes, or the reason why not (LGN.2, LGN.3).
    pub(crate) fn check(self, direction: Direction) -> Result<(), FaultReason> {
        match direction {
            Direction::Read if !self.read => Err(FaultReason::READ),
            Direction::Write if !self.write => Err(FaultReason::WRITE),
            _ => Ok(()),
        }
    }
}

/// A page of some size that a walk ended at: what the IOTLB holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) iova: u64,
    pub(crate) address: u64,
    pub(crate) level: Level,
    pub(crate) rights: Rights,
}

impl Page {
    pub(crate) fn contains(&self, iova: u64) -> bool {
        iova & !(self.level.span() - 1) == self.iova
    }

    /// Where an access to this page ends up.
    pub(crate) fn answer(&self, access: Access) -> Result<Answer, FaultReason> {
        self.rights.check(access.direction)?;
        let address = self.address | access.iova & (self.level.span() - 1);
        if is_interrupt(address) { Err(INTERRUPT_OUTPUT) } else { Ok(Answer::Memory(address)) }
    }
}

/// A request carried a PASID although the tables are of legacy mode (7.1.3).
const PASID_IN_LEGACY_MODE: FaultReason = FaultReason(0x31);

/// LGN.4: a page table led to the interrupt window (7.1.3).
const INTERRUPT_OUTPUT: FaultReason = FaultReason(0x0E);

/// Whether requests to `address` are messages to processors (3.14).
pub(crate) fn is_interrupt(address: u64) -> bool {
    let (first, last) = vtd::INTERRUPT_WINDOW;
    (first..=last).contains(&address)
}

/// A unit's view of the tables, all caches aside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walker<'a> {
    pub(crate) memory: &'a Memory,
    pub(crate) traits: &'a Traits,
    pub(crate) root: RootTableAddress,
}

impl Walker<'_> {
    /// The cold answer to an access.
    pub(crate) fn answer(&self, access: Access) -> Answer {
        self.translate(access).unwrap_or_else(Answer::Blocked)
    }

    fn translate(&self, access: Access) -> Result<Answer, FaultReason> {
        if is_interrupt(access.iova) {
            return Ok(Answer::Interrupt);
        }
        let context = self.context(access.requester())?;
        self.check_width(context.translation, access.iova)?;
        match context.translation {
            Translation::PassThrough => Ok(Answer::Memory(access.iova)),
            Translation::SecondStage(table) => self.second_stage(table, access.iova, |_| ())?.answer(access),
        }
    }

    /// What the tables say of a requester.
    pub(crate) fn context(&self, requester: Requester) -> Result<Context, FaultReason> {
        self.context_of(self.device(requester.source)?, requester.pasid)
    }

    /// What the root and context tables say of a function.
    pub(crate) fn device(&self, source: u16) -> Result<Device, FaultReason> {
        match self.root.mode() {
            TableMode::LEGACY => self.legacy_context(source).map(Device::Legacy),
            TableMode::SCALABLE => self.directory(source).map(Device::Scalable),
            _ => Err(FaultReason::ROOT_NOT_PRESENT),
        }
    }

    /// What is said of a function's requests with this PASID or without one.
    pub(crate) fn context_of(&self, device: Device, pasid: Option<u32>) -> Result<Context, FaultReason> {
        match (device, pasid) {
            (Device::Legacy(context), None) => Ok(context),
            (Device::Legacy(_), Some(_)) => Err(PASID_IN_LEGACY_MODE),
            (Device::Scalable(directory), pasid) => self.pasid_context(directory, pasid),
        }
    }

    /// Refuses addresses beyond the width of the tables, the unit, or in pass-through the machine (LGN.1).
    pub(crate) fn check_width(&self, translation: Translation, iova: u64) -> Result<(), FaultReason> {
        let bits = match translation {
            Translation::PassThrough => self.traits.host_address_bits,
            Translation::SecondStage(table) => table.level.width(),
        };
        let bits = bits.min(self.traits.capability.guest_address_bits());
        if iova.checked_shr(bits).unwrap_or(0) == 0 { Ok(()) } else { Err(FaultReason::ADDRESS_BEYOND_WIDTH) }
    }
}
