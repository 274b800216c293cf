//! Intel's TCO timer, in the chipsets of most of its machines (Intel I/O Controller Hub 9 data sheet, sections 13.1 and 13.9; 100
//! series chipset data sheet, volume 2, "TCO Base Address").
//!
//! It counts down twice, and then resets the machine. Only the second version of its registers is known here, which came with
//! ICH6 in 2004.

use machine::{Ports, Registers};
use pci::{Class, Device};

use crate::register::usable_port;
use crate::timer::EXTENDED;

const INTEL: u16 = 0x8086;

// Registers, from the base port on.
/// Starts the countdown over when it is written; reads as the present count.
const TCO_RLD: u16 = 0x00;
const TCO1_CNT: u16 = 0x08;
const TCO_TMR: u16 = 0x12;
/// Ports of the timer.
const SIZE: u64 = 0x20;

/// [`TCO1_CNT`]: the timer is halted.
const HALTED: u16 = 1 << 11;
/// Bits of the count in [`TCO_RLD`] and [`TCO_TMR`].
const COUNT: u16 = 0x3FF;
/// Milliseconds in a count.
const PERIOD: u64 = 600;

/// A timer that runs.
#[derive(Debug)]
pub(crate) struct Tco {
    base: u16,
}

impl Tco {
    /// Looks whether this function has the timer, and whether it runs.
    ///
    /// After a reset the timer is not halted, but does not count either before its first start: its count is 0 then.
    pub(crate) fn find(device: &Device<impl Registers>, ports: &mut impl Ports) -> Option<Self> {
        let base = base(device)?;
        let counts = ports.read16(base + TCO_RLD) & COUNT != 0;
        let control = ports.read16(base + TCO1_CNT);
        (counts && control & HALTED == 0).then_some(Self { base })
    }

    /// Sets the countdown to [`EXTENDED`], unless it is longer; returns how long it is, in milliseconds. The timer takes the
    /// count at the next ping.
    pub(crate) fn extend(&mut self, ports: &mut impl Ports) -> u64 {
        let register = ports.read16(self.base + TCO_TMR);
        let wanted = (EXTENDED.as_millis() as u64 / PERIOD) as u16;
        let count = wanted.max(register & COUNT);
        ports.write16(self.base + TCO_TMR, register & !COUNT | count);
        u64::from(count) * PERIOD
    }

    pub(crate) fn ping(&mut self, ports: &mut impl Ports) {
        ports.write16(self.base + TCO_RLD, 1);
    }
}

/// The timer's first port: beside power management, which the bridge to the old bus decodes, or since the 100 series where the
/// SMBus controller says.
fn base(device: &Device<impl Registers>) -> Option<u16> {
    const ISA_BRIDGE: Class = Class { base: 0x06, sub: 0x01, interface: 0 };
    const SMBUS: Class = Class { base: 0x0C, sub: 0x05, interface: 0 };
    let (identity, function) = (device.identity(), device.function);
    if identity.vendor != INTEL || (function.segment, function.bus) != (0, 0) {
        return None;
    }
    match (function.devfn, identity.class) {
        (0xF8, ISA_BRIDGE) => beside_power_management(&device.config),
        (0xFC, SMBUS) => own_base(&device.config),
        _ => None,
    }
}

/// PMBASE and ACPI_CNTL of the bridge.
fn beside_power_management(config: &impl Registers) -> Option<u16> {
    const PMBASE: usize = 0x40;
    const ACPI_CNTL: usize = 0x44;
    const ACPI_EN: u8 = 1 << 7;
    const TCO: u32 = 0x60;
    let pmbase = config.read32(PMBASE);
    let is_on = pmbase & 1 != 0 && config.read8(ACPI_CNTL) & ACPI_EN != 0;
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
