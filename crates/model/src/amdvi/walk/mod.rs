//! Walks the tables in memory without any cache: this gives the cold answer.
//!
//! A walk has three parts, as the caches have: from a source-id to its device table entry (`device`), from there to the
//! `Context` of its requests, with a PASID or without, and from there through page tables to a page (`host`, `guest`, or one
//! nested in the other).
//!
//! Page tables are read here by the specification, with code and numbers of their own: what the takeover reads by the crates
//! `amdvi` and `paging` is compared with that.

mod device;
mod guest;
mod host;
mod reach;

use crate::answer::{Access, Answer, Requester};
use crate::memory::Memory;
use crate::reached::Rights;
use crate::tables::Identity;
use crate::trail::Table;
pub use amdvi::HYPERTRANSPORT;
use amdvi::control::Control;
use amdvi::device_table::DeviceTableEntry;
use amdvi::event::EventCode;
use amdvi::feature::{ExtendedFeature, ExtendedFeature2};
use machine::{IoAddress, PAGE_SHIFT, PhysicalAddress, Range};
use std::collections::BTreeSet;

pub(crate) use device::{Bases, ExcludedFor, Reports};
pub(crate) use guest::{Guest, is_canonical};
pub(crate) use host::Host;

/// The trail of a walk; an obstacle is what the unit says of it.
pub(crate) type Trail = crate::trail::Trail<Abort>;
/// Bits that a walk has to set.
type Mark = crate::trail::Mark<Abort>;

/// The features of a unit, as far as a walk depends on them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traits {
    /// EFR.
    pub feature: ExtendedFeature,
    /// EFR2.
    pub feature2: ExtendedFeature2,
    /// Physical address bits of the machine.
    pub host_address_bits: u32,
}

/// Why a unit blocked a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// The device table entry has reserved bits or values.
    IllegalEntry,
    /// The device table entry cannot be read.
    EntryUnreadable,
    /// The device table entry says nothing of translation (TV = 0).
    NoTranslation,
    /// Nothing is mapped there.
    NotPresent,
    /// What is mapped there allows less.
    NotAllowed,
    /// A table entry has reserved bits.
    Reserved,
    /// A table entry has an impossible level or size, or bits of the address that skipped levels would translate are set.
    Malformed,
    /// The address is wider than the tables translate.
    BeyondWidth,
    /// A table entry cannot be read.
    TableUnreadable,
    /// The device must not make such requests: with a PASID, or translated by itself.
    InvalidRequest,
    /// The address means no memory to HyperTransport.
    Special,
}

impl Abort {
    /// The event that reports it (2.5).
    pub(crate) fn code(self) -> EventCode {
        match self {
            Self::IllegalEntry => EventCode::ILLEGAL_DEV_TABLE_ENTRY,
            Self::EntryUnreadable => EventCode::DEV_TAB_HARDWARE_ERROR,
            Self::TableUnreadable => EventCode::PAGE_TAB_HARDWARE_ERROR,
            Self::InvalidRequest | Self::Special => EventCode::INVALID_DEVICE_REQUEST,
            _ => EventCode::IO_PAGE_FAULT,
        }
    }
}

/// What the tables say of a requester.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    /// The domain-id, which tags all cached translations of the device.
    pub(crate) domain: u16,
    /// Whether the device may have a device-TLB.
    pub(crate) device_tlb: bool,
    /// What the device table entry allows (IR, IW). It is asked at each request: cached translations do not know it.
    pub(crate) rights: Rights,
    pub(crate) translation: Translation,
}

/// How a requester's addresses are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Translation {
    /// They are physical addresses.
    Untranslated,
    /// Through host tables.
    Host(Host),
    /// Through guest tables, all of whose addresses host tables translate if there are any.
    Guest(Guest, Option<Host>),
}

impl Context {
    /// The answer to an access that passes untranslated, as far as it is allowed.
    pub(crate) fn pass(&self, access: Access) -> Result<Answer, Abort> {
        if self.rights.allow(access.direction) {
            Ok(Answer::untranslated(access))
        } else {
            Err(Abort::NotAllowed)
        }
    }
}

/// A page of some size at the end of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Page {
    pub(crate) iova: IoAddress,
    pub(crate) address: PhysicalAddress,
    /// Binary logarithm of its size.
    pub(crate) shift: u32,
    pub(crate) rights: Rights,
    /// Whether the tables already have all bits that a write must set.
    pub(crate) noted: bool,
}

impl Page {
    /// The page around two addresses, of `1 << shift` bytes.
    fn around(iova: IoAddress, address: PhysicalAddress, shift: u32, rights: Rights) -> Self {
        let size = 1 << shift;
        Self { iova: iova.align_down(size), address: address.align_down(size), shift, rights, noted: true }
    }

    /// All of memory, by physical address.
    pub(crate) fn identity(address: IoAddress) -> Self {
        Self::around(address, PhysicalAddress::new(address.get()), 52, Rights::ALL)
    }

    /// The same page, allowing no more than this.
    pub(crate) fn restricted(self, rights: Rights) -> Self {
        Self { rights: self.rights.and(rights), ..self }
    }

    fn noted(self, noted: bool) -> Self {
        Self { noted, ..self }
    }

    /// The memory address of an I/O address in this page.
    fn place(&self, iova: IoAddress) -> PhysicalAddress {
        PhysicalAddress::new(self.address.get() | iova.get() & ((1 << self.shift) - 1))
    }

    pub(crate) fn contains(&self, iova: IoAddress) -> bool {
        iova.align_down(1 << self.shift) == self.iova
    }

    /// The answer to an access to this page.
    pub(crate) fn answer(&self, access: Access) -> Result<Answer, Abort> {
        if self.rights.allow(access.direction) {
            Ok(Answer::Memory(self.place(access.iova)))
        } else {
            Err(Abort::NotAllowed)
        }
    }
}

/// A unit's view of the tables, without caches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walker<'a> {
    pub(crate) memory: &'a Memory,
    pub(crate) traits: &'a Traits,
    pub(crate) bases: Bases,
    /// The devices behind the unit: those that no entry names pass untranslated.
    pub(crate) devices: &'a BTreeSet<u16>,
}

impl Walker<'_> {
    fn control(&self) -> Control {
        self.bases.control
    }

    /// The cold answer to an access.
    pub(crate) fn answer(&self, access: Access) -> Answer {
        self.translate(access).unwrap_or_else(|abort| Answer::Blocked(abort.into()))
    }

    fn translate(&self, access: Access) -> Result<Answer, Abort> {
        if !self.control().enabled() {
            return Ok(Answer::untranslated(access));
        }
        let entry = self.entry(access.source)?;
        if let Some(answer) = self.set_apart(entry, access) {
            return answer;
        }
        let context = self.context_of(entry, access.pasid)?;
        let mut trail = Trail::default();
        let answer = match self.page(context.translation, access.iova, &mut trail) {
            None => context.pass(access),
            Some(page) => page?.restricted(context.rights).answer(access),
        };
        trail.check(access.direction)?;
        answer
    }

    /// The answer to an access that no page table is asked about: interrupt messages, addresses that mean no memory, and the
    /// exclusion range. Requests with a PASID are always translated.
    pub(crate) fn set_apart(&self, entry: DeviceTableEntry, access: Access) -> Option<Result<Answer, Abort>> {
        match access {
            _ if access.pasid.is_some() => None,
            _ if machine::INTERRUPT_WINDOW.contains(access.iova) => Some(self.message(entry, access.iova)),
            _ if self.is_special(access.iova) => Some(Err(Abort::Special)),
            _ if self.is_excluded(entry, access.iova) => Some(Ok(Answer::untranslated(access))),
            _ => None,
        }
    }

    /// What a device that asks for a translation is told of a page (ATS): all of it, or one small page where some of it is
    /// [set apart](Self::set_apart), so that the device gets no more than what its other requests get.
    pub(crate) fn told(&self, entry: DeviceTableEntry, access: Access, page: Page) -> Page {
        let reaches = |range: Range<IoAddress>| {
            Range::sized(page.iova, 1 << page.shift).is_none_or(|page| page.overlaps(range))
        };
        if access.pasid.is_some() || !self.ranges_set_apart(entry).into_iter().any(reaches) {
            return page;
        }
        Page {
            noted: page.noted,
            ..Page::around(access.iova, page.place(access.iova), PAGE_SHIFT, page.rights)
        }
    }

    fn ranges_set_apart(&self, entry: DeviceTableEntry) -> [Range<IoAddress>; 3] {
        let Range { start, end } = self.bases.exclusion;
        let excluded = Range::from(start.get()..end.get());
        [
            machine::INTERRUPT_WINDOW,
            if self.traits.feature2.ht_range_ignore() { Range::default() } else { HYPERTRANSPORT },
            if self.is_excluded(entry, excluded.start) { excluded } else { Range::default() },
        ]
    }

    fn is_special(&self, iova: IoAddress) -> bool {
        !self.traits.feature2.ht_range_ignore() && HYPERTRANSPORT.contains(iova)
    }

    /// The page that an address lies in; `None` if it is not translated.
    fn page(
        &self,
        translation: Translation,
        iova: IoAddress,
        trail: &mut Trail,
    ) -> Option<Result<Page, Abort>> {
        match translation {
            Translation::Untranslated => None,
            Translation::Host(host) => Some(self.host_page(host, host.root, iova, trail)),
            Translation::Guest(guest, host) => {
                let mut through = self.through(host);
                Some(
                    self.guest_root(guest, &mut through)
                        .and_then(|root| self.guest_page(guest, root, iova, &mut through, trail)),
                )
            }
        }
    }

    /// What the tables say of a requester.
    pub(crate) fn context(&self, requester: Requester) -> Result<Context, Abort> {
        self.context_of(self.entry(requester.source)?, requester.pasid)
    }

    /// The domain-id and the tables of a requester.
    pub(crate) fn identity(&self, requester: Requester) -> Option<Identity> {
        let context = self.context(requester).ok()?;
        let place = |table: Table| (table.address, table.level);
        let roots = match context.translation {
            Translation::Untranslated => [None, None],
            Translation::Host(host) => [None, Some(place(host.root))],
            Translation::Guest(guest, host) => {
                let mut through = self.through(host);
                let own = self.guest_root(guest, &mut through).ok()?;
                [Some(place(own)), host.map(|host| place(host.root))]
            }
        };
        Some((context.domain, roots, context.rights))
    }
}
