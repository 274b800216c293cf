//! The buses and addresses that a bridge between PCI buses forwards (7.5.1.3).

use machine::{IoAddress, Range, Registers};

use crate::Device;

const SECONDARY_BUS: usize = 0x19;
const SUBORDINATE_BUS: usize = 0x1A;
const MEMORY_WINDOW: usize = 0x20;
const PREFETCHABLE_WINDOW: usize = 0x24;
const PREFETCHABLE_BASE_UPPER: usize = 0x28;
const PREFETCHABLE_LIMIT_UPPER: usize = 0x2C;

/// The buses behind a bridge, and the addresses of requests that it forwards to devices behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// The bus behind it.
    pub secondary_bus: u8,
    /// The last of the buses behind it.
    pub subordinate_bus: u8,
    /// Addresses in memory space that the bridge claims for devices behind it, so that a device's request for one of them
    /// never reaches memory: not prefetchable, prefetchable. A closed window is empty.
    pub windows: [Range<IoAddress>; 2],
}

impl<R: Registers> Device<R> {
    /// Reads the buses and memory windows behind this function, if it is a bridge.
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
}

/// A bridge's window from its base and limit registers (7.5.1.3.8 to 7.5.1.3.10), in units of 1 MiB.
fn window(base_and_limit: u32, base_upper: u64, limit_upper: u64) -> Range<IoAddress> {
    let base = u64::from(base_and_limit & 0xFFF0) << 16 | base_upper << 32;
    let limit = u64::from(base_and_limit & 0xFFF0_0000) | limit_upper << 32 | 0xF_FFFF;
    // A limit below the base closes the window: the range is empty.
    Range::from(base..limit.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Function;
    use fixtures::ConfigSpace;

    #[test]
    fn a_bridge_has_a_bus_and_windows() {
        let fields: [(usize, &[u8]); 5] = [
            (0x0E, &[0x81]),
            (0x19, &[5, 7]),
            (0x20, &[0x80, 0xFE, 0x90, 0xFE]),
            (0x24, &[0xF1, 0xFF, 0x01, 0x00]),
            (0x28, &[0; 8]),
        ];
        let function = Function { segment: 0, bus: 0, devfn: 0xF8 };
        let bridge = Device { function, config: ConfigSpace::new(&fields) }.bridge().unwrap();
        assert_eq!((bridge.secondary_bus, bridge.subordinate_bus), (5, 7));
        assert_eq!(bridge.windows[0], Range::from(0xFE80_0000..0xFEA0_0000));
        assert!(bridge.windows[1].is_empty());
    }
}
