//! A function that is present, described by the header of its configuration space (7.5.1).

use bitfield_struct::bitfield;
use machine::{IoAddress, PhysicalAddress, Position, Range, Registers};

use crate::Function;

/// Vendor ID (7.5.1.1.1): 16 bits, read-only.
pub(crate) const VENDOR_ID: usize = 0x00;
/// Device ID (7.5.1.1.2): 16 bits, read-only.
const DEVICE_ID: usize = 0x02;
/// Command (7.5.1.1.3): 16 bits, read-write.
pub(crate) const COMMAND: usize = 0x04;
/// Programming interface, sub-class and base class, a byte each (7.5.1.1.6): read-only.
const CLASS: usize = 0x09;
/// Header type (7.5.1.1.9): 8 bits, read-only.
pub(crate) const HEADER_TYPE: usize = 0x0E;
/// Base address registers (7.5.1.2.1): 32 bits each, read-write.
pub(crate) const BARS: usize = 0x10;
/// Index of the last one; bridges have fewer.
pub(crate) const LAST_BAR: usize = 5;

/// The command register.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
struct Command {
    /// The function answers in I/O space.
    io_space: bool,
    /// The function answers in memory space.
    memory_space: bool,
    /// The function may issue requests.
    bus_master: bool,
    #[bits(13)]
    others: u16,
}

/// The header type register.
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub(crate) struct HeaderType {
    /// The layout of the header after the part that all headers share.
    #[bits(7)]
    layout: u8,
    /// The device may have other functions.
    pub(crate) multi_function: bool,
}

/// [`HeaderType::layout`] of a bridge between PCI buses.
const BRIDGE_LAYOUT: u8 = 1;

/// A base address register, or the lower half of one.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
struct Bar {
    /// The address is in I/O space.
    io_space: bool,
    /// How wide a memory address is.
    #[bits(2)]
    width: u8,
    prefetchable: bool,
    /// Bits 31 to 4 of a memory address.
    #[bits(28)]
    address: u32,
}

/// [`Bar::width`] of an address whose upper half is in the next register.
const SIXTY_FOUR_BITS: u8 = 0b10;

/// A present function and its configuration space.
#[derive(Clone, Copy, Debug)]
pub struct Device<R> {
    /// Its address.
    pub function: Function,
    /// Its configuration space, [`CONFIG_SIZE`](crate::CONFIG_SIZE) bytes.
    pub config: R,
}

/// How a function identifies itself: enough to choose its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The vendor.
    pub vendor: u16,
    /// Which of the vendor's devices it is.
    pub device: u16,
    /// Its class, which says what it does and how drivers use it.
    pub class: Class,
}

/// What a function does: a class code (PCI Code and ID Assignment specification, section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// The base class; 1 is mass storage.
    pub base: u8,
    /// The sub-class.
    pub sub: u8,
    /// The programming interface.
    pub interface: u8,
}

impl Class {
    /// The class of a 24-bit class code, as Linux writes it in `/sys`: base class, sub-class, programming interface.
    pub const fn from_code(code: u32) -> Self {
        let [_, base, sub, interface] = code.to_be_bytes();
        Self { base, sub, interface }
    }
}

impl Identity {
    /// Reads the identity from a function's configuration space.
    pub fn read(config: &impl Registers) -> Self {
        let class = |byte| config.read8(CLASS + byte);
        Self {
            vendor: config.read16(VENDOR_ID),
            device: config.read16(DEVICE_ID),
            class: Class { base: class(2), sub: class(1), interface: class(0) },
        }
    }
}

/// Which functions a driver runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// One device of one vendor, of any class.
    Ids {
        /// The vendor.
        vendor: u16,
        /// Which of the vendor's devices it is.
        device: u16,
    },
    /// All functions of a class, which share a standard interface.
    Class(Class),
}

impl Match {
    /// Whether a function with this identity matches.
    pub fn fits(self, identity: Identity) -> bool {
        match self {
            Self::Ids { vendor, device } => (vendor, device) == (identity.vendor, identity.device),
            Self::Class(class) => class == identity.class,
        }
    }
}

impl<R: Registers> Device<R> {
    /// Reads the function's identity.
    pub fn identity(&self) -> Identity {
        Identity::read(&self.config)
    }

    /// The physical address that base address register `index` holds; `None` if it is not for memory or empty.
    pub fn bar(&self, index: usize) -> Option<PhysicalAddress> {
        let last = if self.is_bridge() { 1 } else { LAST_BAR };
        let register = |index| (index <= last).then(|| self.config.read32(BARS + 4 * index));
        let bar = Bar::from_bits(register(index)?);
        let upper = if bar.width() == SIXTY_FOUR_BITS { register(index + 1)? } else { 0 };
        let address = u64::from(bar.address()) << 4 | u64::from(upper) << 32;
        (!bar.io_space() && address != 0).then_some(PhysicalAddress::new(address))
    }

    /// The physical addresses of `length` bytes at `offset` of base address register `index`; `None` if they cannot be there.
    ///
    /// The register's size cannot be read without changing it. But it is a power of two of which the address is a multiple (PCI
    /// 6.2.5.1), so that what is further away than the address is aligned to belongs to somebody else.
    pub fn registers(&self, index: usize, offset: u64, length: u64) -> Option<Range<PhysicalAddress>> {
        let start = self.bar(index)?;
        let most = 1_u64.checked_shl(start.get().trailing_zeros()).unwrap_or(u64::MAX);
        let end = offset.checked_add(length)?;
        if end > most { None } else { Range::sized(start.checked_add(offset)?, length) }
    }

    /// Addresses in memory space that the function's base address registers may claim: a device's request for one of them
    /// may go to this function instead of to memory.
    ///
    /// Reading their sizes would mean to change registers of a device at work. But each size is a power of two and divides
    /// the address, so the largest possible size is known.
    pub fn claimed(&self) -> impl Iterator<Item = Range<IoAddress>> {
        const LARGEST: u64 = 16 << 30;
        (0..6).filter_map(|index| self.bar(index)).filter_map(|bar| {
            let address = bar.get();
            let largest = 1 << address.trailing_zeros();
            Range::sized(IoAddress::new(address), LARGEST.min(largest))
        })
    }

    /// Lets the function answer in memory space and do DMA.
    pub fn enable(&mut self) {
        let command = Command::from_bits(self.config.read16(COMMAND));
        let enabled = command.with_memory_space(true).with_bus_master(true);
        self.config.write16(COMMAND, enabled.into_bits());
        // Behind some devices the write is posted, and done once this is answered.
        let _ = self.config.read16(COMMAND);
    }

    pub(crate) fn header_type(&self) -> HeaderType {
        HeaderType::from_bits(self.config.read8(HEADER_TYPE))
    }

    pub(crate) fn is_bridge(&self) -> bool {
        self.header_type().layout() == BRIDGE_LAYOUT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixtures::ConfigSpace;

    const PLACE: Function = Function { segment: 0, bus: 0, devfn: 0xF8 };

    fn device(fields: &[(usize, &[u8])]) -> Device<ConfigSpace> {
        Device { function: PLACE, config: ConfigSpace::new(fields) }
    }

    /// The first bytes of an NVMe controller, whose class Linux calls `PCI_CLASS_STORAGE_EXPRESS` (0x010802).
    #[test]
    fn a_function_says_who_made_it_and_what_it_does() {
        let device = device(&[(0, &[0x36, 0x1B, 0x10, 0x00, 6, 0, 0x10, 0, 2, 0x02, 0x08, 0x01])]);
        let class = Class { base: 1, sub: 8, interface: 2 };
        assert_eq!(device.identity(), Identity { vendor: 0x1B36, device: 0x10, class });
        assert_eq!(Class::from_code(0x010802), class);
    }

    #[test]
    fn a_driver_runs_a_device_by_its_ids_or_by_its_class() {
        let nvme = Class::from_code(0x010802);
        let identity = Identity { vendor: 0x8086, device: 0x0A54, class: nvme };
        assert!(
            Match::Class(nvme).fits(identity) && !Match::Class(Class::from_code(0x010601)).fits(identity)
        );
        assert!(Match::Ids { vendor: 0x8086, device: 0x0A54 }.fits(identity));
        assert!(!Match::Ids { vendor: 0x8086, device: 0x0A55 }.fits(identity));
        assert!(!Match::Ids { vendor: 0x1AF4, device: 0x0A54 }.fits(identity));
    }

    #[test]
    fn registers_do_not_lie_further_away_than_their_base_is_aligned_to() {
        let device = device(&[(0x10, &[0x04, 0x40, 0xC0, 0xFE, 0])]);
        let at = |offset, length| device.registers(0, offset, length).map(|range| range.start.get());
        assert_eq!(at(0, 0x4000), Some(0xFEC0_4000));
        assert_eq!(at(0x1000, 0x3000), Some(0xFEC0_5000));
        for (offset, length) in [(0, 0x4001), (0x1000, 0x3001), (0x4000, 1), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(at(offset, length), None, "{length:#x} at {offset:#x}");
        }
        assert_eq!(device.registers(2, 0, 1), None, "there is no such register");
    }

    #[test]
    fn base_address_registers_are_32_or_64_bits_wide() {
        let device =
            device(&[(0x10, &[0x0C, 0, 0, 0xFE, 1]), (0x18, &[0x01, 0xC0]), (0x1C, &[0, 0, 0, 0xFD])]);
        assert_eq!(device.bar(0), Some(PhysicalAddress::new(0x1_FE00_0000)));
        assert_eq!(device.bar(2), None, "an I/O port");
        assert_eq!(device.bar(3), Some(PhysicalAddress::new(0xFD00_0000)));
        assert_eq!(device.bar(6), None);
    }

    #[test]
    fn a_base_address_register_claims_no_more_than_its_alignment() {
        let device = device(&[(0x10, &[0x0C, 0, 0, 0, 8]), (0x18, &[0, 0x10, 0xD9, 0xFE])]);
        let claimed: Vec<_> = device.claimed().collect();
        assert_eq!(claimed[0], Range::from(0x8_0000_0000..0xC_0000_0000));
        assert_eq!(claimed.last(), Some(&Range::from(0xFED9_1000..0xFED9_2000)));
    }

    #[test]
    fn enabling_a_device_keeps_its_other_command_bits() {
        let mut device = device(&[(4, &[0x01, 0x04])]);
        device.enable();
        assert_eq!(device.config.read16(4), 0x0407);
    }
}
