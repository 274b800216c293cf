//! Walks the tables in memory without any cache: this gives the cold answer.
//!
//! A walk has three parts, as the caches have: from a source-id to its `Device`, from there to the `Context` of its
//! requests, with a PASID or without, and from there through the paging structures to a page (`first_stage`,
//! `second_stage`, or one nested in the other). The tables' mode decides how the first two parts look (`legacy`,
//! `scalable`).
//!
//! Hardware sets accessed and dirty bits in entries. A walk lists the bits to set in its `Trail`; a cold answer only
//! checks whether hardware could set them.

mod first_stage;
mod legacy;
mod reach;
mod scalable;
mod second_stage;

use crate::answer::{Access, Answer, Direction, Requester};
use crate::memory::Memory;
use crate::tables::Identity;
use crate::trail::Table;
use machine::{IoAddress, Level, PhysicalAddress};
use paging::{Architecture, Format, Rules};
use vtd::capability::{Capability, ExtendedCapability};
use vtd::control::{RootTableAddress, TableMode};
use vtd::fault::FaultReason;

pub use crate::reached::{Reached, Rights};
pub(crate) use first_stage::{FirstStage, Privilege};
pub(crate) use scalable::Directory;
pub(crate) use second_stage::SecondStage;

/// The trail of a walk; an obstacle is what the unit says of it.
pub(crate) type Trail = crate::trail::Trail<FaultReason>;
/// Bits that a walk has to set.
type Mark = crate::trail::Mark<FaultReason>;

/// The capabilities of a unit, as far as a walk depends on them.
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
    /// What the unit accepts in second-stage entries.
    pub(crate) fn rules(&self) -> Rules {
        Rules::new(Format::SecondStage, self.host_address_bits, Architecture::Vtd(self.capability))
    }
}

/// What the context table says of a function: an entry of the context cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// Legacy mode: the whole context.
    Legacy(Context),
    /// Scalable mode: the PASID directory.
    Scalable(Directory),
}

/// What the tables say of a requester: in scalable mode, an entry of the PASID cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    /// The domain-id, which tags all cached translations of the requester.
    pub(crate) domain: u16,
    /// The PASID of the translation, which tags cached translations of first-stage tables.
    pub(crate) pasid: u32,
    /// Whether faults are not recorded (FPD).
    pub(crate) fault_disabled: bool,
    /// Whether the device may have a device-TLB.
    pub(crate) device_tlb: bool,
    pub(crate) translation: Translation,
}

/// How a requester's addresses are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Translation {
    /// They are physical addresses.
    PassThrough,
    /// Through second-stage tables.
    SecondStage(SecondStage),
    /// Through first-stage tables.
    FirstStage(FirstStage),
    /// Through first-stage tables, all of whose addresses second-stage tables translate.
    Nested(FirstStage, SecondStage),
}

impl Translation {
    /// The tables at which it starts, first and second stage.
    pub(crate) fn roots(self) -> [Option<Table>; 2] {
        match self {
            Self::PassThrough => [None, None],
            Self::SecondStage(second) => [None, Some(second.root)],
            Self::FirstStage(first) => [Some(first.root), None],
            Self::Nested(first, second) => [Some(first.root), Some(second.root)],
        }
    }
}

/// Checks an access against rights; the error is the fault reason (LGN.2, LGN.3).
fn check(rights: Rights, direction: Direction) -> Result<(), FaultReason> {
    match direction {
        _ if rights.allow(direction) => Ok(()),
        Direction::Read => Err(FaultReason::READ),
        Direction::Write => Err(FaultReason::WRITE),
    }
}

/// A page of some size at the end of a walk: an IOTLB entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) iova: IoAddress,
    pub(crate) address: PhysicalAddress,
    pub(crate) level: Level,
    pub(crate) rights: Rights,
    /// Whether the tables already have all bits that a write must set.
    pub(crate) noted: bool,
}

impl Page {
    /// All of memory, by physical address.
    pub(crate) fn identity(address: IoAddress) -> Self {
        let level = Level::FIVE;
        let iova = address.align_down(level.span());
        Self { iova, address: PhysicalAddress::new(iova.get()), level, rights: Rights::ALL, noted: true }
    }

    /// The same page with both addresses rounded down to its start.
    fn aligned(self) -> Self {
        let size = self.level.span();
        Self { iova: self.iova.align_down(size), address: self.address.align_down(size), ..self }
    }

    /// The memory address of an I/O address in this page.
    fn place(&self, iova: IoAddress) -> PhysicalAddress {
        PhysicalAddress::new(self.address.get() | iova.get() & (self.level.span() - 1))
    }

    pub(crate) fn contains(&self, iova: IoAddress) -> bool {
        iova.align_down(self.level.span()) == self.iova
    }

    /// The answer to an access to this page.
    pub(crate) fn answer(&self, access: Access) -> Result<Answer, FaultReason> {
        check(self.rights, access.direction)?;
        let address = self.place(access.iova);
        if is_interrupt(address.get()) { Err(INTERRUPT_OUTPUT) } else { Ok(Answer::Memory(address)) }
    }
}

/// A request carried a PASID although the tables are of legacy mode (7.1.3).
const PASID_IN_LEGACY_MODE: FaultReason = FaultReason(0x31);

/// LGN.4: a page table led to the interrupt window (7.1.3).
const INTERRUPT_OUTPUT: FaultReason = FaultReason(0x0E);

/// Whether an access is an interrupt message (3.14). Requests with PASID are always translated.
pub(crate) fn is_message(access: Access) -> bool {
    access.pasid.is_none() && is_interrupt(access.iova.get())
}

/// Whether an address is in the interrupt window.
pub(crate) fn is_interrupt(address: u64) -> bool {
    machine::INTERRUPT_WINDOW.contains(address.into())
}

/// A unit's view of the tables, without caches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walker<'a> {
    pub(crate) memory: &'a Memory,
    pub(crate) traits: &'a Traits,
    pub(crate) root: RootTableAddress,
}

impl Walker<'_> {
    /// The cold answer to an access.
    pub(crate) fn answer(&self, access: Access) -> Answer {
        self.translate(access).unwrap_or_else(|reason| Answer::Blocked(reason.into()))
    }

    fn translate(&self, access: Access) -> Result<Answer, FaultReason> {
        if is_message(access) {
            return Ok(Answer::Interrupt);
        }
        let context = self.context(access.requester())?;
        self.check_width(context.translation, access.iova)?;
        let mut trail = Trail::default();
        let page = self.page(context.translation, access.iova, &mut trail);
        let Some(page) = page else { return Ok(Answer::untranslated(access)) };
        let answer = page?.answer(access)?;
        trail.check(access.direction)?;
        Ok(answer)
    }

    /// The page that an address lies in; `None` in pass-through.
    fn page(
        &self,
        translation: Translation,
        iova: IoAddress,
        trail: &mut Trail,
    ) -> Option<Result<Page, FaultReason>> {
        match translation {
            Translation::PassThrough => None,
            Translation::SecondStage(second) => Some(self.second_stage(second, second.root, iova, trail)),
            Translation::FirstStage(first) => Some(self.first_stage(
                first,
                first.root,
                iova,
                &mut |address, _| Ok(Page::identity(address)),
                trail,
            )),
            Translation::Nested(first, second) => {
                let mut host = |address: IoAddress, trail: &mut Trail| {
                    self.check_guest(second, address)?;
                    self.second_stage(second, second.root, address, trail)
                };
                Some(self.first_stage(first, first.root, iova, &mut host, trail))
            }
        }
    }

    /// What the tables say of a requester.
    pub(crate) fn context(&self, requester: Requester) -> Result<Context, FaultReason> {
        self.context_of(self.device(requester.source)?, requester.pasid)
    }

    /// The domain-id and the tables of a requester.
    pub(crate) fn identity(&self, requester: Requester) -> Option<Identity> {
        let context = self.context(requester).ok()?;
        let place = |table: Table| (table.address, table.level);
        Some((context.domain, context.translation.roots().map(|root| root.map(place)), Rights::ALL))
    }

    /// What the root and context tables say of a function.
    pub(crate) fn device(&self, source: u16) -> Result<Device, FaultReason> {
        match self.root.mode() {
            TableMode::LEGACY => self.legacy_context(source).map(Device::Legacy),
            TableMode::SCALABLE => self.directory(source).map(Device::Scalable),
            _ => Err(FaultReason::ROOT_NOT_PRESENT),
        }
    }

    /// The context of a function's requests with this PASID, or without one.
    pub(crate) fn context_of(&self, device: Device, pasid: Option<u32>) -> Result<Context, FaultReason> {
        match (device, pasid) {
            (Device::Legacy(context), None) => Ok(context),
            (Device::Legacy(_), Some(_)) => Err(PASID_IN_LEGACY_MODE),
            (Device::Scalable(directory), pasid) => self.pasid_context(directory, pasid),
        }
    }

    /// Refuses addresses beyond the width of the tables, the unit, or in pass-through the machine (LGN.1), and in the
    /// first stage addresses that are not canonical (SGN.1).
    pub(crate) fn check_width(&self, translation: Translation, iova: IoAddress) -> Result<(), FaultReason> {
        let bits = match translation {
            Translation::PassThrough => self.traits.host_address_bits,
            Translation::SecondStage(second) => second.root.level.width(),
            Translation::FirstStage(first) | Translation::Nested(first, _) => {
                return first.check_canonical(iova);
            }
        };
        self.check_bits(bits, iova, FaultReason::ADDRESS_BEYOND_WIDTH)
    }

    /// Refuses a guest's physical addresses that its second stage does not translate (SFS.5).
    pub(crate) fn check_guest(&self, second: SecondStage, address: IoAddress) -> Result<(), FaultReason> {
        self.check_bits(second.root.level.width(), address, first_stage::BEYOND_WIDTH)
    }

    fn check_bits(&self, bits: u32, address: IoAddress, reason: FaultReason) -> Result<(), FaultReason> {
        let bits = bits.min(self.traits.capability.guest_address_bits());
        if address.get().checked_shr(bits).unwrap_or(0) == 0 { Ok(()) } else { Err(reason) }
    }
}
