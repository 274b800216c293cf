//! Takes over: every remapping unit whose translation is on gets Holdover's tables. A unit that cannot be taken over
//! is left as it is; only the devices behind it are lost for the dump.

mod find;
mod neighbourhood;

use alloc::vec::Vec;

use machine::growth::{collected, push};
use machine::{Frames, OutOfMemory, PAGE_SIZE, PhysicalAddress, Range, Registers};
use takeover::{DeviceTlb, Failure, IdentityMap, Limits, Patience};
use vtd::dmar::{Dmar, Drhd};

use crate::amd;
use crate::discover::Machine;
use crate::platform::config::Config;
use crate::platform::console::say;
use crate::platform::frames::FramePool;
use crate::platform::mmio::Mmio;
use crate::platform::paging::AddressSpace;
use crate::remapping::{Fate, Remapping, RemappingUnit};
use crate::units::{self, Doubt, Serves};
use handoff::{Areas, Share};
use pci::{Device, Function};

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
    let Some(table) = machine.tables.dmar.take() else { return without_table(machine) };
    match Dmar::parse(table.bytes()) {
        Ok(dmar) => all_units(machine, &dmar, areas),
        Err(error) => {
            say!("{error}: nothing to take over");
            Remapping::none(Some(error.into())).ok_or(TakeOverError::NoMemory)
        }
    }
}

/// The devices of a machine whose firmware lists no remapping units.
fn without_table(machine: &mut Machine) -> Result<Remapping, TakeOverError> {
    let doubt = Doubt::without_table(machine.tables.hidden, || amd_translates(machine));
    match doubt {
        Some(doubt) => say!("no DMAR table: {doubt}"),
        None => say!("no DMAR table: no remapping units: nothing to take over"),
    }
    Remapping::none(doubt).ok_or(TakeOverError::NoMemory)
}

/// Whether one of AMD's IOMMUs is on, or does not say that it is off.
fn amd_translates(machine: &mut Machine) -> bool {
    let Some(table) = machine.tables.ivrs.take() else { return false };
    amd::any_translates(table.bytes(), |base| amd_control(base, &mut machine.space))
}

/// The control register of the IOMMU whose registers are at `base`; `None` if no registers can be there.
fn amd_control(base: u64, space: &mut AddressSpace) -> Option<u64> {
    let start = Some(PhysicalAddress::new(base)).filter(|start| start.is_aligned(PAGE_SIZE))?;
    let registers = Mmio::map(space, Range::sized(start, amd::REGISTER_BYTES as u64)?).ok()?;
    Some(registers.read64(amd::CONTROL))
}

/// Takes over the units of the firmware's table, one after another.
fn all_units(machine: &mut Machine, dmar: &Dmar, areas: Areas) -> Result<Remapping, TakeOverError> {
    if !dmar.is_sound() {
        say!("the DMAR table's checksum is wrong; it is used all the same");
    }
    let budget = Share::UNIT_TABLES.of(machine.working) / PAGE_SIZE;
    let mut frames = FramePool::new(budget as usize).ok_or(TakeOverError::NoMemory)?;
    let neighbourhood = Neighbourhood::of(machine, dmar, areas)?;
    let serves = served(dmar, &machine.devices)?;
    // All memory is taken now, so that a unit that was taken over always has its place in the list.
    let mut units = Vec::new();
    units.try_reserve_exact(serves.len()).map_err(OutOfMemory::from)?;
    // All units together wait no longer than one may.
    let mut patience = Patience::default();
    for (index, drhd) in units::units(dmar).enumerate() {
        let limits = Limits { patience, ..Limits::default().among(frames.available(), serves.len() - index) };
        let maps = identity_maps(&units)?;
        let step = Step { limits, neighbourhood: &neighbourhood, dmar, maps: &maps };
        let (unit, left) = step.accept(&drhd, machine, &mut frames);
        patience = left;
        push(&mut units, unit)?;
    }
    let doubt = Doubt::of_table(dmar);
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

/// The functions whose requests each unit translates.
fn served(dmar: &Dmar, devices: &[Device<Config>]) -> Result<Vec<Serves>, OutOfMemory> {
    let mut served = Vec::new();
    for drhd in units::units(dmar) {
        push(&mut served, Serves::new(&drhd, devices)?)?;
    }
    Ok(served)
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
    dmar: &'a Dmar<'a>,
    /// What the units before it made in place of pass-through.
    maps: &'a [IdentityMap],
}

impl Step<'_> {
    /// Takes over the unit that `drhd` describes; returns it, and what is left of the patience.
    fn accept(
        &self,
        drhd: &Drhd,
        machine: &mut Machine,
        frames: &mut FramePool,
    ) -> (RemappingUnit, Patience) {
        let (registers, (fate, patience)) = match find::unit(drhd, &mut machine.space) {
            Ok(unit) => (find::readable_registers(&unit), self.fate_of(unit, drhd.segment, machine, frames)),
            Err(lost) => (Vec::new(), self.at_once(Fate::of_unfound(lost, self.dmar))),
        };
        (RemappingUnit { base: drhd.base.into(), segment: drhd.segment, registers, fate }, patience)
    }

    fn fate_of(
        &self,
        unit: FoundUnit,
        segment: u16,
        machine: &Machine,
        frames: &mut FramePool,
    ) -> (Fate, Patience) {
        if !unit.status().tes() {
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
