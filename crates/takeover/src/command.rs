//! A unit that accepts commands, of either architecture, with the tables that a takeover makes for it.
//!
//! This is the seam between what all takeovers do and what each architecture does in its own way.

use alloc::vec::Vec;

use machine::{Clock, Frames, IoAddress, OldMemory, PhysicalAddress, Range, Registers, SourceId};
use paging::{Architecture, Format};

use crate::census::Census;
use crate::domain::Domain;
use crate::duplicate::Duplicate;
use crate::entry::{Entry, Link, Rights, Slot};
use crate::failure::{AttachError, Failure, Reason};
use crate::found::{Context, Layout};
use crate::hazard::{Danger, HazardPlace, Hazards, Outcome};
use crate::ledger::Told;
use crate::patience::{Awaited, Patience, Waiting};
use crate::report::Found;
use crate::resources::Resources;
use crate::surroundings::{DeviceTlb, Limits, Surroundings};
use crate::unit::{Unit, UnitError};
use crate::{amdvi, vtd};
use machine::growth::OutOfMemory;

/// A unit that accepts commands.
#[derive(Debug)]
pub(crate) enum Commanded<'c, R, C> {
    Vtd(vtd::command::CommandedUnit<'c, R, C>),
    AmdVi(amdvi::command::CommandedUnit<'c, R, C>),
}

/// What to invalidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything, whatever leads to tables included.
    Everything,
    /// What leads to the tables of this device, and all translations.
    Device(SourceId),
    /// All translations of a domain.
    Domain(u16),
}

/// What the swap found, and what is in force now.
#[derive(Debug)]
pub(crate) struct Swapped {
    /// The state in which the unit was found.
    pub(crate) found: Found,
    /// The register that names the tables now in force.
    pub(crate) root: u64,
}

/// Does the same with a unit of either architecture.
macro_rules! either {
    ($commanded:expr, $unit:ident => $does:expr) => {
        match $commanded {
            Commanded::Vtd($unit) => $does,
            Commanded::AmdVi($unit) => $does,
        }
    };
}

impl<'c, R: Registers, C: Clock> Commanded<'c, R, C> {
    /// Makes a unit with these limits for waits. It has no tables and no queue of ours yet.
    pub(crate) fn new(unit: Unit<'c, R, C>, limits: &Limits) -> Self {
        match unit {
            Unit::Vtd(unit) => Self::Vtd(vtd::command::CommandedUnit::new(unit, limits)),
            Unit::AmdVi(unit) => Self::AmdVi(amdvi::command::CommandedUnit::new(unit, limits)),
        }
    }

    /// The unit alone.
    pub(crate) fn into_unit(self) -> Unit<'c, R, C> {
        match self {
            Self::Vtd(commanded) => Unit::Vtd(commanded.unit),
            Self::AmdVi(commanded) => Unit::AmdVi(commanded.unit),
        }
    }

    /// How long the unit and devices may still keep takeovers waiting.
    pub(crate) fn patience(&self) -> Patience {
        either!(self, unit => unit.patience())
    }

    /// Which of our frames the unit may use.
    pub(crate) fn told(&self) -> Told {
        either!(self, unit => unit.told)
    }

    /// Addresses that the unit does not translate, whatever the tables say: no driver gets them.
    pub(crate) fn untranslated(&self) -> [Range<IoAddress>; 2] {
        match self {
            Self::Vtd(_) => [Range::default(); 2],
            Self::AmdVi(commanded) => commanded.unit.untranslated(),
        }
    }

    /// What the unit's tables may look like.
    pub(crate) fn architecture(&self) -> Architecture {
        match self {
            Self::Vtd(commanded) => commanded.architecture(),
            Self::AmdVi(_) => amdvi::judge::Abilities::ARCHITECTURE,
        }
    }

    /// The tables of a new domain: the fewest levels that the unit supports.
    pub(crate) fn own_layout(&self) -> Option<Layout> {
        either!(self, unit => unit.own_layout())
    }

    /// Takes the frames of the queue that the swap starts, before anything of the old state changes.
    pub(crate) fn take_queue(&mut self, frames: &mut impl Frames) -> Result<(), Reason> {
        either!(self, unit => unit.take_queue(frames))
    }

    /// Copies the device table, if the unit has one; returns the dead kernel's memory that the unit will go on using, as far as that is
    /// known before anything changes.
    pub(crate) fn copy_device_table<M: OldMemory, F: Frames>(
        &mut self,
        resources: &mut Resources<'_, M, F>,
        hazards: &mut Hazards,
    ) -> Result<Vec<Range<PhysicalAddress>>, Reason> {
        match self {
            Self::Vtd(_) => Ok(Vec::new()),
            Self::AmdVi(commanded) => {
                commanded.tables = amdvi::census::device_table::copy(&commanded.unit, resources, hazards)?;
                Ok(commanded.memory_in_use()?)
            }
        }
    }

    /// Takes the census: copies the other tables above the page tables, and lists what all say.
    pub(crate) fn take_census<M: OldMemory, F: Frames>(
        &mut self,
        resources: &mut Resources<'_, M, F>,
        hazards: Hazards,
    ) -> Result<Census, Reason> {
        match self {
            Self::Vtd(commanded) => {
                let (census, tables) = vtd::census::take(&commanded.unit, resources)?;
                commanded.tables = tables;
                Ok(census)
            }
            Self::AmdVi(commanded) => {
                let tables = core::mem::take(&mut commanded.tables);
                let (census, tables) = amdvi::census::take(&commanded.unit, (tables, hazards), resources)?;
                commanded.tables = tables;
                Ok(census)
            }
        }
    }

    /// Whether a unit was found with the tables that those of this one replaced: units of AMD-Vi may share a device table.
    pub(crate) fn replaced_tables_of(&self, unit: &Self) -> bool {
        match (self, unit) {
            (Self::AmdVi(commanded), Self::AmdVi(other)) => commanded.has_table_of(other),
            _ => false,
        }
    }

    /// Gives the unit the tables that replaced its own already, for another unit.
    pub(crate) fn share_tables(&mut self, other: &Self) -> Result<(), Reason> {
        match (self, other) {
            (Self::AmdVi(commanded), Self::AmdVi(other)) => commanded.share_tables(other),
            _ => Err(Reason::OtherModes),
        }
    }

    /// How many of the unit's tables above the page tables were copied.
    pub(crate) fn tables(&self) -> u64 {
        either!(self, unit => unit.tables.count())
    }

    /// The domain-id of tables that map nothing, if there are such that belong to no domain.
    pub(crate) fn fence(&self) -> Option<u16> {
        match self {
            Self::Vtd(_) => None,
            Self::AmdVi(commanded) => commanded.tables.fence.map(|fence| fence.id),
        }
    }

    /// Makes the copied entries name the copied page tables, and publishes the tables above those.
    pub(crate) fn link_all(&mut self, copy: &Duplicate, frames: &mut impl Frames) {
        either!(self, unit => unit.link_all(copy, frames));
    }

    /// Makes the unit translate with tables of our own, or with the dead kernel's made to say the same; that is a hazard.
    pub(crate) fn swap(
        &mut self,
        (old, surroundings): (&impl OldMemory, &Surroundings<'_>),
        frames: &mut impl Frames,
        hazards: &mut Hazards,
    ) -> Result<Swapped, Failure> {
        match self {
            Self::Vtd(unit) => vtd::swap::swap(unit, old, frames),
            Self::AmdVi(unit) => amdvi::swap::swap(unit, (old, surroundings), frames, hazards),
        }
    }

    /// The devices whose entries allow them a device-TLB, ascending; none if the unit has no commands for those.
    pub(crate) fn device_tlbs(&self, frames: &impl Frames) -> Result<Vec<SourceId>, OutOfMemory> {
        either!(self, unit => unit.device_tlbs(frames))
    }

    /// Has a device invalidate all that it keeps for a PASID, or for requests without one; returns when it has confirmed. The
    /// unit's own caches must be invalidated first, or the device could fetch the old translation again.
    pub(crate) fn forget_in_device(
        &mut self,
        tlb: DeviceTlb,
        awaited: Awaited,
        pasid: Option<u32>,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        either!(self, unit => unit.forget_in_device(tlb, awaited, pasid, frames))
    }

    /// Makes changes or removals of entries visible to the unit; when this returns, its caches hold nothing of the
    /// old entries.
    pub(crate) fn entries_changed(
        &mut self,
        scope: Scope,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        either!(self, unit => unit.entries_changed(scope, frames))
    }

    /// Makes entries that became present visible to the unit.
    pub(crate) fn entries_appeared(
        &mut self,
        scope: Scope,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        either!(self, unit => unit.entries_appeared(scope, frames))
    }

    /// The slot of the entry for a device's requests without PASID, when tables of this format translate them. Missing tables
    /// on the way to it are made and linked while hardware may be reading.
    pub(crate) fn slot(
        &mut self,
        source: SourceId,
        format: Format,
        frames: &mut impl Frames,
    ) -> Result<Slot, AttachError> {
        either!(self, unit => unit.slot(source, format, frames))
    }

    /// The entry of a device that is not listed, as it is in our tables, and its slot. Only AMD-Vi has such.
    pub(crate) fn entry_of(&self, source: SourceId, frames: &impl Frames) -> Option<(Entry, Slot)> {
        match self {
            Self::Vtd(_) => None,
            Self::AmdVi(commanded) => commanded.entry_of(source, frames),
        }
    }

    /// The entry of a device that the old kernel did not know.
    pub(crate) fn new_entry(&self) -> Entry {
        match self {
            Self::Vtd(commanded) => Entry::Vtd(vtd::entry::Entry::new(commanded.tables.mode)),
            Self::AmdVi(_) => Entry::AmdVi(amdvi::entry::Entry::new()),
        }
    }

    /// Blocks the entry of a device before another takes its place.
    pub(crate) fn unlink(
        &mut self,
        source: SourceId,
        slot: Slot,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        either!(self, unit => unit.unlink(source, slot, frames))
    }

    /// What a device's entry lets it do of what its tables allow. Only AMD-Vi's entries restrict anything.
    pub(crate) fn rights(&self, source: SourceId, frames: &impl Frames) -> Rights {
        match self {
            Self::Vtd(_) => Rights::ALL,
            Self::AmdVi(commanded) => commanded.rights(source, frames),
        }
    }

    /// Makes the entry of a device allow all that its tables do.
    pub(crate) fn allow_all(&mut self, source: SourceId, frames: &mut impl Frames) -> Result<(), UnitError> {
        match self {
            Self::Vtd(_) => Ok(()),
            Self::AmdVi(commanded) => commanded.allow_all(source, frames),
        }
    }

    /// Makes the entry of a device, which blocks, name tables; does nothing if it names some already.
    pub(crate) fn link(
        &mut self,
        source: SourceId,
        slot: Slot,
        link: Link,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        either!(self, unit => unit.link(source, slot, link, frames))
    }

    /// Makes the entry of a context name other tables, which translate alike, or takes note of another id; the caller
    /// invalidates translations. Hardware may see each word of an entry before the others: any mix of old and new tables and ids
    /// gives the same answers.
    pub(crate) fn relink(
        &mut self,
        context: &Context,
        link: Link,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        either!(self, unit => unit.relink(context, link, frames))
    }

    /// Notes as a hazard that others wrote our queue's tail.
    pub(crate) fn note_disturbances(&mut self, hazards: &mut Hazards) {
        let times = core::mem::take(either!(self, unit => &mut unit.disturbances));
        if times > 0 {
            hazards.note(HazardPlace::Unit, Danger::QueueDisturbed(times), Outcome::Duplicated);
        }
    }
}

/// What the entry of a context is to name: the tables of its domain; `None` if it is to block.
pub(crate) fn link_of(context: &Context, domains: &[Domain]) -> Option<Link> {
    context.domain.and_then(|index| domains.get(index)).and_then(Domain::link)
}
