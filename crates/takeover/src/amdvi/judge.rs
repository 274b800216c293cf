//! Decides whether hardware accepts an entry, and which domain the entry puts its device into (2.2.2.1).

use amdvi::device_table::{Cr3Entry, DeviceTableEntry, PagingMode};
use amdvi::feature::ExtendedFeature;
use machine::{Level, Registers};
use paging::{Architecture, Format};

use crate::amdvi::entry::{Entry, Says, says};
use crate::amdvi::unit::Unit;
use crate::entry;
use crate::found::{Demand, Layout, OldDomain, Translation};
use crate::hazard::Danger;
use crate::ids::DomainIds;

/// Bits of an address that host tables of six levels translate: all.
const ADDRESS_BITS: u32 = 64;

/// How many domain-ids a unit has: the field has 16 bits.
pub(crate) const DOMAINS: u32 = 1 << 16;

/// Domain-ids for devices that passed untranslated.
///
/// Now they go through tables, and a unit may cache translations with the rights of the device that made the request. So
/// devices with different rights must not share a domain-id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passing {
    /// For devices in whose entries nothing is valid: they have all rights.
    pub(crate) not_valid: Option<u16>,
    /// For those that may do nothing themselves, only read, or only write. Those with all rights keep their domain-id.
    restricted: [Option<u16>; 3],
}

impl Passing {
    /// Takes ids that the old kernel did not use.
    pub(crate) fn new(ids: &mut DomainIds) -> Self {
        Self { not_valid: ids.take_unused(), restricted: [(); 3].map(|()| ids.take_unused()) }
    }

    fn id_for(self, entry: DeviceTableEntry) -> Option<u16> {
        match (entry.host.read(), entry.host.write()) {
            (true, true) => Some(entry.guest.domain()),
            (false, false) => self.restricted[0],
            (true, false) => self.restricted[1],
            (false, true) => self.restricted[2],
        }
    }
}

/// What matters for entries: the capabilities of a unit, and the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    feature: ExtendedFeature,
}

impl Abilities {
    pub(crate) fn of<R: Registers, C>(unit: &Unit<'_, R, C>) -> Self {
        Self { feature: unit.feature() }
    }

    /// What the unit's tables may look like.
    pub(crate) const ARCHITECTURE: Architecture = Architecture::AmdVi { address_bits: ADDRESS_BITS };

    /// The tables of a new domain: host tables of three levels.
    pub(crate) const fn own_layout(self) -> Option<Layout> {
        match self.feature.host_levels() {
            Some(_) => Some(Layout { format: Format::AmdV1, top: Level::THREE }),
            None => None,
        }
    }

    /// The tables that replace pass-through on a machine of `host_address_bits`: host tables that reach all memory, and have
    /// room above it.
    fn identity_layout(self, host_address_bits: u32) -> Result<Layout, Danger> {
        let most = self.feature.host_levels().ok_or(Danger::UnsupportedMode(PagingMode::NONE))?;
        let top = if host_address_bits < Level::FOUR.width() { Level::FOUR } else { Level::FIVE };
        Ok(Layout { format: Format::AmdV1, top: top.min(most) })
    }

    /// The domain of devices that passed untranslated because nothing in their entries was valid, or in place of one.
    pub(crate) fn passing(self, id: u16, host_address_bits: u32) -> Result<OldDomain, Danger> {
        Ok(domain(id, Translation::Identity, self.identity_layout(host_address_bits)?))
    }

    /// The domain that an entry puts its device into, if hardware accepts the entry.
    pub(crate) fn judge(
        self,
        entry: entry::Entry,
        passing: Passing,
        host_address_bits: u32,
    ) -> Result<OldDomain, Danger> {
        match entry {
            entry::Entry::AmdVi(Entry::Device(entry)) => self.judge_device(entry, passing, host_address_bits),
            entry::Entry::AmdVi(Entry::Guest { device, cr3 }) => self.judge_guest(device, cr3),
            entry::Entry::Vtd(_) => Err(Danger::ReservedBits),
        }
    }

    fn judge_device(
        self,
        entry: DeviceTableEntry,
        passing: Passing,
        host_address_bits: u32,
    ) -> Result<OldDomain, Danger> {
        let (mode, id) = (entry.host.mode(), entry.guest.domain());
        if says(entry) == Says::NotValid {
            return self.passing(passing.not_valid.ok_or(Danger::NoDomainId)?, host_address_bits);
        }
        if mode == PagingMode::NONE {
            let id = passing.id_for(entry).ok_or(Danger::NoDomainId)?;
            return self.passing(id, host_address_bits);
        }
        let top = mode.top().filter(|top| self.feature.host_levels().is_some_and(|most| *top <= most));
        let top = top.ok_or(Danger::UnsupportedMode(mode))?;
        Ok(domain(id, Translation::Tables(entry.table()), Layout { format: Format::AmdV1, top }))
    }

    /// The domain of the requests that go through guest tables alone.
    fn judge_guest(self, device: DeviceTableEntry, cr3: Cr3Entry) -> Result<OldDomain, Danger> {
        let mode = device.interrupts.guest_mode();
        let top = mode.top().filter(|top| self.feature.guest_levels().is_some_and(|most| *top <= most));
        let top = top.ok_or(Danger::UnsupportedGuestMode(mode))?;
        Ok(domain(
            device.guest.domain(),
            Translation::Tables(cr3.table()),
            Layout { format: Format::AmdV2, top },
        ))
    }
}

fn domain(id: u16, translation: Translation, layout: Layout) -> OldDomain {
    OldDomain { id, translation, layout, demand: Demand::default(), empty: false, tables: 0, upper_tables: 0 }
}
