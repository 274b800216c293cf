//! The firmware's table of remapping units, of either architecture: DMAR (VT-d 8) or IVRS (AMD-Vi 5.2).

use alloc::vec::Vec;

use amdvi::ivrs::{Ivhd, Ivrs};
use machine::growth::{OutOfMemory, push};
use machine::{IoAddress, Range, Registers};
use vtd::dmar::{Dmar, Drhd, Structure};

use crate::acpi::Tables;
use crate::units::{Doubt, MOST_UNITS, Serves};
use pci::Device;

/// A table of units.
#[derive(Clone, Copy, Debug)]
pub enum Listing<'a> {
    /// Intel's.
    Dmar(Dmar<'a>),
    /// AMD's.
    Ivrs(Ivrs<'a>),
}

/// A unit, as the table describes it.
#[derive(Clone, Copy, Debug)]
pub enum ListedUnit<'a> {
    /// Intel's.
    Vtd(Drhd<'a>),
    /// AMD's.
    AmdVi(Ivhd<'a>),
}

impl<'a> Listing<'a> {
    /// The table among the firmware's; `None` if there is none. No machine has units of both architectures.
    pub fn of(tables: &'a Tables) -> Option<Result<Self, Doubt>> {
        if let Some(dmar) = &tables.dmar {
            return Some(Dmar::parse(dmar.bytes()).map(Self::Dmar).map_err(Doubt::Damaged));
        }
        let ivrs = tables.ivrs.as_ref()?;
        Some(Ivrs::parse(ivrs.bytes()).map(Self::Ivrs).map_err(Doubt::DamagedIvrs))
    }

    /// The table's signature.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Dmar(_) => "DMAR",
            Self::Ivrs(_) => "IVRS",
        }
    }

    /// Whether the table's bytes sum up to zero, as they should.
    pub fn is_sound(&self) -> bool {
        match self {
            Self::Dmar(dmar) => dmar.is_sound(),
            Self::Ivrs(ivrs) => ivrs.is_sound(),
        }
    }

    /// Physical address bits of the machine.
    pub fn host_address_bits(&self) -> u32 {
        match self {
            Self::Dmar(dmar) => dmar.host_address_bits(),
            // Entries hold no more than 52.
            Self::Ivrs(ivrs) => u32::from(ivrs.info().physical_bits()).min(52),
        }
    }

    /// The units, in the table's order; those past [`MOST_UNITS`] are left as they are.
    pub fn units(&self) -> impl Iterator<Item = ListedUnit<'a>> + use<'a> {
        let (dmar, ivrs) = match *self {
            Self::Dmar(dmar) => (Some(dmar), None),
            Self::Ivrs(ivrs) => (None, Some(ivrs)),
        };
        let intels = dmar.into_iter().flat_map(|dmar| dmar.units()).map(ListedUnit::Vtd);
        let amds = ivrs.into_iter().flat_map(|ivrs| ivrs.units()).map(ListedUnit::AmdVi);
        intels.chain(amds).take(MOST_UNITS)
    }

    /// Addresses that firmware's devices use untranslated or mapped to themselves: RMRRs, and IVMDs. No driver gets them.
    pub fn reserved(&self) -> impl Iterator<Item = Range<IoAddress>> + use<'a> {
        let (dmar, ivrs) = match *self {
            Self::Dmar(dmar) => (Some(dmar), None),
            Self::Ivrs(ivrs) => (None, Some(ivrs)),
        };
        let structures = dmar.into_iter().flat_map(|dmar| dmar.structures());
        let intels = structures.filter_map(|structure| match structure {
            Ok(Structure::Rmrr(rmrr)) => Some(Range::from(rmrr.base..rmrr.limit.saturating_add(1))),
            _ => None,
        });
        let blocks = ivrs.into_iter().flat_map(|ivrs| ivrs.memory());
        let amds = blocks.filter_map(|block| block.memory());
        intels.chain(amds.map(|memory| Range::from(memory.start.get()..memory.end.get())))
    }

    /// The functions whose requests each unit translates.
    pub fn served<R: Registers>(&self, devices: &[Device<R>]) -> Result<Vec<Serves>, OutOfMemory> {
        let mut served = Vec::new();
        for unit in self.units() {
            push(&mut served, unit.serves(devices)?)?;
        }
        Ok(served)
    }

    /// Says what keeps the table from telling of every function behind which unit it is; `None` if nothing does.
    pub fn doubt(&self) -> Option<Doubt> {
        match self {
            Self::Dmar(dmar) => Doubt::of_table(dmar),
            Self::Ivrs(ivrs) => Doubt::of_ivrs(ivrs),
        }
    }
}

impl ListedUnit<'_> {
    /// Physical address of the registers.
    pub const fn base(&self) -> u64 {
        match self {
            Self::Vtd(drhd) => drhd.base,
            Self::AmdVi(ivhd) => ivhd.base,
        }
    }

    /// PCI segment.
    pub const fn segment(&self) -> u16 {
        match self {
            Self::Vtd(drhd) => drhd.segment,
            Self::AmdVi(ivhd) => ivhd.segment,
        }
    }

    /// The functions whose requests it translates; paths lead through the bridges among `devices`.
    pub fn serves<R: Registers>(&self, devices: &[Device<R>]) -> Result<Serves, OutOfMemory> {
        match self {
            Self::Vtd(drhd) => Serves::new(drhd, devices),
            Self::AmdVi(ivhd) => Serves::of_ivhd(ivhd),
        }
    }
}
