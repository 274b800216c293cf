//! The machine's remapping units: taken over, and asked for addresses that devices can use.

use alloc::boxed::Box;
use alloc::vec::Vec;

use machine::{Frames, IoAddress, PAGE_SIZE, PhysicalAddress, Range};
use record::Register;
use takeover::{AttachError, Attachment, DeviceTlb, Failure, Limits, Surroundings, Takeover, UnitError};
use vtd::dmar::{Dmar, DmarError, Drhd, Structure};
use vtd::paging::Permission;
use vtd::registers::{Access, FIXED};
use vtd::source::SourceId;

use crate::budget::Share;
use crate::discover::Machine;
#[cfg(mutations)]
use crate::mutations::unit::UnitRegisters;
use crate::platform::clock::Tsc;
use crate::platform::frames::FramePool;
use crate::platform::memory::OldRam;
use crate::platform::mmio::Mmio;
#[cfg(not(mutations))]
use crate::platform::mmio::Mmio as UnitRegisters;
use crate::platform::paging::MapError;
use crate::units::{self, Serves, source_of, unit_of};
use pci::{Device, Function};

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

/// A unit that was found.
type UnitFound = takeover::Unit<'static, UnitRegisters, Tsc>;

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
        let budget = Share::UNIT_TABLES.of(machine.reserved()) / PAGE_SIZE;
        let mut frames = FramePool::new(budget as usize).ok_or(RemappingError::NoMemory)?;
        let known = Known::of(machine, &dmar);
        let units = units::units(&dmar).enumerate();
        Ok(Self {
            units: units.map(|(index, drhd)| known.take_over(index, &drhd, machine, &mut frames)).collect(),
            frames,
            host_address_bits: known.host_address_bits,
            table_is_sound: dmar.is_sound(),
            old: machine.old.clone(),
        })
    }

    /// Finds out how a device reaches memory; behind a unit that was taken over, it gets a domain of ours, and so do
    /// the `aliases` under which its requests may come.
    pub(crate) fn attach(&mut self, function: Function, aliases: &[Function]) -> Result<Reach, ReachError> {
        let Some(index) = self.unit_of(function) else { return Ok(Reach::Direct) };
        let source = source_of(function);
        let aliases: Vec<SourceId> = aliases.iter().map(|alias| source_of(*alias)).collect();
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
        let memory = Range::from(memory.start..memory.end);
        let iova = unit.map(attachment, memory, Permission::ReadWrite, &self.old, &mut self.frames);
        iova.ok().map(IoAddress::get)
    }

    fn unit_of(&self, function: Function) -> Option<usize> {
        unit_of(&self.units.iter().map(|unit| &unit.serves), function)
    }
}

/// What is known of the machine around its units.
struct Known {
    host_address_bits: u32,
    /// The machine's memory.
    memory: Vec<Range<PhysicalAddress>>,
    /// What of it is ours.
    own: Vec<Range<PhysicalAddress>>,
    /// I/O addresses that no driver may get.
    kept_free: Vec<Range<IoAddress>>,
    /// Whose requests each unit translates.
    serves: Vec<Serves>,
}

impl Known {
    fn of(machine: &Machine, dmar: &Dmar) -> Self {
        let memory = machine.old.ranges().iter().chain(&machine.own).copied();
        Self {
            host_address_bits: dmar.host_address_bits(),
            memory: memory.chain(machine.params.acpi()).map(typed).collect(),
            own: machine.own.iter().chain(&machine.loaded).copied().map(typed).collect(),
            kept_free: kept_free(dmar, machine).into_iter().map(typed).collect(),
            serves: units::units(dmar).map(|drhd| Serves::new(&drhd, &machine.devices)).collect(),
        }
    }

    /// Takes over the unit that `drhd` describes, which is `index` in the order of the table.
    fn take_over(&self, index: usize, drhd: &Drhd, machine: &mut Machine, frames: &mut FramePool) -> Unit {
        let device_tlbs = self.device_tlbs(&machine.devices, index);
        let surroundings = Surroundings {
            host_address_bits: self.host_address_bits,
            memory: &self.memory,
            own: &self.own,
            kept_free: &self.kept_free,
            device_tlbs: &device_tlbs,
        };
        let limits = limits(frames.available(), self.serves.len() - index);
        let (registers, state) = match find_unit(drhd, machine) {
            Ok(unit) => (read_all(&unit), take_over(unit, &machine.old, frames, &surroundings, &limits)),
            Err(error) => (Vec::new(), State::Lost(error)),
        };
        Unit { base: drhd.base, serves: self.serves[index].clone(), registers, state }
    }

    /// The device-TLBs of the devices whose requests this unit translates.
    fn device_tlbs(&self, devices: &[Device<Mmio>], unit: usize) -> Vec<DeviceTlb> {
        let own = devices.iter().filter(|device| unit_of(&self.serves.iter(), device.function) == Some(unit));
        own.filter_map(units::device_tlb).collect()
    }
}

/// Bounds of the takeover of one unit when `frames` are left for it and those after it, `units` in all: half of the
/// frames it may take as it needs them, of the other half those after it get a fair share each.
fn limits(frames: usize, units: usize) -> Limits {
    let limits = Limits::default();
    let for_others = frames / 2 * (units - 1) / units;
    Limits { spare_frames: limits.spare_frames + for_others, ..limits }
}

fn take_over(
    unit: UnitFound,
    old: &OldRam,
    frames: &mut FramePool,
    surroundings: &Surroundings,
    limits: &Limits,
) -> State {
    if !unit.status().tes() {
        return State::Off;
    }
    match takeover::take_over(unit, old, frames, surroundings, limits) {
        Ok(unit) => State::TakenOver(Box::new(unit)),
        Err(refusal) => State::Lost(refusal.failure.into()),
    }
}

/// Maps a unit's registers: as many as the firmware's table says, and more if the unit itself says that it has more.
fn find_unit(drhd: &Drhd, machine: &mut Machine) -> Result<UnitFound, LostError> {
    let mut open = |size: usize| -> Result<_, LostError> {
        let range = Range::new(drhd.base, drhd.base.saturating_add(size as u64));
        let registers = UnitRegisters::map(&mut machine.space, range)?;
        Ok(takeover::Unit::new(registers, size, &CLOCK)?)
    };
    let told = drhd.register_bytes() as usize;
    let unit = open(told)?;
    if unit.register_bytes() <= told { Ok(unit) } else { Ok(open(unit.register_bytes()).unwrap_or(unit)) }
}

/// What the registers say that say something when they are read.
fn read_all(unit: &UnitFound) -> Vec<Register> {
    let readable = FIXED.into_iter().filter(|register| register.access != Access::WriteOnly);
    readable.map(|register| Register { offset: register.offset as u16, value: unit.read(register) }).collect()
}

/// A range of numbers as one of addresses of some kind.
fn typed<T: From<u64>>(range: Range) -> Range<T> {
    Range::from(range.start..range.end)
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
