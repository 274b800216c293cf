//! Takes over: every remapping unit whose translation is on gets Holdover's tables. A unit that cannot be taken over
//! is left as it is; only the devices behind it are lost for the dump.

mod find;
mod neighbourhood;

use alloc::vec::Vec;

use machine::growth::{collected, push};
use machine::{Frames, OutOfMemory, PAGE_SIZE};
use takeover::{DeviceTlb, Failure, IdentityMap, Limits, Patience};

use crate::acpi::{AcpiError, Tables};
use crate::discover::Machine;
use crate::listing::{ListedUnit, Listing};
use crate::platform::console::say;
use crate::platform::frames::{FramePool, LowFrames};
use crate::remapping::{Fate, Remapping, RemappingUnit};
use crate::units::{self, Doubt};
use handoff::{Areas, Share};
use pci::Function;

use find::FoundUnit;
use neighbourhood::Neighbourhood;

/// Why no unit is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TakeOverError {
    /// There is not enough memory for frames or for lists of the machine's memory and units.
    #[error("no memory for tables")]
    NoMemory,
}

impl From<OutOfMemory> for TakeOverError {
    fn from(_: OutOfMemory) -> Self {
        Self::NoMemory
    }
}

/// Takes over the remapping units. A machine without units is dumped too. A lack of memory is an error: units may be
/// translating, and then a disk must not be given physical addresses. For the same reason, what is not known leaves a doubt.
pub(crate) fn take_over(machine: &mut Machine, areas: Areas) -> Result<Remapping, TakeOverError> {
    let tables = core::mem::take(&mut machine.tables);
    let taken = match Listing::of(&tables) {
        Some(Ok(listing)) => all_units(machine, &tables, &listing, areas),
        Some(Err(doubt)) => {
            say!("{doubt}: nothing to take over");
            Remapping::none(Some(doubt)).ok_or(TakeOverError::NoMemory)
        }
        None => without_table(tables.hidden),
    };
    machine.tables = tables;
    taken
}

/// The devices of a machine whose firmware lists no remapping units.
fn without_table(hidden: Option<AcpiError>) -> Result<Remapping, TakeOverError> {
    let doubt = hidden.map(Doubt::Hidden);
    match doubt {
        Some(doubt) => say!("no DMAR or IVRS table: {doubt}"),
        None => say!("no DMAR or IVRS table: no remapping units: nothing to take over"),
    }
    Remapping::none(doubt).ok_or(TakeOverError::NoMemory)
}

/// Takes over the units of the firmware's table, one after another.
fn all_units(
    machine: &mut Machine,
    tables: &Tables,
    listing: &Listing<'_>,
    areas: Areas,
) -> Result<Remapping, TakeOverError> {
    if !listing.is_sound() {
        say!("the {} table's checksum is wrong; it is used all the same", listing.name());
    }
    let budget = Share::UNIT_TABLES.of(machine.working) / PAGE_SIZE;
    let mut frames = FramePool::new(budget as usize).ok_or(TakeOverError::NoMemory)?;
    frames.low = machine.low.take().map(LowFrames::of);
    let neighbourhood = Neighbourhood::of(machine, tables, listing, areas)?;
    let serves = listing.served(&machine.devices)?;
    // All memory is taken now, so that a unit that was taken over always has its place in the list.
    let mut units = Vec::new();
    units.try_reserve_exact(serves.len()).map_err(OutOfMemory::from)?;
    // All units together wait no longer than one may.
    let mut patience = Patience::default();
    for (index, listed) in listing.units().enumerate() {
        let limits = Limits { patience, ..Limits::default().among(frames.available(), serves.len() - index) };
        let maps = identity_maps(&units)?;
        let step = Step { limits, neighbourhood: &neighbourhood, listing, maps: &maps };
        let (unit, left) = step.accept(&listed, machine, &mut frames);
        patience = left;
        push(&mut units, unit)?;
    }
    let doubt = listing.doubt();
    if let Some(doubt) = doubt {
        say!("{doubt}");
    }
    let host_address_bits = neighbourhood.host_address_bits;
    Ok(Remapping { units, serves, doubt, frames, host_address_bits, old: machine.old })
}

/// The maps that were made in place of pass-through so far: units of the same format share them.
fn identity_maps(units: &[RemappingUnit]) -> Result<Vec<IdentityMap>, OutOfMemory> {
    let taken = units.iter().filter_map(|unit| match &unit.fate {
        Fate::TakenOver(taken) => Some(taken.identity_maps()),
        _ => None,
    });
    collected(taken.flatten().copied())
}

/// What is known of the device-TLBs of a segment's functions. A unit looks at those that its contexts name.
fn device_tlbs(machine: &Machine, segment: u16) -> Result<Vec<DeviceTlb>, OutOfMemory> {
    let is_here = |function: Function| function.segment == u32::from(segment);
    let devices = machine.devices.iter().filter(|device| is_here(device.function)).map(units::device_tlb);
    let hidden = machine.virtual_functions.iter().filter(|hidden| is_here(hidden.function));
    collected(devices.chain(hidden.map(units::virtual_device_tlb)))
}

/// The takeover of one unit.
struct Step<'a> {
    limits: Limits,
    neighbourhood: &'a Neighbourhood,
    /// The firmware's table.
    listing: &'a Listing<'a>,
    /// What the units before it made in place of pass-through.
    maps: &'a [IdentityMap],
}

impl Step<'_> {
    /// Takes over the unit that `listed` describes; returns it, and what is left of the patience.
    fn accept(
        &self,
        listed: &ListedUnit<'_>,
        machine: &mut Machine,
        frames: &mut FramePool,
    ) -> (RemappingUnit, Patience) {
        let segment = listed.segment();
        let (registers, (fate, patience)) = match find::unit(listed, &mut machine.space) {
            Ok(unit) => (find::readable_registers(&unit), self.fate_of(unit, segment, machine, frames)),
            Err(lost) => (Vec::new(), self.at_once(Fate::of_unfound(lost, self.listing.is_sound()))),
        };
        let (base, architecture) = (listed.base().into(), find::architecture(listed));
        (RemappingUnit { architecture, base, segment, registers, fate }, patience)
    }

    fn fate_of(
        &self,
        unit: FoundUnit,
        segment: u16,
        machine: &Machine,
        frames: &mut FramePool,
    ) -> (Fate, Patience) {
        if !unit.translates() {
            return self.at_once(Fate::Off);
        }
        let device_tlbs = match device_tlbs(machine, segment) {
            Ok(device_tlbs) => device_tlbs,
            Err(error) => return self.at_once(Fate::Lost(Failure::from(error).into())),
        };
        let surroundings = self.neighbourhood.surroundings(&device_tlbs, self.maps);
        match takeover::take_over(unit, &machine.old, frames, &surroundings, &self.limits) {
            Ok(unit) => {
                let patience = unit.patience();
                (Fate::TakenOver(unit), patience)
            }
            Err(refusal) => (Fate::Lost(refusal.failure.into()), refusal.patience),
        }
    }

    /// A fate for which nobody waited.
    fn at_once(&self, fate: Fate) -> (Fate, Patience) {
        (fate, self.limits.patience)
    }
}
