//! Takes over a modelled machine.

use machine::{Clock, Frames, IoAddress, OldMemory, PhysicalAddress, Range, Registers, SourceId};
use model::random::RESERVED_MEMORY;
use model::{Architecture, Machine, MemoryKind, Ticks, UnitRegisters};
use std::collections::BTreeSet;
use std::time::Duration;
use takeover::failure::{InForce, Reason};
use takeover::{DeviceTlb, Failure, IdentityMap, Limits, Patience, Surroundings, Takeover, Unit};

/// Bytes of the registers of a unit of VT-d.
pub const REGISTERS: usize = 4096;

/// I/O addresses that are reserved on every modelled machine: an RMRR and a bridge window.
pub const KEPT_FREE: [Range<IoAddress>; 2] = [
    Range::new(IoAddress::new(RESERVED_MEMORY.start.get()), IoAddress::new(RESERVED_MEMORY.end.get())),
    Range::new(IoAddress::new(0xC000_0000), IoAddress::new(0xFEC0_0000)),
];

/// How long one wait may take on the model, where each reading of the clock takes 1 ms.
pub const DEADLINE: Duration = Duration::from_millis(300);

/// A takeover of a modelled machine's unit.
pub type Taken<'c> = Takeover<'c, UnitRegisters, Ticks>;

/// Limits that suit modelled machines, on which reading a table costs a thousand times as much as on a real one.
pub fn limits() -> Limits {
    let patience = Patience { devices: DEADLINE, ..Patience::default() };
    Limits { deadline: DEADLINE, patience, looks: 1 << 11, ..Limits::default() }
}

/// What the capture kernel knows of a machine's memory.
#[derive(Clone, Debug)]
pub struct Layout {
    /// All memory.
    pub memory: Vec<Range<PhysicalAddress>>,
    /// I/O addresses that no driver gets: RMRRs, and windows of PCI bridges.
    pub kept_free: Vec<Range<IoAddress>>,
    /// Other memory that devices may reach.
    pub other_memory: Vec<Range<PhysicalAddress>>,
    /// The capture kernel's memory.
    pub own: Vec<Range<PhysicalAddress>>,
    /// Physical address bits.
    pub host_address_bits: u32,
    /// The devices with a device-TLB.
    pub device_tlbs: Vec<DeviceTlb>,
    /// The devices that will be attached.
    pub wanted: Vec<SourceId>,
    /// Memory of the old kernel's that other units use on.
    pub in_use: Vec<Range<PhysicalAddress>>,
    /// Maps that takeovers of the machine's other units made in place of pass-through.
    pub maps: Vec<IdentityMap>,
}

impl Layout {
    /// Collects what a takeover of one of the machine's units needs to know.
    pub fn of(machine: &Machine, unit: usize) -> Self {
        let (old, own) = (machine.ranges(MemoryKind::Old), machine.ranges(MemoryKind::Capture));
        let host_address_bits = machine.host_address_bits(unit);
        let keeping = machine.device_tlbs(unit);
        let tlb = |source| {
            let (enabled, source) = (keeping.contains(&source), SourceId(source));
            DeviceTlb { source, enabled, physical: source, depth: 1, tellings: 1 }
        };
        let functions = keeping.iter().copied().chain(machine.devices(unit)).collect::<BTreeSet<u16>>();
        let device_tlbs = functions.into_iter().map(tlb).collect();
        Self {
            memory: old.into_iter().chain(own.iter().copied()).collect(),
            kept_free: KEPT_FREE.to_vec(),
            other_memory: Vec::new(),
            own,
            host_address_bits,
            device_tlbs,
            wanted: Vec::new(),
            in_use: Vec::new(),
            maps: Vec::new(),
        }
    }

    /// Knows of a function that is there, and has no device-TLB.
    pub fn know(&mut self, source: SourceId) {
        if !self.device_tlbs.iter().any(|tlb| tlb.source == source) {
            self.device_tlbs.push(DeviceTlb {
                source,
                enabled: false,
                physical: source,
                depth: 1,
                tellings: 1,
            });
        }
    }

    /// Knows nothing any more of a function that has a device-TLB.
    pub fn forget(&mut self, source: SourceId) {
        self.device_tlbs.retain(|tlb| tlb.source != source);
    }

    /// The same in the form that a takeover takes.
    pub fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            host_address_bits: self.host_address_bits,
            memory: &self.memory,
            other_memory: &self.other_memory,
            own: &self.own,
            kept_free: &self.kept_free,
            in_use: &self.in_use,
            device_tlbs: &self.device_tlbs,
            wanted: &self.wanted,
            maps: &self.maps,
        }
    }
}

/// Takes over a unit of the machine through any ports: the machine's own, or ports that a test has tampered with.
pub fn take_over_through<'c, R: Registers, C: Clock>(
    (machine, unit): (&Machine, usize),
    registers: R,
    old: &impl OldMemory,
    frames: &mut impl Frames,
    clock: &'c C,
    limits: &Limits,
) -> Result<Takeover<'c, R, C>, Failure> {
    let layout = Layout::of(machine, unit);
    let unit = unit_behind(machine.architecture(unit), registers, clock)?;
    Ok(takeover::take_over(unit, old, frames, &layout.surroundings(), limits)?)
}

/// Takes over a unit of the machine, of which the capture kernel knows `layout`, through the machine's own ports.
pub fn take_over_knowing<'c>(
    layout: &Layout,
    (machine, unit): (&Machine, usize),
    frames: &mut impl Frames,
    clock: &'c Ticks,
    limits: &Limits,
) -> Result<Taken<'c>, Failure> {
    let behind = self::unit(machine, unit, clock)?;
    Ok(takeover::take_over(behind, &machine.old_memory(), frames, &layout.surroundings(), limits)?)
}

/// A unit of the machine, through the machine's own ports.
pub fn unit<'c>(
    machine: &Machine,
    unit: usize,
    clock: &'c Ticks,
) -> Result<Unit<'c, UnitRegisters, Ticks>, Failure> {
    unit_behind(machine.architecture(unit), machine.registers(unit), clock)
}

/// The unit behind registers.
fn unit_behind<R: Registers, C: Clock>(
    architecture: Architecture,
    registers: R,
    clock: &C,
) -> Result<Unit<'_, R, C>, Failure> {
    let unit = match architecture {
        Architecture::Vtd => Unit::vtd(registers, REGISTERS, clock),
        Architecture::AmdVi => Unit::amdvi(registers, clock),
    };
    unit.map_err(|error| Failure { reason: Reason::Unit(error), in_force: InForce::Old })
}

/// Takes over a unit of the machine, through the machine's own ports.
pub fn take_over<'c>(
    machine: &Machine,
    unit: usize,
    frames: &mut impl Frames,
    clock: &'c Ticks,
    limits: &Limits,
) -> Result<Taken<'c>, Failure> {
    take_over_through((machine, unit), machine.registers(unit), &machine.old_memory(), frames, clock, limits)
}
