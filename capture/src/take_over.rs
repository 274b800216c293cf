//! Takes over: every remapping unit whose translation is on gets Holdover's tables. A unit that cannot be taken over
//! is left as it is; only the devices behind it are lost for the dump.

mod find;
mod neighbourhood;

use alloc::vec::Vec;

use machine::growth::{collected, push};
use machine::{Frames, OutOfMemory, PAGE_SIZE};
use takeover::{DeviceTlb, Failure, Limits};
use vtd::dmar::{Dmar, DmarError, Drhd};

use crate::discover::Machine;
use crate::platform::console::say;
use crate::platform::frames::FramePool;
use crate::platform::mmio::Mmio;
use crate::remapping::{Fate, Remapping, RemappingUnit};
use crate::units::{self, Serves, unit_of};
use handoff::Share;
use pci::Device;

use find::FoundUnit;
use neighbourhood::Neighbourhood;

/// Why no unit is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TakeOverError {
    /// The firmware lists no units.
    #[error("no DMAR table: no remapping units")]
    NoTable,
    /// The firmware's table is damaged.
    #[error(transparent)]
    Table(#[from] DmarError),
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
/// translating, and then a disk must not be given physical addresses.
pub(crate) fn take_over(machine: &mut Machine) -> Result<Remapping, TakeOverError> {
    match all_units(machine) {
        Err(error @ (TakeOverError::NoTable | TakeOverError::Table(_))) => {
            say!("{error}: nothing to take over");
            Remapping::none().ok_or(TakeOverError::NoMemory)
        }
        done => done,
    }
}

/// Takes over the units of the firmware's table, one after another.
fn all_units(machine: &mut Machine) -> Result<Remapping, TakeOverError> {
    let table = machine.tables.dmar.take().ok_or(TakeOverError::NoTable)?;
    let dmar = Dmar::parse(table.bytes())?;
    if !dmar.is_sound() {
        say!("the DMAR table's checksum is wrong; it is used all the same");
    }
    let budget = Share::UNIT_TABLES.of(machine.reserved()) / PAGE_SIZE;
    let mut frames = FramePool::new(budget as usize).ok_or(TakeOverError::NoMemory)?;
    let neighbourhood = Neighbourhood::of(machine, &dmar)?;
    let serves = served(&dmar, &machine.devices)?;
    // All memory is taken now, so that a unit that was taken over always has its place in the list.
    let mut units = Vec::new();
    units.try_reserve_exact(serves.len()).map_err(OutOfMemory::from)?;
    for (index, drhd) in units::units(&dmar).enumerate() {
        let step = Step { index, serves: &serves, neighbourhood: &neighbourhood };
        push(&mut units, step.accept(&drhd, machine, &mut frames))?;
    }
    Ok(Remapping { units, serves, frames, host_address_bits: dmar.host_address_bits(), old: machine.old })
}

/// The functions whose requests each unit translates.
fn served(dmar: &Dmar, devices: &[Device<Mmio>]) -> Result<Vec<Serves>, OutOfMemory> {
    let mut served = Vec::new();
    for drhd in units::units(dmar) {
        push(&mut served, Serves::new(&drhd, devices)?)?;
    }
    Ok(served)
}

/// The takeover of one unit.
struct Step<'a> {
    /// The unit's index in the firmware's table.
    index: usize,
    /// The functions whose requests each unit translates.
    serves: &'a [Serves],
    neighbourhood: &'a Neighbourhood,
}

impl Step<'_> {
    /// Takes over the unit that `drhd` describes.
    fn accept(&self, drhd: &Drhd, machine: &mut Machine, frames: &mut FramePool) -> RemappingUnit {
        let (registers, fate) = match find::unit(drhd, &mut machine.space) {
            Ok(unit) => (find::readable_registers(&unit), self.fate_of(unit, machine, frames)),
            Err(lost) => (Vec::new(), Fate::Lost(lost)),
        };
        RemappingUnit { base: drhd.base.into(), segment: drhd.segment, registers, fate }
    }

    fn fate_of(&self, unit: FoundUnit, machine: &Machine, frames: &mut FramePool) -> Fate {
        if !unit.status().tes() {
            return Fate::Off;
        }
        let limits = limits(frames.available(), self.serves.len() - self.index);
        let device_tlbs = match self.device_tlbs(&machine.devices) {
            Ok(device_tlbs) => device_tlbs,
            Err(error) => return Fate::Lost(Failure::from(error).into()),
        };
        let surroundings = self.neighbourhood.surroundings(&device_tlbs);
        match takeover::take_over(unit, &machine.old, frames, &surroundings, &limits) {
            Ok(unit) => Fate::TakenOver(unit),
            Err(refusal) => Fate::Lost(refusal.failure.into()),
        }
    }

    /// The device-TLBs of the devices whose requests this unit translates.
    fn device_tlbs(&self, devices: &[Device<Mmio>]) -> Result<Vec<DeviceTlb>, OutOfMemory> {
        let is_own =
            |device: &&Device<Mmio>| unit_of(&self.serves.iter(), device.function) == Some(self.index);
        collected(devices.iter().filter(is_own).filter_map(units::device_tlb))
    }
}

/// The limits of one unit's takeover, when `frames` frames are left for this unit and those after it, `units` in all. The
/// unit may use half of the frames as it needs them; the other half is divided equally among these units.
fn limits(frames: usize, units: usize) -> Limits {
    let limits = Limits::default();
    let for_others = frames / 2 * (units - 1) / units;
    Limits { spare_frames: limits.spare_frames + for_others, ..limits }
}
