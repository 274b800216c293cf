//! Finds the other requester IDs under which a function's requests may arrive.
//!
//! A conventional bus carries no requester IDs, so a bridge to such a bus replaces the requester IDs of the devices
//! behind it by one of its own: a bridge between conventional buses uses its own function number, a bridge from PCI
//! Express uses number 0 of the bus behind it (PCI Express to PCI bridge specification, section 2.3; VT-d
//! specification, section 3.4.1). Requests may pass several bridges. Devices that use wrong requester IDs because of
//! defects are not known here.

use machine::Registers;

use crate::express::PortType;
use crate::{Device, Function};

/// Most aliases of a function: a longer chain of bridges than there are buses is a loop.
pub const MOST: usize = 256;

impl<R: Registers> Device<R> {
    /// The requester ID under which this bridge forwards the requests of functions behind it; `None` if it does not replace
    /// theirs.
    fn alias(&self) -> Option<Function> {
        match self.port_type() {
            Some(PortType::ROOT_PORT | PortType::UPSTREAM_PORT | PortType::DOWNSTREAM_PORT) => None,
            Some(PortType::BRIDGE_TO_CONVENTIONAL) => {
                let bus = self.bridge()?.secondary_bus;
                Some(Function { bus, devfn: 0, ..self.function })
            }
            _ => Some(self.function),
        }
    }
}

/// The other functions under whose requester IDs the requests of `function` may arrive, the one nearest to the root last.
pub fn aliases<R: Registers>(devices: &[Device<R>], function: Function) -> impl Iterator<Item = Function> {
    let to_bus = move |segment, bus| {
        let leads = |device: &&Device<R>| {
            device.function.segment == segment
                && device.bridge().is_some_and(|bridge| bridge.secondary_bus == bus)
        };
        devices.iter().find(leads)
    };
    let parent = move |below: Function| to_bus(below.segment, below.bus);
    let bridges = core::iter::successors(parent(function), move |bridge| parent(bridge.function));
    bridges.take(MOST).filter_map(Device::alias)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixtures::ConfigSpace;

    fn found(devices: &[Device<ConfigSpace>], function: Function) -> Vec<Function> {
        aliases(devices, function).collect()
    }

    fn function(bus: u8, devfn: u8) -> Function {
        Function { segment: 0, bus, devfn }
    }

    /// A bridge to this bus; `flags` are those of its PCI Express capability.
    fn bridge(bus: u8, devfn: u8, secondary: u8, flags: Option<u8>) -> Device<ConfigSpace> {
        let list: u8 = if flags.is_some() { 0x10 } else { 0 };
        let fields: [(usize, &[u8]); 5] = [
            (0x06, &[list]),
            (0x0E, &[1]),
            (0x19, &[secondary, secondary]),
            (0x34, &[0x40]),
            (0x40, &[0x10, 0, flags.unwrap_or(0), 0]),
        ];
        Device { function: function(bus, devfn), config: ConfigSpace::new(&fields) }
    }

    /// 00:1c.0 is a root port to bus 1, 01:00.0 a PCI Express to PCI bridge to bus 2, 02:03.0 a conventional bridge
    /// to bus 3. As Linux's `pci_for_each_dma_alias` goes through them.
    #[test]
    fn bridges_to_conventional_buses_speak_for_the_devices_behind_them() {
        let devices = [bridge(0, 0xE0, 1, Some(0x42)), bridge(1, 0, 2, Some(0x71)), bridge(2, 0x18, 3, None)];
        assert_eq!(found(&devices, function(3, 0x08)), [function(2, 0x18), function(2, 0)]);
        assert_eq!(found(&devices, function(2, 0x20)), [function(2, 0)]);
        assert_eq!(found(&devices, function(1, 0)), []);
        assert_eq!(found(&devices, function(0, 0x10)), []);
    }

    #[test]
    fn a_bridge_from_conventional_pci_to_express_speaks_for_itself() {
        let devices = [bridge(0, 0xF0, 5, Some(0x81))];
        assert_eq!(found(&devices, function(5, 0)), [function(0, 0xF0)]);
    }

    #[test]
    fn another_segments_bridge_speaks_for_nobody_here() {
        let mut devices = [bridge(0, 0xF0, 5, None)];
        devices[0].function.segment = 1;
        assert_eq!(found(&devices, function(5, 0)), []);
    }

    #[test]
    fn bridges_in_a_circle_come_to_an_end() {
        let devices = [bridge(1, 0, 2, None), bridge(2, 0, 1, None)];
        assert_eq!(found(&devices, function(1, 8)).len(), MOST);
    }
}
