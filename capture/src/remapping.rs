//! The machine's remapping units: taken over, and asked for addresses that devices can use.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use machine::{PAGE_SIZE, Range};
use record::Register;
use takeover::{AttachError, Attachment, Failure, Limits, Surroundings, Takeover, UnitError};
use vtd::dmar::{DeviceScope, Dmar, DmarError, Drhd, ScopeType, Structure};
use vtd::paging::Permission;
use vtd::registers::{Access, FIXED};
use vtd::source::SourceId;

use crate::clock::Tsc;
use crate::discover::Machine;
use crate::frames::FramePool;
use crate::mmio::Mmio;
#[cfg(not(mutations))]
use crate::mmio::Mmio as UnitRegisters;
#[cfg(mutations)]
use crate::mutations::UnitRegisters;
use crate::paging::MapError;
use crate::pci::{Bridge, Device, Function};

/// The share of the reservation that tables for remapping units may take: a quarter.
const BUDGET_DIVISOR: u64 = 4;

/// The clock by which units are waited for.
static CLOCK: Tsc = Tsc;

/// All remapping units, and the frames their tables are made of.
pub(crate) struct Remapping {
    /// The units, in the order of the firmware's table.
    pub(crate) units: Vec<Unit>,
    /// Own frames for their tables.
    pub(crate) frames: FramePool,
    /// Physical address bits of the machine; 0 if no table says.
    pub(crate) host_address_bits: u32,
}

/// One remapping unit.
pub(crate) struct Unit {
    /// Physical address of its registers.
    pub(crate) base: u64,
    /// Whose requests it translates.
    serves: Serves,
    /// Its registers before anything was written to them; empty if they could not be read.
    pub(crate) registers: Vec<Register>,
    /// What became of it.
    pub(crate) state: State,
}

/// What became of a unit.
pub(crate) enum State {
    /// Its translations are in force, in our tables.
    TakenOver(Box<Takeover<'static, UnitRegisters, Tsc>>),
    /// Translation is off: its devices reach memory by physical addresses.
    Off,
    /// It translates as the dead kernel told it, and cannot be told otherwise.
    Lost(LostError),
}

/// Why a unit cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LostError {
    /// Its registers could not be mapped.
    #[error(transparent)]
    Map(#[from] MapError),
    /// It does not answer like a remapping unit.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// Its tables could not be replaced.
    #[error(transparent)]
    Takeover(#[from] Failure),
}

/// Why there are no units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RemappingError {
    /// The firmware names none.
    #[error("no DMAR table: no remapping units")]
    NoTable,
    /// The firmware's table is damaged.
    #[error(transparent)]
    Table(#[from] DmarError),
    /// There is not enough memory for frames.
    #[error("no memory for tables")]
    NoMemory,
}

/// How a device reaches memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach {
    /// By physical addresses.
    Direct,
    /// By addresses of its domain in the unit with this index.
    Translated(usize, Attachment),
}

/// A device cannot be given memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReachError {
    /// The takeover refused.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Its unit was not taken over.
    #[error("its remapping unit was not taken over")]
    Lost,
}

impl Unit {
    fn new(drhd: &Drhd, machine: &mut Machine, frames: &mut FramePool, surroundings: &Surroundings) -> Self {
        let serves = Serves::new(drhd, &machine.devices);
        let mut registers = Vec::new();
        let state =
            take_over(drhd, machine, frames, surroundings, &mut registers).unwrap_or_else(State::Lost);
        Self { base: drhd.base, serves, registers, state }
    }

    /// PCI segment that it serves.
    pub(crate) fn segment(&self) -> u16 {
        self.serves.segment
    }
}

impl Remapping {
    /// No units: every device reaches memory by physical addresses.
    pub(crate) fn none() -> Option<Self> {
        Some(Self { units: Vec::new(), frames: FramePool::new(0)?, host_address_bits: 0 })
    }

    /// Takes over every unit whose translation is on. A unit for which that fails is left as it is.
    pub(crate) fn take_over(machine: &mut Machine) -> Result<Self, RemappingError> {
        let table = machine.tables.dmar.take().ok_or(RemappingError::NoTable)?;
        let dmar = Dmar::parse(table.bytes())?;
        let budget = machine.reserved() / PAGE_SIZE / BUDGET_DIVISOR;
        let mut frames = FramePool::new(budget as usize).ok_or(RemappingError::NoMemory)?;
        let kept_free = kept_free(&dmar, machine);
        let memory: Vec<Range> = machine.old.ranges().iter().chain(&machine.own).copied().collect();
        let own = machine.own.clone();
        let surroundings = Surroundings {
            host_address_bits: dmar.host_address_bits(),
            memory: &memory,
            own: &own,
            kept_free: &kept_free,
        };
        let units = dmar.units().map(|drhd| Unit::new(&drhd, machine, &mut frames, &surroundings));
        let units = units.collect();
        Ok(Self { units, frames, host_address_bits: dmar.host_address_bits() })
    }

    /// Finds out how a device reaches memory; behind a unit that was taken over, it gets a domain of ours.
    pub(crate) fn attach(&mut self, function: Function) -> Result<Reach, ReachError> {
        let Some(index) = self.unit_of(function) else { return Ok(Reach::Direct) };
        let source = SourceId::new(function.bus, function.devfn);
        match &mut self.units[index].state {
            State::Off => Ok(Reach::Direct),
            State::Lost(_) => Err(ReachError::Lost),
            State::TakenOver(unit) => Ok(Reach::Translated(index, unit.attach(source, &mut self.frames)?)),
        }
    }

    /// Makes own memory reachable for a device and returns the address it has there; `None` if that is impossible.
    pub(crate) fn map(&mut self, reach: &Reach, memory: Range) -> Option<u64> {
        let Reach::Translated(index, attachment) = reach else { return Some(memory.start) };
        let State::TakenOver(unit) = &mut self.units.get_mut(*index)?.state else { return None };
        unit.map(attachment, memory.start, memory.len(), Permission::ReadWrite, &mut self.frames).ok()
    }

    /// The unit that translates a function's requests: the one that names it, or the one that takes what none names.
    fn unit_of(&self, function: Function) -> Option<usize> {
        let named = self.units.iter().position(|unit| unit.serves.names(function));
        named.or_else(|| self.units.iter().position(|unit| unit.serves.takes_rest_of(function.segment)))
    }
}

fn take_over(
    drhd: &Drhd,
    machine: &mut Machine,
    frames: &mut FramePool,
    surroundings: &Surroundings,
    found: &mut Vec<Register>,
) -> Result<State, LostError> {
    let limits = Limits::default();
    let size = drhd.register_bytes();
    let registers =
        UnitRegisters::map(&mut machine.space, Range::new(drhd.base, drhd.base.saturating_add(size)))?;
    let unit = takeover::Unit::new(registers, size as usize, &CLOCK, limits.deadline)?;
    found.extend(
        readable_registers()
            .map(|register| Register { offset: register.offset as u16, value: unit.read(register) }),
    );
    if !unit.status().tes() {
        return Ok(State::Off);
    }
    let unit = takeover::take_over(unit, &machine.old, frames, surroundings, &limits)?;
    Ok(State::TakenOver(Box::new(unit)))
}

/// The registers that say something when they are read.
fn readable_registers() -> impl Iterator<Item = vtd::registers::Register> {
    FIXED.into_iter().filter(|register| register.access != Access::WriteOnly)
}

/// I/O addresses that no driver may get: reserved memory regions, and what PCI takes for itself on the way to memory.
///
/// Between the end of low memory and 4 GiB are the host bridge's windows, which only ACPI's interpreted tables name.
fn kept_free(dmar: &Dmar, machine: &Machine) -> Vec<Range> {
    const FOUR_GIB: u64 = 4 << 30;
    let reserved = dmar.structures().filter_map(|structure| match structure {
        Ok(Structure::Rmrr(rmrr)) => Some(Range::new(rmrr.base, rmrr.limit.saturating_add(1))),
        _ => None,
    });
    let windows = machine.devices.iter().filter_map(Device::bridge).flat_map(|bridge| bridge.windows);
    let claimed = machine.devices.iter().flat_map(Device::claimed);
    let memory = machine.old.ranges().iter().chain(&machine.own);
    let low_end = memory.map(|range| range.end).filter(|&end| end <= FOUR_GIB).max().unwrap_or(0);
    let hole = Range::new(low_end, FOUR_GIB);
    reserved.chain(windows).chain(claimed).chain([hole]).filter(|range| !range.is_empty()).collect()
}

/// Whose requests a unit translates (VT-d specification, section 8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Serves {
    segment: u16,
    /// All that no unit names.
    rest: bool,
    /// The source-ids that are named.
    named: Vec<RangeInclusive<SourceId>>,
}

impl Serves {
    fn new(drhd: &Drhd, devices: &[Device<Mmio>]) -> Self {
        let bridge_at = |source: SourceId| {
            let function = Function { segment: drhd.segment, bus: source.bus(), devfn: source.devfn() };
            devices.iter().find(|device| device.function == function)?.bridge()
        };
        let named = drhd.scopes.iter().filter_map(|scope| sources_of(&scope, bridge_at)).collect();
        Self { segment: drhd.segment, rest: drhd.includes_all(), named }
    }

    fn names(&self, function: Function) -> bool {
        let source = SourceId::new(function.bus, function.devfn);
        self.segment == function.segment && self.named.iter().any(|range| range.contains(&source))
    }

    fn takes_rest_of(&self, segment: u16) -> bool {
        self.rest && self.segment == segment
    }
}

/// The source-ids that a device scope names: a function's, or those of all buses behind a bridge.
fn sources_of(
    scope: &DeviceScope,
    bridge_at: impl Fn(SourceId) -> Option<Bridge>,
) -> Option<RangeInclusive<SourceId>> {
    let mut bus = scope.bus;
    let mut place = None;
    for (device, function) in scope.path() {
        if let Some(above) = place {
            bus = bridge_at(above)?.secondary_bus;
        }
        place = Some(SourceId::at(bus, device, function));
    }
    let source = place?;
    match scope.kind {
        ScopeType::ENDPOINT => Some(source..=source),
        ScopeType::BRIDGE => {
            let bridge = bridge_at(source)?;
            Some(SourceId::new(bridge.secondary_bus, 0)..=SourceId::new(bridge.subordinate_bus, 0xFF))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A DMAR table with one DRHD structure of segment 0 with these flags and device scopes.
    fn dmar(flags: u8, scopes: &[u8]) -> Vec<u8> {
        let mut drhd = vec![0, 0, 16 + scopes.len() as u8, 0, flags, 0, 0, 0];
        drhd.extend(0xFED9_0000u64.to_le_bytes());
        drhd.extend(scopes);
        let mut table = b"DMAR".to_vec();
        table.resize(48, 0);
        table.extend(drhd);
        table[4] = table.len() as u8;
        table[9] = table.iter().fold(0, |sum, byte| sum.wrapping_sub(*byte));
        table
    }

    /// The ranges that the scopes of a unit name, where 00:1c.0 is a bridge to buses 5 to 7 and 05:02.0 one to bus 6.
    fn named(scopes: &[u8]) -> Vec<String> {
        let bridge_at = |source: SourceId| {
            let (secondary_bus, subordinate_bus) = match source.0 {
                0x00E0 => (5, 7),
                0x0510 => (6, 6),
                _ => return None,
            };
            Some(Bridge { secondary_bus, subordinate_bus, windows: [Range::default(); 2] })
        };
        let table = dmar(0, scopes);
        let drhd = Dmar::parse(&table).unwrap().units().next().unwrap();
        let ranges = drhd.scopes.iter().filter_map(|scope| sources_of(&scope, bridge_at));
        ranges.map(|range| format!("{}-{}", range.start(), range.end())).collect()
    }

    #[test]
    fn a_function_is_found_behind_the_bridges_of_its_path() {
        let endpoint = [1, 8, 0, 0, 0, 0, 2, 0];
        let behind_two_bridges = [1, 12, 0, 0, 0, 0, 0x1C, 0, 2, 0, 3, 1];
        assert_eq!(named(&endpoint), ["00:02.0-00:02.0"]);
        assert_eq!(named(&behind_two_bridges), ["06:03.1-06:03.1"]);
    }

    #[test]
    fn a_bridge_speaks_for_all_buses_behind_it() {
        assert_eq!(named(&[2, 8, 0, 0, 0, 0, 0x1C, 0]), ["05:00.0-07:1f.7"]);
    }

    #[test]
    fn interrupt_controllers_and_paths_through_no_bridge_name_nothing() {
        let io_apic = [3, 8, 0, 0, 0, 0xFF, 0, 0];
        let no_bridge = [1, 10, 0, 0, 0, 0, 2, 0, 0, 0];
        assert_eq!(named(&[io_apic.as_slice(), &no_bridge].concat()), [""; 0]);
    }

    #[test]
    fn a_unit_serves_what_it_names_or_the_rest_of_its_segment() {
        let function = Function { segment: 0, bus: 0, devfn: 0x10 };
        let serves = |flags, scopes: &[u8]| {
            let table = dmar(flags, scopes);
            Serves::new(&Dmar::parse(&table).unwrap().units().next().unwrap(), &[])
        };
        let (naming, rest) = (serves(0, &[1, 8, 0, 0, 0, 0, 2, 0]), serves(1, &[]));
        assert!(naming.names(function) && !naming.takes_rest_of(0));
        assert!(!rest.names(function) && rest.takes_rest_of(0) && !rest.takes_rest_of(1));
        assert!(!naming.names(Function { segment: 1, ..function }));
    }
}
