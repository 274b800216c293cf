//! The machine's remapping units: taken over, and asked for addresses that devices can use.

mod serves;

use alloc::boxed::Box;
use alloc::vec::Vec;

use machine::{Frames, PAGE_SIZE, Range};
use record::Register;
use takeover::{AttachError, Attachment, DeviceTlb, Failure, Limits, Surroundings, Takeover, UnitError};
use vtd::dmar::{Dmar, DmarError, Drhd, Structure};
use vtd::paging::Permission;
use vtd::registers::{Access, FIXED};
use vtd::source::SourceId;

use crate::clock::Tsc;
use crate::discover::Machine;
use crate::frames::FramePool;
use crate::memory::OldRam;
use crate::mmio::Mmio;
#[cfg(not(mutations))]
use crate::mmio::Mmio as UnitRegisters;
#[cfg(mutations)]
use crate::mutations::unit::UnitRegisters;
use crate::paging::MapError;
use crate::pci::{Device, Function};
use serves::{Serves, unit_of};

/// The share of the reservation that tables for remapping units may take: a quarter.
const BUDGET_DIVISOR: u64 = 4;

/// Units that are looked at; the largest machines have some forty.
const MOST_UNITS: usize = 256;

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
    /// Whether the checksum of the firmware's table is right; the table is used all the same.
    pub(crate) table_is_sound: bool,
    /// Where the dead kernel's tables are, of which some may be kept.
    old: OldRam,
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
    /// PCI segment that it serves.
    pub(crate) fn segment(&self) -> u16 {
        self.serves.segment
    }
}

impl Remapping {
    /// No units: every device reaches memory by physical addresses.
    pub(crate) fn none() -> Option<Self> {
        let frames = FramePool::new(0)?;
        Some(Self {
            units: Vec::new(),
            frames,
            host_address_bits: 0,
            table_is_sound: true,
            old: OldRam::default(),
        })
    }

    /// Takes over every unit whose translation is on. A unit for which that fails is left as it is.
    pub(crate) fn take_over(machine: &mut Machine) -> Result<Self, RemappingError> {
        let table = machine.tables.dmar.take().ok_or(RemappingError::NoTable)?;
        let dmar = Dmar::parse(table.bytes())?;
        let budget = machine.reserved() / PAGE_SIZE / BUDGET_DIVISOR;
        let mut frames = FramePool::new(budget as usize).ok_or(RemappingError::NoMemory)?;
        let kept_free = kept_free(&dmar, machine);
        let memory = machine.old.ranges().iter().chain(&machine.own).copied();
        let memory: Vec<Range> = memory.chain(machine.params.acpi()).collect();
        let own: Vec<Range> = machine.own.iter().chain(&machine.loaded).copied().collect();
        let drhds = || dmar.units().take(MOST_UNITS);
        let serves: Vec<Serves> = drhds().map(|drhd| Serves::new(&drhd, &machine.devices)).collect();
        let host_address_bits = dmar.host_address_bits();
        let mut units = Vec::new();
        for (index, drhd) in drhds().enumerate() {
            let device_tlbs = device_tlbs(&machine.devices, &serves, index);
            let surroundings = Surroundings {
                host_address_bits,
                memory: &memory,
                own: &own,
                kept_free: &kept_free,
                device_tlbs: &device_tlbs,
            };
            let limits = limits(frames.available(), serves.len() - index);
            let mut registers = Vec::new();
            let state = take_over(&drhd, machine, &mut frames, &surroundings, &limits, &mut registers);
            let state = state.unwrap_or_else(State::Lost);
            units.push(Unit { base: drhd.base, serves: serves[index].clone(), registers, state });
        }
        let table_is_sound = dmar.is_sound();
        Ok(Self { units, frames, host_address_bits, table_is_sound, old: machine.old.clone() })
    }

    /// Finds out how a device reaches memory; behind a unit that was taken over, it gets a domain of ours, and so do
    /// the `aliases` under which its requests may come.
    pub(crate) fn attach(&mut self, function: Function, aliases: &[Function]) -> Result<Reach, ReachError> {
        let Some(index) = self.unit_of(function) else { return Ok(Reach::Direct) };
        let source = function.source();
        let aliases: Vec<SourceId> = aliases.iter().map(|alias| alias.source()).collect();
        match &mut self.units[index].state {
            State::Off => Ok(Reach::Direct),
            State::Lost(_) => Err(ReachError::Lost),
            State::TakenOver(unit) => {
                Ok(Reach::Translated(index, unit.attach(source, &aliases, &mut self.frames)?))
            }
        }
    }

    /// Makes own memory reachable for a device and returns the address it has there; `None` if that is impossible.
    pub(crate) fn map(&mut self, reach: &Reach, memory: Range) -> Option<u64> {
        let Reach::Translated(index, attachment) = reach else { return Some(memory.start) };
        let State::TakenOver(unit) = &mut self.units.get_mut(*index)?.state else { return None };
        unit.map(attachment, memory.start, memory.len(), Permission::ReadWrite, &self.old, &mut self.frames)
            .ok()
    }

    fn unit_of(&self, function: Function) -> Option<usize> {
        unit_of(&self.units.iter().map(|unit| &unit.serves), function)
    }
}

/// The device-TLBs of the devices whose requests this unit translates.
fn device_tlbs(devices: &[Device<Mmio>], serves: &[Serves], unit: usize) -> Vec<DeviceTlb> {
    let own = devices.iter().filter(|device| unit_of(&serves.iter(), device.function) == Some(unit));
    own.filter_map(Device::device_tlb).collect()
}

/// Bounds of the takeover of one unit when `frames` are left for it and those after it, `units` in all: half of the
/// frames it may take as it needs them, of the other half those after it get a fair share each.
fn limits(frames: usize, units: usize) -> Limits {
    let limits = Limits::default();
    let for_others = frames / 2 * (units - 1) / units;
    Limits { spare_frames: limits.spare_frames + for_others, ..limits }
}

fn take_over(
    drhd: &Drhd,
    machine: &mut Machine,
    frames: &mut FramePool,
    surroundings: &Surroundings,
    limits: &Limits,
    found: &mut Vec<Register>,
) -> Result<State, LostError> {
    let unit = find_unit(drhd, machine, limits)?;
    found.extend(
        readable_registers()
            .map(|register| Register { offset: register.offset as u16, value: unit.read(register) }),
    );
    if !unit.status().tes() {
        return Ok(State::Off);
    }
    let unit = takeover::take_over(unit, &machine.old, frames, surroundings, limits)?;
    Ok(State::TakenOver(Box::new(unit)))
}

/// Maps a unit's registers: as many as the firmware's table says, and more if the unit itself says that it has more.
fn find_unit(
    drhd: &Drhd,
    machine: &mut Machine,
    limits: &Limits,
) -> Result<takeover::Unit<'static, UnitRegisters, Tsc>, LostError> {
    let mut open = |size: usize| -> Result<_, LostError> {
        let range = Range::new(drhd.base, drhd.base.saturating_add(size as u64));
        let registers = UnitRegisters::map(&mut machine.space, range)?;
        Ok(takeover::Unit::new(registers, size, &CLOCK, limits.deadline)?)
    };
    let told = drhd.register_bytes() as usize;
    let unit = open(told)?;
    if unit.register_bytes() <= told { Ok(unit) } else { Ok(open(unit.register_bytes()).unwrap_or(unit)) }
}

/// The registers that say something when they are read.
fn readable_registers() -> impl Iterator<Item = vtd::registers::Register> {
    FIXED.into_iter().filter(|register| register.access != Access::WriteOnly)
}

/// I/O addresses that no driver may get: reserved memory regions, what firmware keeps, and what PCI takes for itself on
/// the way to memory.
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
    let firmware = machine.params.kept_by_firmware();
    let all = reserved.chain(firmware).chain(windows).chain(claimed).chain([hole]);
    all.filter(|range| !range.is_empty()).collect()
}
