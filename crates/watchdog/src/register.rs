//! A register of a firmware's table, in memory or in I/O space, checked before it is touched.

use machine::{PhysicalAddress, Ports, Range, Registers};

/// Bytes of a generic address structure (ACPI 6.5, section 5.2.3.2).
pub(crate) const ADDRESS_SIZE: usize = 12;

/// The first port of devices. Below are the board's own: DMA, interrupt and keyboard controllers, timers, the clock.
const FIRST_PORT: u16 = 0x100;
/// PCI's configuration mechanism, with the reset control register in its midst.
const CONFIGURATION: core::ops::Range<u16> = 0xCF8..0xD00;

/// A place for a register, as a generic address structure gives it. Nothing about it has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GenericAddress {
    space: u8,
    bit_width: u8,
    /// The register's lowest bit.
    pub(crate) bit_offset: u8,
    access_size: u8,
    address: u64,
}

/// How many bytes one access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Byte,
    Word,
    Dword,
}

/// A register that may be touched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Register<R> {
    place: Place<R>,
    width: Width,
}

#[derive(Clone, Copy, Debug)]
enum Place<R> {
    Port(u16),
    Memory(R),
}

impl GenericAddress {
    const SYSTEM_MEMORY: u8 = 0;
    const SYSTEM_IO: u8 = 1;

    pub(crate) fn decode(bytes: &[u8; ADDRESS_SIZE]) -> Self {
        let [space, bit_width, bit_offset, access_size, address @ ..] = *bytes;
        Self { space, bit_width, bit_offset, access_size, address: u64::from_le_bytes(address) }
    }

    /// The register that is meant. `map` gives access to registers in memory, and refuses an address where there may be
    /// memory. `None` if the register must not be touched, or is none.
    pub(crate) fn register<R: Registers>(
        self,
        map: impl FnOnce(Range<PhysicalAddress>) -> Option<R>,
    ) -> Option<Register<R>> {
        let width = self.width().filter(|width| self.address.is_multiple_of(width.bytes()))?;
        let place = match self.space {
            Self::SYSTEM_IO => Place::Port(usable_port(self.address, width.bytes())?),
            Self::SYSTEM_MEMORY if self.address != 0 => {
                Place::Memory(map(Range::sized(self.address.into(), width.bytes())?)?)
            }
            _ => return None,
        };
        Some(Register { place, width })
    }

    /// The port, if the register is in I/O space and may be touched.
    pub(crate) fn port(self) -> Option<u16> {
        (self.space == Self::SYSTEM_IO).then(|| usable_port(self.address, 1))?
    }

    /// Bytes from one register of a device to its next, as SPMI means the width.
    pub(crate) fn spacing(self) -> u8 {
        (self.bit_width / 8).max(1)
    }

    /// The size of an access; older tables leave it open, then the register's own width counts.
    fn width(self) -> Option<Width> {
        match (self.access_size, self.bit_width) {
            (1, _) | (0, 8) => Some(Width::Byte),
            (2, _) | (0, 16) => Some(Width::Word),
            (3, _) | (0, 32) => Some(Width::Dword),
            _ => None,
        }
    }
}

/// The port at `address`, if so many bytes from there on are ports of devices.
pub(crate) fn usable_port(address: u64, bytes: u64) -> Option<u16> {
    let port = u16::try_from(address).ok()?;
    let last = u16::try_from(address + bytes - 1).ok()?;
    (port >= FIRST_PORT && (last < CONFIGURATION.start || port >= CONFIGURATION.end)).then_some(port)
}

impl Width {
    fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }
}

impl<R: Registers> Register<R> {
    pub(crate) fn read(&self, ports: &mut impl Ports) -> u32 {
        match (&self.place, self.width) {
            (Place::Port(port), Width::Byte) => ports.read8(*port).into(),
            (Place::Port(port), Width::Word) => ports.read16(*port).into(),
            (Place::Port(port), Width::Dword) => ports.read32(*port),
            (Place::Memory(block), Width::Byte) => block.read8(0).into(),
            (Place::Memory(block), Width::Word) => block.read16(0).into(),
            (Place::Memory(block), Width::Dword) => block.read32(0),
        }
    }

    /// Writes as many of the lower bits as the register is wide.
    pub(crate) fn write(&mut self, ports: &mut impl Ports, value: u32) {
        match (&mut self.place, self.width) {
            (Place::Port(port), Width::Byte) => ports.write8(*port, value as u8),
            (Place::Port(port), Width::Word) => ports.write16(*port, value as u16),
            (Place::Port(port), Width::Dword) => ports.write32(*port, value),
            (Place::Memory(block), Width::Byte) => block.write8(0, value as u8),
            (Place::Memory(block), Width::Word) => block.write16(0, value as u16),
            (Place::Memory(block), Width::Dword) => block.write32(0, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixtures::ConfigSpace;

    /// Whether a register with this place is accepted; `map` accepts everything.
    fn accepted(space: u8, bit_width: u8, access_size: u8, address: u64) -> bool {
        let place = GenericAddress { space, bit_width, bit_offset: 0, access_size, address };
        place.register(|_| Some(ConfigSpace::new(&[]))).is_some()
    }

    #[test]
    fn ports_that_reset_configure_or_do_dma_are_never_touched() {
        for port in [0, 0x08, 0x61, 0x64, 0x70, 0x80, 0x92, 0xC0, 0xFF, 0xCF8, 0xCF9, 0xCFF, 0x1_0000] {
            assert!(!accepted(1, 8, 1, port), "{port:#x}");
        }
        for port in [0x100, 0x660, 0xCA2, 0xCF7, 0xD00, 0xFFFF] {
            assert!(accepted(1, 8, 1, port), "{port:#x}");
        }
        assert!(!accepted(1, 32, 3, 0xFFFE) && !accepted(1, 32, 3, 0xCF6), "it reaches beyond");
    }

    #[test]
    fn a_register_is_of_a_known_space_and_width_and_aligned() {
        assert!(accepted(0, 32, 3, 0xFED1_F410) && accepted(0, 32, 0, 0xFED1_F410));
        assert!(!accepted(0, 32, 3, 0xFED1_F412) && !accepted(0, 32, 3, 0) && !accepted(0, 32, 3, u64::MAX));
        assert!(!accepted(0, 64, 4, 0xFED1_F410) && !accepted(0, 64, 0, 0xFED1_F410));
        assert!(!accepted(2, 32, 3, 0xFED1_F410), "configuration space");
    }

    #[test]
    fn memory_that_cannot_be_mapped_is_no_register() {
        let place =
            GenericAddress { space: 0, bit_width: 32, bit_offset: 0, access_size: 3, address: 0x1000 };
        assert!(place.register::<ConfigSpace>(|_| None).is_none());
    }
}
