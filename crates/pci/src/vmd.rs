//! Intel's volume management device (VMD): an endpoint with root ports and disks behind it that the rest of PCI does not see.
//!
//! Its BAR 0 is the configuration space of the buses behind it, and BARs 2 and 4 are windows in which the functions there have
//! their registers. Each request from behind it carries its own requester ID. There is no public specification: registers and
//! device IDs are those that Linux's driver names.

use alloc::vec::Vec;

use machine::{PhysicalAddress, Position, Range, Registers};

use crate::{CONFIG_SIZE, Device, Function, Identity, capabilities, scan};

/// The first domain in which Linux counts the functions behind such devices.
pub const FIRST_DOMAIN: u32 = 0x1_0000;

const INTEL: u16 = 0x8086;
/// Devices whose buses begin at 0, and that tell of windows in a capability.
const OLD: [u16; 1] = [0x201d];
/// Devices that tell of windows in registers.
const SERVER: [u16; 1] = [0x28c0];
/// Devices that tell of windows in a capability.
const CLIENT: [u16; 9] = [0x467f, 0x4c3d, 0xa77f, 0x7d0b, 0xad0b, 0x9a0b, 0xb60b, 0xb06f, 0xb07f];

/// Bit 0: [`CONFIGURATION`] says where bus numbers begin. 16 bits.
const CAPABILITY: usize = 0x40;
/// Bits 9 and 8: where bus numbers begin. 16 bits.
const CONFIGURATION: usize = 0x44;
/// Bit 1: [`SHADOW`] holds addresses. 32 bits.
const LOCK: usize = 0x70;
/// The BARs.
const CONFIG_BAR: usize = 0;
const WINDOW_BARS: [usize; 2] = [2, 4];
/// Where in the second window the addresses are that functions behind the device know the windows by; two of 64 bits.
const SHADOW: u64 = 0x2000;
/// Bytes at the start of the second window that are the device's own.
const OWN: u64 = SHADOW + 16;
/// The ID of a vendor's own capability, and the mark of the one with addresses, "SHDW".
const VENDOR_SPECIFIC: u8 = 0x09;
const SHADOW_MARK: u32 = 0x5348_4457;
/// Configuration space of a bus.
const BUS: u64 = 1 << 20;

/// Why nothing behind a device can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VmdError {
    /// A base address register is empty, or for I/O space.
    #[error("its BAR {0} holds no address")]
    NoBar(usize),
    /// It does not say where its bus numbers begin.
    #[error("its bus numbers begin where nobody knows: setting {0}")]
    BusOffset(u8),
    /// The registers with the windows' addresses cannot be mapped, or lie nowhere.
    #[error("its windows' addresses cannot be read")]
    NoShadow,
    /// A window is said to be at an address that it cannot have.
    #[error("one of its windows is said to be at {0:#x}, which is not aligned as it must be")]
    Misplaced(u64),
}

/// A volume management device, and the numbers that its buses and addresses have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vmd {
    /// Where it is: the requests of all functions behind it carry this function's requester ID.
    pub function: Function,
    /// The domain of the functions behind it.
    pub domain: u32,
    config: PhysicalAddress,
    first_bus: u8,
    windows: [Window; 2],
}

/// A window: `most` bytes from `inside`, as functions behind the device have it, are at `outside`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    inside: u64,
    outside: u64,
    most: u64,
    /// Bytes at the start that are the device's own.
    own: u64,
}

/// Whether a function is such a device.
pub fn is_vmd(identity: Identity) -> bool {
    let known = [&OLD[..], &SERVER, &CLIENT];
    identity.vendor == INTEL && known.iter().any(|ids| ids.contains(&identity.device))
}

/// The devices among all functions, each with the domain of the functions behind it, which are counted as Linux does it.
pub fn all<R: Registers>(devices: &[Device<R>]) -> impl Iterator<Item = (u32, &Device<R>)> {
    (FIRST_DOMAIN..).zip(devices.iter().filter(|device| is_vmd(device.identity())))
}

/// The function whose requester ID the requests of `function` carry, as far as these devices are concerned.
pub fn requester<R: Registers>(devices: &[Device<R>], function: Function) -> Function {
    let mut all = all(devices);
    all.find(|(domain, _)| *domain == function.segment).map_or(function, |(_, vmd)| vmd.function)
}

impl Vmd {
    /// Reads how a device is set up, behind which functions are in `domain`. `map` gives access to registers.
    pub fn read<R: Registers, S: Registers>(
        device: &Device<R>,
        domain: u32,
        map: impl FnOnce(Range<PhysicalAddress>) -> Option<S>,
    ) -> Result<Self, VmdError> {
        let bar = |index| device.bar(index).ok_or(VmdError::NoBar(index));
        let outside = [bar(WINDOW_BARS[0])?, bar(WINDOW_BARS[1])?].map(PhysicalAddress::get);
        let inside = shadow(device, outside[1], map)?.unwrap_or(outside);
        let windows = [window(inside[0], outside[0], 0)?, window(inside[1], outside[1], OWN)?];
        let (config, first_bus) = (bar(CONFIG_BAR)?, first_bus(device)?);
        Ok(Self { function: device.function, domain, config, first_bus, windows })
    }

    /// Adds to `found` the functions behind the device, on the buses that the bridges there have. `open` gives access to the
    /// configuration space of a bus, of which the function that it returns gives the part of one function, by its offset.
    pub fn scan<R: Registers, B: Fn(usize) -> Option<R>>(
        &self,
        mut open: impl FnMut(Range<PhysicalAddress>) -> Option<B>,
        found: &mut Vec<Device<R>>,
    ) {
        let mut index = found.len();
        let mut scanned = [false; 256];
        let mut next = Some(self.first_bus);
        loop {
            if let Some(bus) = next.take()
                && let Some(config) = self.config_of(bus).and_then(&mut open)
            {
                scanned[usize::from(bus)] = true;
                let part = |function: Function| config(usize::from(function.devfn) * CONFIG_SIZE);
                scan::scan(self.domain, core::iter::once(bus), part, found);
            }
            let Some(device) = found.get(index) else { return };
            index += 1;
            let behind = device.bridge().map(|bridge| bridge.secondary_bus);
            next = behind.filter(|bus| *bus > device.function.bus && !scanned[usize::from(*bus)]);
        }
    }

    /// The physical addresses of a bus's configuration space; `None` if the device cannot have that bus.
    fn config_of(&self, bus: u8) -> Option<Range<PhysicalAddress>> {
        let offset = u64::from(bus.checked_sub(self.first_bus)?) * BUS;
        (offset < alignment(self.config.get()))
            .then(|| Range::sized(self.config.checked_add(offset)?, BUS))
            .flatten()
    }

    /// The physical addresses of registers that a function behind the device has at `inside`; `None` if they are in no window.
    pub fn physical(&self, inside: Range<PhysicalAddress>) -> Option<Range<PhysicalAddress>> {
        let (start, end) = (inside.start.get(), inside.end.get());
        let begins = |window: &&Window| window.inside <= start;
        let window = self.windows.iter().filter(begins).max_by_key(|window| window.inside)?;
        let offset = start - window.inside;
        let fits = offset >= window.own && end.checked_sub(window.inside)? <= window.most;
        let outside = PhysicalAddress::new(window.outside.checked_add(offset)?);
        if fits { Range::sized(outside, inside.len()) } else { None }
    }
}

/// The largest size that a BAR with this address can have: its size is a power of two of which the address is a multiple.
fn alignment(address: u64) -> u64 {
    1_u64.checked_shl(address.trailing_zeros()).unwrap_or(u64::MAX)
}

fn window(inside: u64, outside: u64, own: u64) -> Result<Window, VmdError> {
    // Both addresses are those of one BAR, of at least a page: seen from inside, and from outside.
    if inside == 0 || !inside.is_multiple_of(4096) || inside.checked_add(alignment(outside)).is_none() {
        return Err(VmdError::Misplaced(inside));
    }
    Ok(Window { inside, outside, most: alignment(outside), own })
}

/// Where bus numbers begin.
fn first_bus<R: Registers>(device: &Device<R>) -> Result<u8, VmdError> {
    let is_restricted = || device.config.read16(CAPABILITY) & 1 != 0;
    if OLD.contains(&device.identity().device) || !is_restricted() {
        return Ok(0);
    }
    match (device.config.read16(CONFIGURATION) >> 8) as u8 & 0b11 {
        0 => Ok(0),
        1 => Ok(128),
        2 => Ok(224),
        setting => Err(VmdError::BusOffset(setting)),
    }
}

/// The addresses by which functions behind the device know its windows, if they differ from those that it has: so it is in a
/// virtual machine.
fn shadow<R: Registers, S: Registers>(
    device: &Device<R>,
    second_window: u64,
    map: impl FnOnce(Range<PhysicalAddress>) -> Option<S>,
) -> Result<Option<[u64; 2]>, VmdError> {
    const ADDRESS: u64 = !0xf;
    let words = if SERVER.contains(&device.identity().device) {
        if device.config.read32(LOCK) & 0b10 == 0 {
            return Ok(None);
        }
        let place =
            second_window.checked_add(SHADOW).and_then(|start| Range::sized(start.into(), OWN - SHADOW));
        let registers = place.and_then(map).ok_or(VmdError::NoShadow)?;
        [0, 8].map(|at| registers.read64(at))
    } else {
        let Some(at) = shadow_capability(device) else { return Ok(None) };
        let word = |offset| u64::from(device.config.read32(at + offset));
        [word(8) | word(12) << 32, word(16) | word(20) << 32]
    };
    Ok(Some(words.map(|address| address & ADDRESS)))
}

/// Where the capability with the windows' addresses is, which a hypervisor adds.
fn shadow_capability<R: Registers>(device: &Device<R>) -> Option<usize> {
    const SIZE: usize = 24;
    let (_, at) = capabilities::standard(&device.config).find(|(id, _)| *id == VENDOR_SPECIFIC)?;
    let inside = at + SIZE <= capabilities::STANDARD_SIZE;
    (inside && device.config.read32(at + 4) == SHADOW_MARK).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixtures::ConfigSpace;

    const PLACE: Function = Function { segment: 0, bus: 0, devfn: 0x70 };
    const CONFIG: u64 = 0x60_0000_0000;
    const FIRST: u64 = 0x8000_0000;
    const SECOND: u64 = 0x61_0000_0000;

    /// A device with 256 MiB of configuration space, a first window of 2 GiB at most, and a second one.
    fn vmd(id: u16, fields: &[(usize, &[u8])]) -> Device<ConfigSpace> {
        let config = ConfigSpace::new(&[(0x00, &[0x86, 0x80]), (0x09, &[0, 4, 1])]);
        config.put(0x02, &id.to_le_bytes());
        for (at, address) in [(0x10, CONFIG), (0x18, FIRST), (0x20, SECOND)] {
            config.put(at, &(address | 0b0100).to_le_bytes());
        }
        for (at, bytes) in fields {
            config.put(*at, bytes);
        }
        Device { function: PLACE, config }
    }

    fn none(_: Range<PhysicalAddress>) -> Option<ConfigSpace> {
        None
    }

    fn read(device: &Device<ConfigSpace>) -> Result<Vmd, VmdError> {
        Vmd::read(device, FIRST_DOMAIN, none)
    }

    /// Behind a device: a root port to bus `first + 1`, with a disk, and an endpoint beside it.
    fn behind(vmd: &Vmd, first: u8) -> Vec<String> {
        let open = |range: Range<PhysicalAddress>| {
            let number = (range.start.get() - CONFIG) / BUS;
            assert!(number < 2 && range.len() == BUS, "a bus that nobody has: {range:?}");
            Some(move |offset: usize| {
                let config = ConfigSpace::new(&[(0x00, &[0x86, 0x80])]);
                match (number, offset) {
                    (0, 0x30_000) => {
                        config.put(0x0E, &[1]);
                        config.put(0x19, &[first + 1, first + 1]);
                    }
                    // A bridge back to its own bus.
                    (0, 0x38_000) => {
                        config.put(0x0E, &[1]);
                        config.put(0x19, &[first, first]);
                    }
                    (1, 0) => config.put(0x09, &[2, 8, 1]),
                    _ => config.put(0, &[0xFF; 4]),
                }
                Some(config)
            })
        };
        let mut found = Vec::new();
        vmd.scan(open, &mut found);
        found.iter().map(|device| device.function.to_string()).collect()
    }

    #[test]
    fn a_disk_is_found_by_the_bus_numbers_that_bridges_have() {
        for (setting, first) in [(0, 0), (1, 128), (2, 224)] {
            let vmd = read(&vmd(0x467f, &[(0x40, &[1]), (0x45, &[setting])])).unwrap();
            let named = |rest: [&str; 3]| rest.map(str::to_owned);
            let expected = match first {
                0 => named(["10000:00:06.0", "10000:00:07.0", "10000:01:00.0"]),
                128 => named(["10000:80:06.0", "10000:80:07.0", "10000:81:00.0"]),
                _ => named(["10000:e0:06.0", "10000:e0:07.0", "10000:e1:00.0"]),
            };
            assert_eq!(behind(&vmd, first), expected);
        }
    }

    #[test]
    fn an_unknown_bus_offset_is_refused() {
        let unknown: [(usize, &[u8]); 2] = [(0x40, &[1]), (0x45, &[3])];
        assert_eq!(read(&vmd(0x467f, &unknown)), Err(VmdError::BusOffset(3)));
        assert_eq!(read(&vmd(0x201d, &unknown)).map(|vmd| vmd.first_bus), Ok(0), "it has no such setting");
        assert_eq!(read(&vmd(0x467f, &[(0x45, &[3])])).map(|vmd| vmd.first_bus), Ok(0));
    }

    /// With a wrong offset every function would be taken for another one.
    #[test]
    fn buses_are_within_the_configuration_space() {
        let vmd = read(&vmd(0x467f, &[(0x40, &[1]), (0x45, &[2])])).unwrap();
        assert_eq!(vmd.config_of(223), None);
        assert_eq!(vmd.config_of(224), Some(Range::from(CONFIG..CONFIG + BUS)));
        let small = Vmd { config: PhysicalAddress::new(0x9020_0000), ..vmd };
        assert_eq!((small.config_of(225).is_some(), small.config_of(226)), (true, None));
    }

    #[test]
    fn a_device_without_addresses_is_refused() {
        for (at, index) in [(0x10, 0), (0x18, 2), (0x20, 4)] {
            assert_eq!(read(&vmd(0x9a0b, &[(at, &[4, 0, 0, 0, 0, 0, 0, 0])])), Err(VmdError::NoBar(index)));
        }
    }

    #[test]
    fn registers_are_in_a_window_and_nowhere_else() {
        let vmd = read(&vmd(0x7d0b, &[])).unwrap();
        let at = |start: u64| vmd.physical(Range::from(start..start + 0x4000));
        assert_eq!(at(FIRST + 0x10_0000), Some(Range::from(FIRST + 0x10_0000..FIRST + 0x10_4000)));
        assert_eq!(at(SECOND + 0x4000), Some(Range::from(SECOND + 0x4000..SECOND + 0x8000)));
        assert_eq!(at(SECOND), None, "the device's own");
        assert_eq!(at(0x7000_0000), None, "memory below");
        assert_eq!(at(FIRST + 0x8000_0000), None, "memory above");
        assert_eq!(at(FIRST + 0x7fff_e000), None, "beyond the end");
        assert_eq!(at(u64::MAX - 0x4000), None);
    }

    /// In a virtual machine, the windows are elsewhere than functions behind the device think.
    #[test]
    fn windows_that_are_elsewhere_are_told_by_registers_or_by_a_capability() {
        let inside = [0x9000_0000_u64, 0x70_0000_0000];
        let bytes: Vec<u8> = inside.iter().flat_map(|address| (address | 0xc).to_le_bytes()).collect();
        let shifted = |vmd: Vmd| vmd.physical(Range::from(inside[1] + 0x1_0000..inside[1] + 0x1_4000));
        let expected = Some(Range::from(SECOND + 0x1_0000..SECOND + 0x1_4000));

        let server = vmd(0x28c0, &[(0x70, &[2])]);
        let told = Vmd::read(&server, FIRST_DOMAIN, |range| {
            assert_eq!(range, Range::from(SECOND + 0x2000..SECOND + 0x2010));
            Some(ConfigSpace::new(&[(0, &bytes)]))
        });
        assert_eq!(shifted(told.unwrap()), expected);
        assert_eq!(Vmd::read(&server, FIRST_DOMAIN, none), Err(VmdError::NoShadow));

        let capability: [(usize, &[u8]); 4] = [
            (0x06, &[0x10]),
            (0x34, &[0x80]),
            (0x80, &[0x09, 0, 24, 0, 0x57, 0x44, 0x48, 0x53]),
            (0x88, &bytes),
        ];
        assert_eq!(shifted(read(&vmd(0xa77f, &capability)).unwrap()), expected);
    }

    #[test]
    fn windows_that_are_nowhere_are_refused() {
        let server = vmd(0x28c0, &[(0x70, &[2])]);
        for wrong in [0, 0x1230_u64, u64::MAX] {
            let bytes = [0x9000_0000, wrong].map(u64::to_le_bytes).concat();
            let told = Vmd::read(&server, FIRST_DOMAIN, |_| Some(ConfigSpace::new(&[(0, &bytes)])));
            assert!(matches!(told, Err(VmdError::Misplaced(_))), "{wrong:x}: {told:?}");
        }
    }

    #[test]
    fn requests_from_behind_carry_the_devices_own_id() {
        let devices = [
            vmd(0x1234, &[]),
            vmd(0x28c0, &[]),
            Device { function: Function { bus: 0x80, ..PLACE }, ..vmd(0x28c0, &[]) },
        ];
        let at = |segment| requester(&devices, Function { segment, bus: 0xe1, devfn: 0 });
        assert_eq!((at(0x10000), at(0x10001).bus), (PLACE, 0x80));
        assert_eq!((at(0).bus, at(0x10002).bus), (0xe1, 0xe1));
    }
}
