//! Power states (5.3, 7.5.2): wakes a function that the dead kernel has put to sleep.

use core::time::Duration;

use bitfield_struct::bitfield;
use machine::{Clock, Registers};

use crate::Device;
use crate::capabilities;
use crate::device::{BARS, COMMAND, LAST_BAR};

/// ID of the power management capability (7.5.2.1).
const POWER_MANAGEMENT: u8 = 1;
/// Offset of [`Control`] in the capability (7.5.2.2): 16 bits, read-write.
const CONTROL: usize = 4;
/// How long a function that was asleep must be left alone (5.3.1.4).
const REST: Duration = Duration::from_millis(10);
/// [`Control::state`] of a function that is awake: D0.
const AWAKE: u8 = 0;

/// Power management control and status.
#[bitfield(u16)]
struct Control {
    /// PowerState: D0 to D3hot.
    #[bits(2)]
    state: u8,
    #[bits(1)]
    __: u8,
    /// No_Soft_Reset: the function is not reset when it wakes up.
    keeps_its_registers: bool,
    #[bits(11)]
    others: u16,
    /// PME_Status, which is cleared if it is written as one.
    event: bool,
}

impl<R: Registers> Device<R> {
    /// Wakes a function that is asleep, in which state it answers in configuration space only; tells whether it was.
    ///
    /// Some are reset when they wake up: they get their addresses and their command register again.
    pub fn wake(&mut self, clock: &impl Clock) -> bool {
        let config = &mut self.config;
        let found = capabilities::standard(config).find(|(id, _)| *id == POWER_MANAGEMENT);
        let Some((_, offset)) = found else { return false };
        let control = Control::from_bits(config.read16(offset + CONTROL));
        if control.state() == AWAKE || control.into_bits() == u16::MAX {
            return false;
        }
        let addresses: [u32; LAST_BAR + 1] = core::array::from_fn(|index| config.read32(BARS + 4 * index));
        let command = config.read16(COMMAND);
        config.write16(offset + CONTROL, control.with_state(AWAKE).with_event(false).into_bits());
        machine::rest(clock, REST);
        if !control.keeps_its_registers() {
            for (index, address) in addresses.into_iter().enumerate() {
                config.write32(BARS + 4 * index, address);
            }
            config.write16(COMMAND, command);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Function;
    use core::cell::Cell;
    use fixtures::ConfigSpace;

    const PLACE: Function = Function { segment: 0, bus: 0, devfn: 0x80 };

    /// A clock that takes a function's addresses away while it passes, as a reset does.
    struct Resetting<'a>(&'a ConfigSpace, Cell<u64>);

    impl Clock for Resetting<'_> {
        fn now(&self) -> Duration {
            if self.0.read16(0x44) & 0b1011 == 0 {
                self.0.put(0x10, &[0; 24]);
                self.0.put(0x04, &[0; 2]);
            }
            self.1.set(self.1.get() + 1);
            Duration::from_millis(self.1.get())
        }
    }

    /// With the capability at 0x40, whose control register is `control`.
    fn asleep(control: [u8; 2]) -> ConfigSpace {
        let (status, pointer, capability) = ([0x10, 0], [0x40], [1, 0, 0x03, 0]);
        ConfigSpace::new(&[
            (0x04, &[0x06, 0x04]),
            (0x06, &status),
            (0x10, &[0, 0, 0, 0xfe]),
            (0x34, &pointer),
            (0x40, &capability),
            (0x44, &control),
        ])
    }

    #[test]
    fn a_function_that_is_asleep_is_woken_and_keeps_its_addresses() {
        for control in [[0b0011, 0x80], [0b1011, 0], [0b0010, 0]] {
            let config = asleep(control);
            let clock = Resetting(&config, Cell::new(0));
            let mut device = Device { function: PLACE, config: config.clone() };
            assert!(device.wake(&clock), "{control:?}");
            assert!(clock.1.get() >= 10, "it is left alone for 10 ms");
            assert_eq!(config.read16(0x44) & 0x8003, 0, "{control:?}: D0, and its event is not cleared");
            assert_eq!((config.read32(0x10), config.read16(0x04)), (0xfe00_0000, 0x0406), "{control:?}");
        }
    }

    #[test]
    fn a_function_that_is_awake_or_gone_is_left_alone() {
        for control in [[0, 0x80], [0xff, 0xff]] {
            let config = asleep(control);
            let clock = Resetting(&config, Cell::new(0));
            assert!(!Device { function: PLACE, config: config.clone() }.wake(&clock));
            assert_eq!(config.read16(0x44), u16::from_le_bytes(control));
        }
    }
}
