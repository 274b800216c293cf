//! Takes over: every remapping unit whose translation is on gets Holdover's tables. A unit that cannot be taken over
//! is left as it is; only the devices behind it are lost for the dump.

mod find;
mod neighbourhood;

use alloc::vec::Vec;

use machine::growth::{collected, push};
use machine::{Frames, OutOfMemory, PAGE_SIZE, PhysicalAddress, Range};
use takeover::{DeviceTlb, Limits, Patience};

use crate::acpi::{AcpiError, Tables};
use crate::discover::Machine;
use crate::listing::{ListedUnit, Listing};
use crate::platform::console::say;
use crate::platform::frames::{FramePool, LowFrames};
use crate::remapping::{Fate, LostError, Remapping, RemappingUnit};
use crate::units::{self, Doubt, Serves};
use handoff::{Areas, Share};

use find::FoundUnit;
use neighbourhood::{Legacy, Neighbourhood};

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
    let mut found = found(listing, machine)?;
    let locked = locked_memory(&mut found)?;
    for (index, (listed, unit)) in listing.units().zip(found).enumerate() {
        let (tables, sharing) = tables_of(serves.get(index..).unwrap_or_default(), listing);
        let limits = Limits::default().sparing(sharing).among(frames.available(), tables);
        let limits = Limits { patience, ..limits };
        let legacy = Legacy::of(&units, &locked)?;
        let device_tlbs = device_tlbs(machine, (&listed, index), &serves)?;
        let step = Step {
            limits,
            neighbourhood: &neighbourhood,
            listing,
            legacy: &legacy,
            before: &units,
            device_tlbs: &device_tlbs,
        };
        let (unit, left) = step.accept((&listed, unit), machine, &mut frames);
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

/// The units of the firmware's table, with their registers.
fn found(
    listing: &Listing<'_>,
    machine: &mut Machine,
) -> Result<Vec<Result<FoundUnit, LostError>>, OutOfMemory> {
    let mut found = Vec::new();
    listing.units().try_for_each(|listed| push(&mut found, find::unit(&listed, &mut machine.space)))?;
    Ok(found)
}

/// The dead kernel's memory that these units use on, known before any of them is taken over: devices of each may pass by a map that was
/// made for another.
fn locked_memory(
    units: &mut [Result<FoundUnit, LostError>],
) -> Result<Vec<Range<PhysicalAddress>>, OutOfMemory> {
    let mut locked = Vec::new();
    for unit in units.iter_mut().flatten() {
        unit.locked_memory()?.into_iter().try_for_each(|memory| push(&mut locked, memory))?;
    }
    Ok(locked)
}

/// How many of these units have tables of their own, and how many share those of one before: under Linux, AMD's units of one segment do.
fn tables_of(units: &[Serves], listing: &Listing<'_>) -> (usize, usize) {
    let shares = |at: usize| units.iter().take(at).any(|before| before.segment == units[at].segment);
    let sharing = match listing {
        Listing::Dmar(_) => 0,
        Listing::Ivrs(_) => (0..units.len()).filter(|at| shares(*at)).count(),
    };
    (units.len() - sharing, sharing)
}

/// What is known of the device-TLBs of a segment's functions. A unit looks at those that its contexts name. Units of AMD's share a device
/// table: functions that are behind another than the unit with this index keep nothing of this one's, and would not answer it.
fn device_tlbs(
    machine: &Machine,
    (listed, index): (&ListedUnit<'_>, usize),
    serves: &[Serves],
) -> Result<Vec<DeviceTlb>, OutOfMemory> {
    let (segment, shares) = (listed.segment(), matches!(listed, ListedUnit::AmdVi(_)));
    let devices = machine.devices.iter().map(|device| (device.function, units::device_tlb(device)));
    let hidden = machine.virtual_functions.iter();
    let hidden = hidden.map(|hidden| (hidden.function, units::virtual_device_tlb(hidden)));
    let of_segment = devices.chain(hidden).filter(|(function, _)| function.segment == u32::from(segment));
    let of_unit = of_segment.map(|(function, tlb)| {
        let is_elsewhere =
            shares && units::unit_of(&serves.iter(), function).is_some_and(|unit| unit != index);
        DeviceTlb { enabled: tlb.enabled && !is_elsewhere, ..tlb }
    });
    collected(of_unit)
}

/// The takeover of one unit.
struct Step<'a> {
    limits: Limits,
    neighbourhood: &'a Neighbourhood,
    /// The firmware's table.
    listing: &'a Listing<'a>,
    /// What the units before it left for it.
    legacy: &'a Legacy,
    /// The units before it.
    before: &'a [RemappingUnit],
    device_tlbs: &'a [DeviceTlb],
}

impl Step<'_> {
    /// Takes over the unit that `listed` describes; returns it, and what is left of the patience.
    fn accept(
        &self,
        (listed, found): (&ListedUnit<'_>, Result<FoundUnit, LostError>),
        machine: &Machine,
        frames: &mut FramePool,
    ) -> (RemappingUnit, Patience) {
        let segment = listed.segment();
        let (registers, (fate, patience)) = match found {
            Ok(unit) => (find::readable_registers(&unit), self.fate_of(unit, machine, frames)),
            Err(lost) => (Vec::new(), self.at_once(Fate::of_unfound(lost, self.listing.is_sound()))),
        };
        let (base, architecture) = (listed.base().into(), find::architecture(listed));
        (RemappingUnit { architecture, base, segment, registers, fate }, patience)
    }

    fn fate_of(&self, unit: FoundUnit, machine: &Machine, frames: &mut FramePool) -> (Fate, Patience) {
        if !unit.translates() {
            return self.at_once(Fate::Off);
        }
        let surroundings = self.neighbourhood.surroundings(self.device_tlbs, self.legacy);
        let before = self.before.iter().filter_map(RemappingUnit::taken_over);
        match takeover::take_over_after(unit, before, &machine.old, frames, &surroundings, &self.limits) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use amdvi::ivrs::Ivrs;
    use vtd::dmar::Dmar;

    /// Firmware's table of this signature, with a unit of Intel's.
    fn table(signature: [u8; 4]) -> Vec<u8> {
        let unit = [0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0xD9, 0xFE, 0, 0, 0, 0];
        [signature.as_slice(), &64u32.to_le_bytes(), &[0; 40], &unit].concat()
    }

    #[test]
    fn amds_units_of_one_segment_are_taken_to_share_their_tables() {
        let (intels, amds) = (table(*b"DMAR"), [&table(*b"IVRS")[..48], &[0; 16]].concat());
        let (dmar, ivrs) = (Dmar::parse(&intels).unwrap(), Ivrs::salvage(&amds).unwrap());
        let drhd = dmar.units().next().unwrap();
        let units: Vec<Serves> = Vec::from([0, 1, 0, 0, 1].map(|segment| {
            let mut unit = Serves::new::<fixtures::ConfigSpace>(&drhd, &[]).unwrap();
            unit.segment = segment;
            unit
        }));
        let of_amds = |from: usize| tables_of(&units[from..], &Listing::Ivrs(ivrs));
        assert_eq!((of_amds(0), of_amds(2), of_amds(5)), ((2, 3), (2, 1), (0, 0)));
        assert_eq!(tables_of(&units, &Listing::Dmar(dmar)), (5, 0));
    }
}
