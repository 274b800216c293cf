//! Configuration space of PCI functions: mapped into memory, or behind two I/O ports on machines whose firmware lists no
//! mapping.

use machine::Registers;
use pci::Function;
use x86_64::instructions::port::Port;

use crate::platform::mmio::Mmio;

/// A function's configuration space.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Config {
    /// All of it, in memory.
    Mapped(Mmio),
    /// The part that conventional PCI has, behind ports.
    Ports(ConfigPorts),
}

/// The first 256 bytes of a function's configuration space, reached by configuration mechanism #1 (PCI local bus
/// specification 3.0, section 3.2.2.3.2). The rest reads ones, as where nothing answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfigPorts {
    /// CONFIG_ADDRESS for the function's first register.
    first: u32,
}

/// CONFIG_ADDRESS: which register CONFIG_DATA shows.
const ADDRESS: u16 = 0xCF8;
const DATA: u16 = 0xCFC;
/// In CONFIG_ADDRESS: the data port shows configuration space.
const ENABLE: u32 = 1 << 31;

impl ConfigPorts {
    /// Whether the machine has these ports: only then does CONFIG_ADDRESS hold what is written to it.
    pub(crate) fn are_present() -> bool {
        write(ADDRESS, ENABLE);
        read::<u32>(ADDRESS) == ENABLE
    }

    /// The configuration space of a function; `None` in another segment than the first.
    pub(crate) fn of(function: Function) -> Option<Self> {
        let first = ENABLE | u32::from(function.requester_id()) << 8;
        (function.segment == 0).then_some(Self { first })
    }

    /// Has the data ports show the register at `offset`, and returns the port of its first byte; `None` if the register is in
    /// the part that these ports do not reach.
    fn show(self, offset: usize) -> Option<u16> {
        let address = self.address_of(offset)?;
        write(ADDRESS, address);
        Some(DATA + (offset % 4) as u16)
    }

    fn address_of(self, offset: usize) -> Option<u32> {
        (offset < pci::capabilities::STANDARD_SIZE).then_some(self.first | (offset as u32 & !0b11))
    }

    fn read<T: PortValue>(self, offset: usize) -> T {
        self.show(offset).map_or(T::ONES, read)
    }

    /// Writes a register that these ports reach.
    pub(crate) fn write<T: PortValue>(self, offset: usize, value: T) {
        if let Some(port) = self.show(offset) {
            write(port, value);
        }
    }
}

/// A value that ports hold.
pub(crate) trait PortValue:
    x86_64::instructions::port::PortRead + x86_64::instructions::port::PortWrite
{
    /// What is read where nothing answers.
    const ONES: Self;
}

impl PortValue for u8 {
    const ONES: Self = Self::MAX;
}

impl PortValue for u16 {
    const ONES: Self = Self::MAX;
}

impl PortValue for u32 {
    const ONES: Self = Self::MAX;
}

fn read<T: PortValue>(port: u16) -> T {
    // SAFETY: these ports are PCI's, or nobody's; reading configuration space has no effect.
    unsafe { Port::new(port).read() }
}

fn write<T: PortValue>(port: u16, value: T) {
    // SAFETY: these ports are PCI's, or nobody's; what a register does with the value is its driver's business. No other
    // processor runs that would use the ports at the same time.
    unsafe { Port::new(port).write(value) }
}

/// Calls the method of the same name of whichever it is.
macro_rules! forward {
    ($self:ident.$name:ident($($argument:expr),*) or $by_ports:expr) => {
        match $self {
            Self::Mapped(mapped) => mapped.$name($($argument),*),
            Self::Ports(ports) => $by_ports(ports),
        }
    };
}

impl Registers for Config {
    fn read8(&self, offset: usize) -> u8 {
        forward!(self.read8(offset) or |ports: &ConfigPorts| ports.read(offset))
    }

    fn read16(&self, offset: usize) -> u16 {
        forward!(self.read16(offset) or |ports: &ConfigPorts| ports.read(offset))
    }

    fn read32(&self, offset: usize) -> u32 {
        forward!(self.read32(offset) or |ports: &ConfigPorts| ports.read(offset))
    }

    fn read64(&self, offset: usize) -> u64 {
        u64::from(self.read32(offset)) | u64::from(self.read32(offset + 4)) << 32
    }

    fn write8(&mut self, offset: usize, value: u8) {
        forward!(self.write8(offset, value) or |ports: &mut ConfigPorts| ports.write(offset, value));
    }

    fn write16(&mut self, offset: usize, value: u16) {
        forward!(self.write16(offset, value) or |ports: &mut ConfigPorts| ports.write(offset, value));
    }

    fn write32(&mut self, offset: usize, value: u32) {
        forward!(self.write32(offset, value) or |ports: &mut ConfigPorts| ports.write(offset, value));
    }

    fn write64(&mut self, offset: usize, value: u64) {
        self.write32(offset, value as u32);
        self.write32(offset + 4, (value >> 32) as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_has_its_address_in_the_ports_of_the_first_segment() {
        let of = |segment| ConfigPorts::of(Function { segment, bus: 0x12, devfn: 0x83 });
        let ports = of(0).unwrap();
        assert_eq!((ports.address_of(0), ports.address_of(0x3E)), (Some(0x8012_8300), Some(0x8012_833C)));
        assert_eq!(ports.address_of(0xFF), Some(0x8012_83FC));
        assert_eq!((ports.address_of(0x100), of(1).is_none()), (None, true));
    }

    #[test]
    fn what_the_ports_do_not_reach_reads_ones() {
        let config = Config::Ports(ConfigPorts::of(Function { segment: 0, bus: 0, devfn: 0 }).unwrap());
        assert_eq!((config.read16(0x100), config.read64(0xFF8)), (u16::MAX, u64::MAX));
        let function = Function { segment: 0, bus: 0, devfn: 0 };
        assert_eq!(pci::Device { function, config }.ats(), None);
    }
}
