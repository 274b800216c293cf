//! PCI functions: found and described by reading their configuration space only.
//!
//! Every bus of every group is looked at, rather than following bridges from bus 0: that finds the buses behind further
//! host bridges, which only ACPI's interpreted tables name, and no damaged bridge can lead it astray.
//! (PCI Express base specification 6.0, chapter 7.)

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod aliases;
mod ats;
pub mod capabilities;

extern crate alloc;

use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use machine::{Range, Registers};

pub use aliases::aliases;
use vtd::source::SourceId;

// Offsets in configuration space (section 7.5.1) and their bits.
const VENDOR_ID: usize = 0x00;
/// What is read where nothing is: ones, or zeros where what should be configuration space is not.
const NO_VENDOR: [u16; 2] = [0xFFFF, 0];
const DEVICE_ID: usize = 0x02;
const COMMAND: usize = 0x04;
const HEADER_TYPE: usize = 0x0E;
const BARS: usize = 0x10;
const SECONDARY_BUS: usize = 0x19;
const SUBORDINATE_BUS: usize = 0x1A;
const MEMORY_WINDOW: usize = 0x20;
const PREFETCHABLE_WINDOW: usize = 0x24;
const PREFETCHABLE_BASE_UPPER: usize = 0x28;
const PREFETCHABLE_LIMIT_UPPER: usize = 0x2C;
const COMMAND_MEMORY_AND_MASTER: u16 = 0b110;
const MULTI_FUNCTION: u8 = 1 << 7;
const BRIDGE_HEADER: u8 = 1;

/// Functions of all segments that are taken note of. Machines with thousands of virtual functions have fewer.
pub const MOST_FUNCTIONS: usize = 1 << 14;

/// Bytes in a function's configuration space.
pub const CONFIG_SIZE: usize = 4096;

/// Where a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    /// Segment group.
    pub segment: u16,
    /// Bus number.
    pub bus: u8,
    /// Device (bits 7 to 3) and function (bits 2 to 0).
    pub devfn: u8,
}

impl Function {
    /// The source-id of its requests.
    pub fn source(self) -> SourceId {
        SourceId::new(self.bus, self.devfn)
    }

    /// Offset of its configuration space from that of bus 0.
    pub fn ecam_offset(self) -> u64 {
        u64::from(self.bus) << 20 | u64::from(self.devfn) << 12
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.segment, self.bus, self.devfn >> 3, self.devfn & 7)
    }
}

/// The text is not of the form `SSSS:BB:DD.F`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFunction;

impl FromStr for Function {
    type Err = NoFunction;

    fn from_str(text: &str) -> Result<Self, NoFunction> {
        let parse = || {
            let (segment, rest) = text.split_once(':')?;
            let (bus, rest) = rest.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            let device = u8::from_str_radix(device, 16).ok().filter(|&device| device < 32)?;
            let function = u8::from_str_radix(function, 16).ok().filter(|&function| function < 8)?;
            Some(Self {
                segment: u16::from_str_radix(segment, 16).ok()?,
                bus: u8::from_str_radix(bus, 16).ok()?,
                devfn: device << 3 | function,
            })
        };
        parse().ok_or(NoFunction)
    }
}

/// A function that is there, and its configuration space.
#[derive(Clone, Copy, Debug)]
pub struct Device<R> {
    /// Where it is.
    pub function: Function,
    /// Its configuration space, [`CONFIG_SIZE`] bytes.
    pub config: R,
}

/// Adds to `found` the functions on `buses` of `segment`; `open` gives access to a function's configuration space.
///
/// Garbage there may look like any number of functions: the first ones are all, so that memory is left for the rest.
pub fn scan<R: Registers>(
    segment: u16,
    buses: impl Iterator<Item = u8>,
    open: impl Fn(Function) -> Option<R>,
    found: &mut Vec<Device<R>>,
) {
    let slots = buses.flat_map(|bus| (0..32).map(move |slot| Function { segment, bus, devfn: slot << 3 }));
    for device in slots.flat_map(|first| functions_of(first, &open)) {
        if found.len() == MOST_FUNCTIONS || found.try_reserve(1).is_err() {
            break;
        }
        found.push(device);
    }
}

/// The functions of the device whose function 0 is `first`.
fn functions_of<R: Registers>(
    first: Function,
    open: impl Fn(Function) -> Option<R>,
) -> impl Iterator<Item = Device<R>> {
    let present = move |function| {
        let config = open(function).filter(|config| !NO_VENDOR.contains(&config.read16(VENDOR_ID)))?;
        Some(Device { function, config })
    };
    let device = present(first);
    let several =
        device.as_ref().is_some_and(|device| device.config.read8(HEADER_TYPE) & MULTI_FUNCTION != 0);
    let others = (1..=if several { 7 } else { 0 })
        .map(move |number| Function { devfn: first.devfn | number, ..first });
    device.into_iter().chain(others.filter_map(present))
}

impl<R: Registers> Device<R> {
    /// Vendor and device identification.
    pub fn id(&self) -> (u16, u16) {
        (self.config.read16(VENDOR_ID), self.config.read16(DEVICE_ID))
    }

    /// The address in memory space that base address register `index` holds; `None` if it is not for memory or empty.
    pub fn bar(&self, index: usize) -> Option<u64> {
        const IO: u32 = 1;
        const TYPE: u32 = 0b110;
        const SIXTY_FOUR: u32 = 0b100;
        let last = if self.is_bridge() { 1 } else { 5 };
        let register = |index| (index <= last).then(|| self.config.read32(BARS + 4 * index));
        let low = register(index)?;
        let high = if low & TYPE == SIXTY_FOUR { register(index + 1)? } else { 0 };
        let address = u64::from(low & !0xF) | u64::from(high) << 32;
        (low & IO == 0 && address != 0).then_some(address)
    }

    /// Memory addresses that its base address registers may claim.
    ///
    /// Their sizes cannot be read without changing registers of a device at work. But each is a power of two and divides
    /// the address, so the largest that it can be is known.
    pub fn claimed(&self) -> impl Iterator<Item = Range> {
        const LARGEST: u64 = 16 << 30;
        (0..6).filter_map(|index| self.bar(index)).filter_map(|address| {
            let largest = 1 << address.trailing_zeros();
            Range::sized(address, LARGEST.min(largest))
        })
    }

    /// The bus behind this function and the windows of memory addresses that it forwards, if it is a bridge.
    pub fn bridge(&self) -> Option<Bridge> {
        let upper = |offset| u64::from(self.config.read32(offset));
        self.is_bridge().then(|| Bridge {
            secondary_bus: self.config.read8(SECONDARY_BUS),
            subordinate_bus: self.config.read8(SUBORDINATE_BUS),
            windows: [
                window(self.config.read32(MEMORY_WINDOW), 0, 0),
                window(
                    self.config.read32(PREFETCHABLE_WINDOW),
                    upper(PREFETCHABLE_BASE_UPPER),
                    upper(PREFETCHABLE_LIMIT_UPPER),
                ),
            ],
        })
    }

    /// Lets the device answer in memory space and do DMA.
    pub fn enable(&mut self) {
        let command = self.config.read16(COMMAND);
        self.config.write16(COMMAND, command | COMMAND_MEMORY_AND_MASTER);
    }

    fn is_bridge(&self) -> bool {
        self.config.read8(HEADER_TYPE) & !MULTI_FUNCTION == BRIDGE_HEADER
    }
}

/// What a bridge between PCI buses forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// The bus behind it.
    pub secondary_bus: u8,
    /// The last of the buses behind it.
    pub subordinate_bus: u8,
    /// Memory addresses that it takes for devices behind it: not prefetchable, prefetchable. Empty when closed.
    pub windows: [Range; 2],
}

/// A bridge's window from its base and limit registers (sections 7.5.1.3.8 to 7.5.1.3.10), in units of 1 MiB.
fn window(base_and_limit: u32, base_upper: u64, limit_upper: u64) -> Range {
    let base = u64::from(base_and_limit & 0xFFF0) << 16 | base_upper << 32;
    let limit = u64::from(base_and_limit & 0xFFF0_0000) | limit_upper << 32 | 0xF_FFFF;
    // A limit below the base closes the window: the range is empty.
    Range::new(base, limit.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixtures::ConfigSpace;

    const PLACE: Function = Function { segment: 0, bus: 0, devfn: 0xF8 };

    fn device(fields: &[(usize, &[u8])]) -> Device<ConfigSpace> {
        Device { function: PLACE, config: ConfigSpace::new(fields) }
    }

    #[test]
    fn a_function_is_written_as_lspci_writes_it() {
        assert_eq!("0000:00:1f.0".parse(), Ok(PLACE));
        assert_eq!(PLACE.to_string(), "0000:00:1f.0");
        for wrong in ["", "0:0:0", "0000:00:20.0", "0000:00:1f.8", "10000:00:00.0", "0000:100:00.0"] {
            assert_eq!(wrong.parse::<Function>(), Err(NoFunction), "{wrong}");
        }
    }

    #[test]
    fn other_functions_are_looked_for_where_function_0_says_there_are_some() {
        let vendor: (usize, &[u8]) = (VENDOR_ID, &[0x86, 0x80]);
        let open = |function: Function| match (function.bus, function.devfn) {
            (0, 0x08 | 0x09) | (1, 0x01) => Some(ConfigSpace::new(&[vendor])),
            (1, 0x18 | 0x1F) => Some(ConfigSpace::new(&[vendor, (HEADER_TYPE, &[0x80])])),
            (1, _) => Some(ConfigSpace::new(&[])),
            _ => Some(ConfigSpace::new(&[(VENDOR_ID, &[0xFF; 4])])),
        };
        let mut found = Vec::new();
        scan(0, 0..=1, open, &mut found);
        let found: Vec<_> = found.iter().map(|device| device.function.to_string()).collect();
        assert_eq!(found, ["0000:00:01.0", "0000:01:03.0", "0000:01:03.7"]);
    }

    #[test]
    fn garbage_that_looks_like_functions_everywhere_is_bounded() {
        let everywhere = ConfigSpace::new(&[(VENDOR_ID, &[0x55; CONFIG_SIZE])]);
        everywhere.put(HEADER_TYPE, &[0x80]);
        let mut found = Vec::new();
        (0..2).for_each(|segment| scan(segment, 0..=255, |_| Some(everywhere.clone()), &mut found));
        assert_eq!(found.len(), MOST_FUNCTIONS);
    }

    #[test]
    fn base_address_registers_are_32_or_64_bits_wide() {
        let device =
            device(&[(0x10, &[0x0C, 0, 0, 0xFE, 1]), (0x18, &[0x01, 0xC0]), (0x1C, &[0, 0, 0, 0xFD])]);
        assert_eq!(device.bar(0), Some(0x1_FE00_0000));
        assert_eq!(device.bar(2), None, "an I/O port");
        assert_eq!(device.bar(3), Some(0xFD00_0000));
        assert_eq!(device.bar(6), None);
    }

    #[test]
    fn a_base_address_register_claims_no_more_than_its_alignment() {
        let device = device(&[(0x10, &[0x0C, 0, 0, 0, 8]), (0x18, &[0, 0x10, 0xD9, 0xFE])]);
        let claimed: Vec<_> = device.claimed().collect();
        assert_eq!(claimed[0], Range::new(0x8_0000_0000, 0xC_0000_0000));
        assert_eq!(claimed.last(), Some(&Range::new(0xFED9_1000, 0xFED9_2000)));
    }

    #[test]
    fn a_bridge_has_a_bus_and_windows() {
        let fields: [(usize, &[u8]); 5] = [
            (0x0E, &[0x81]),
            (0x19, &[5, 7]),
            (0x20, &[0x80, 0xFE, 0x90, 0xFE]),
            (0x24, &[0xF1, 0xFF, 0x01, 0x00]),
            (0x28, &[0; 8]),
        ];
        let bridge = device(&fields).bridge().unwrap();
        assert_eq!((bridge.secondary_bus, bridge.subordinate_bus), (5, 7));
        assert_eq!(bridge.windows[0], Range::new(0xFE80_0000, 0xFEA0_0000));
        assert!(bridge.windows[1].is_empty());
    }

    #[test]
    fn enabling_a_device_keeps_its_other_command_bits() {
        let mut device = device(&[(4, &[0x01, 0x04])]);
        device.enable();
        assert_eq!(device.config.read16(4), 0x0407);
    }
}
