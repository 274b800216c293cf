//! The PCI Express capability (7.5.3): what kind of port a function is, and whether it forwards to more than eight functions.

use bitfield_struct::bitfield;
use machine::Registers;

use crate::{Device, capabilities};

/// The capability's ID.
const ID: u8 = 0x10;
/// Flags (7.5.3.2): 16 bits, read-only.
const FLAGS: usize = 0x02;
/// Device control 2 (7.5.3.16): 16 bits, read-write. Capabilities of version 1 have none.
const DEVICE_CONTROL_2: usize = 0x28;

#[bitfield(u16)]
struct Flags {
    #[bits(4)]
    version: u8,
    /// What kind of port the function is.
    #[bits(4)]
    port_type: u8,
    others: u8,
}

#[bitfield(u16)]
struct DeviceControl2 {
    #[bits(5)]
    timeouts: u8,
    /// Requests for any device number go to the device behind the port, which takes it for a part of the function number.
    ari_forwarding: bool,
    #[bits(10)]
    others: u16,
}

/// What kind of port a function is (7.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortType(pub(crate) u8);

impl PortType {
    pub(crate) const ROOT_PORT: Self = Self(4);
    pub(crate) const UPSTREAM_PORT: Self = Self(5);
    pub(crate) const DOWNSTREAM_PORT: Self = Self(6);
    pub(crate) const BRIDGE_TO_CONVENTIONAL: Self = Self(7);
}

impl<R: Registers> Device<R> {
    fn express(&self) -> Option<(usize, Flags)> {
        let (_, at) = capabilities::standard(&self.config).find(|(id, _)| *id == ID)?;
        Some((at, Flags::from_bits(self.config.read16(at + FLAGS))))
    }

    /// The type of a PCI Express port; `None` for a function of conventional PCI.
    pub(crate) fn port_type(&self) -> Option<PortType> {
        self.express().map(|(_, flags)| PortType(flags.port_type()))
    }

    /// The bus behind this port, if the port forwards requests to it by Alternative Routing-ID Interpretation (6.13): the bus
    /// has one device of up to 256 functions, of which any may be absent.
    pub(crate) fn ari_bus(&self) -> Option<u8> {
        let (at, flags) = self.express()?;
        let is_port = matches!(PortType(flags.port_type()), PortType::ROOT_PORT | PortType::DOWNSTREAM_PORT);
        let has_control = flags.version() >= 2 && at + DEVICE_CONTROL_2 + 2 <= capabilities::STANDARD_SIZE;
        let forwards = is_port
            && has_control
            && DeviceControl2::from_bits(self.config.read16(at + DEVICE_CONTROL_2)).ari_forwarding();
        self.bridge().filter(|_| forwards).map(|bridge| bridge.secondary_bus)
    }
}
