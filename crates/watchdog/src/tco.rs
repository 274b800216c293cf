//! Intel's TCO timer, in the chipsets of most of its machines (Intel I/O Controller Hub 9 data sheet, sections 13.1 and 13.9; 100
//! series chipset data sheet, volume 2, "TCO Base Address").
//!
//! It counts down twice, and then resets the machine. Its registers differ by [`Generation`].

use machine::{Ports, Registers};
use pci::{Class, Device};

use crate::register::usable_port;
use crate::timer::EXTENDED;

const INTEL: u16 = 0x8086;

// Registers, from the base port on.
/// Starts the countdown over when it is written; reads as the present count.
const TCO_RLD: u16 = 0x00;
const TCO1_STS: u16 = 0x04;
const TCO1_CNT: u16 = 0x08;
/// Ports of the timer.
const SIZE: u64 = 0x20;

/// [`TCO1_STS`]: the first countdown has ended. Writing one clears the bit.
const TIMEOUT: u16 = 1 << 3;
/// [`TCO1_CNT`]: the timer is halted.
const HALTED: u16 = 1 << 11;

/// How a chipset lays out the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    /// Up to ICH5 and 6300ESB, the last ones of which have processors of 64 bits: counts of six bits, in bytes.
    First,
    /// From ICH6 on: counts of ten bits, in words.
    Second,
    /// Systems on a chip with Atom processors (Bay Trail, Braswell, and Avoton in servers): as the second, in seconds.
    Atom,
}

/// A timer that runs.
#[derive(Debug)]
pub(crate) struct Tco {
    base: u16,
    generation: Generation,
}

impl Generation {
    fn of(device: u16) -> Self {
        match device {
            0x24D0 | 0x25A1 => Self::First,
            0x0F1C | 0x229C | 0x1F38..=0x1F3B => Self::Atom,
            _ => Self::Second,
        }
    }

    /// The register with the count from which the timer starts.
    fn initial(self) -> u16 {
        if self == Self::First { 0x01 } else { 0x12 }
    }

    /// Bits of a count in its registers.
    fn count(self) -> u16 {
        if self == Self::First { 0x3F } else { 0x3FF }
    }

    /// Milliseconds in a count.
    fn period(self) -> u64 {
        if self == Self::Atom { 1000 } else { 600 }
    }
}

impl Tco {
    /// Looks whether this function has the timer, and whether it runs.
    ///
    /// After a reset the timer is not halted, but does not count either before its first start: its count is 0 then.
    pub(crate) fn find(device: &Device<impl Registers>, ports: &mut impl Ports) -> Option<Self> {
        let generation = Generation::of(device.identity().device);
        let timer = Self { base: base(device, generation)?, generation };
        let counts = timer.read(TCO_RLD, ports) & generation.count() != 0;
        let control = ports.read16(timer.base + TCO1_CNT);
        (counts && control & HALTED == 0).then_some(timer)
    }

    /// Sets the countdown to [`EXTENDED`] or as near to it as the timer can count, unless it is longer; returns how long it is, in
    /// milliseconds. The timer takes the count at the next ping.
    pub(crate) fn extend(&mut self, ports: &mut impl Ports) -> u64 {
        let (mask, period) = (self.generation.count(), self.generation.period());
        let register = self.read(self.generation.initial(), ports);
        let wanted = (EXTENDED.as_millis() as u64 / period) as u16;
        let count = wanted.min(mask).max(register & mask);
        self.write(self.generation.initial(), register & !mask | count, ports);
        u64::from(count) * period
    }

    pub(crate) fn ping(&mut self, ports: &mut impl Ports) {
        if self.generation == Generation::First {
            ports.write16(self.base + TCO1_STS, TIMEOUT);
        }
        self.write(TCO_RLD, 1, ports);
    }

    /// Reads a register that has a count.
    fn read(&self, register: u16, ports: &mut impl Ports) -> u16 {
        match self.generation {
            Generation::First => ports.read8(self.base + register).into(),
            Generation::Second | Generation::Atom => ports.read16(self.base + register),
        }
    }

    fn write(&self, register: u16, value: u16, ports: &mut impl Ports) {
        match self.generation {
            Generation::First => ports.write8(self.base + register, value as u8),
            Generation::Second | Generation::Atom => ports.write16(self.base + register, value),
        }
    }
}

/// The timer's first port: beside power management, which the bridge to the old bus decodes, or since the 100 series where the
/// SMBus controller says.
fn base(device: &Device<impl Registers>, generation: Generation) -> Option<u16> {
    const ISA_BRIDGE: Class = Class { base: 0x06, sub: 0x01, interface: 0 };
    const SMBUS: Class = Class { base: 0x0C, sub: 0x05, interface: 0 };
    let (identity, function) = (device.identity(), device.function);
    if identity.vendor != INTEL || (function.segment, function.bus) != (0, 0) {
        return None;
    }
    match (function.devfn, identity.class) {
        (0xF8, ISA_BRIDGE) => beside_power_management(&device.config, generation),
        (0xFC, SMBUS) => own_base(&device.config),
        _ => None,
    }
}

/// PMBASE of the bridge, and what turns it on: ACPI_CNTL, or a bit of its own.
fn beside_power_management(config: &impl Registers, generation: Generation) -> Option<u16> {
    const PMBASE: usize = 0x40;
    const ACPI_CNTL: usize = 0x44;
    const TCO: u32 = 0x60;
    let pmbase = config.read32(PMBASE);
    let is_enabled = match generation {
        Generation::First => config.read8(ACPI_CNTL) & 1 << 4 != 0,
        Generation::Second => config.read8(ACPI_CNTL) & 1 << 7 != 0,
        Generation::Atom => pmbase & 1 << 1 != 0,
    };
    let is_on = pmbase & 1 != 0 && is_enabled;
    is_on.then(|| usable_port(u64::from(pmbase & 0xFF80) + u64::from(TCO), SIZE))?
}

/// TCOBASE and TCOCTL of the SMBus controller.
fn own_base(config: &impl Registers) -> Option<u16> {
    const TCOBASE: usize = 0x50;
    const TCOCTL: usize = 0x54;
    const TCO_BASE_EN: u32 = 1 << 8;
    let base = config.read32(TCOBASE);
    let is_on = base & 1 != 0 && config.read32(TCOCTL) & TCO_BASE_EN != 0;
    is_on.then(|| usable_port(u64::from(base & 0xFFE0), SIZE))?
}
