//! Address Translation Services: tells whether a function caches translations in a TLB of its own (10.5.1).

use bitfield_struct::bitfield;
use machine::Registers;

use crate::Device;

/// The extended capability's ID, and its size in bytes.
const ID: u16 = 0x0F;
const SIZE: usize = 8;
/// ATS capability register (10.5.1.2): 16 bits, read-only.
const CAPABILITY: usize = 4;
/// ATS control register (10.5.1.3): 16 bits, read-write.
const CONTROL: usize = 6;

#[bitfield(u16)]
struct Capability {
    /// Invalidation requests that the function accepts before software must wait for it; 0 stands for 32.
    #[bits(5)]
    queue_depth: u8,
    #[bits(11)]
    others: u16,
}

#[bitfield(u16)]
struct Control {
    /// The smallest translation unit.
    #[bits(5)]
    unit: u8,
    #[bits(10)]
    others: u16,
    /// The function may ask for translations and keep them.
    enable: bool,
}

/// The content of a function's ATS capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ats {
    /// Whether the function may keep translations now.
    pub enabled: bool,
    /// Invalidation requests that the function accepts at once, 1 to 32.
    pub queue_depth: u8,
}

impl<R: Registers> Device<R> {
    /// Reads the function's ATS capability, if it has one.
    pub fn ats(&self) -> Option<Ats> {
        let at = self.extended_capability(ID, SIZE)?;
        let control = Control::from_bits(self.config.read16(at + CONTROL));
        let queue_depth = match Capability::from_bits(self.config.read16(at + CAPABILITY)).queue_depth() {
            0 => 32,
            depth => depth,
        };
        Some(Ats { enabled: control.enable(), queue_depth })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Function;
    use fixtures::ConfigSpace;

    /// A function with an AER capability, and after it ATS with this control register.
    fn device(control: u8, depth: u8) -> Device<ConfigSpace> {
        let fields: [(usize, &[u8]); 3] = [
            (0x100, &[0x01, 0, 0x01, 0x15]),
            (0x150, &[0x0F, 0, 0x01, 0x15]),
            (0x154, &[depth | 0x20, 0, 0, control]),
        ];
        Device { function: Function { segment: 0, bus: 3, devfn: 8 }, config: ConfigSpace::new(&fields) }
    }

    /// `PCI_ATS_CAP_QDEP`, `PCI_ATS_CTRL_ENABLE` and `PCI_EXT_CAP_ID_ATS` of Linux. The second capability follows itself.
    #[test]
    fn a_function_keeps_translations_while_ats_is_enabled() {
        let ats = |enabled, queue_depth| Some(Ats { enabled, queue_depth });
        assert_eq!(device(0x80, 4).ats(), ats(true, 4));
        assert_eq!(device(0x80, 0).ats(), ats(true, 32));
        assert_eq!(device(0x00, 4).ats(), ats(false, 4));
    }

    #[test]
    fn a_function_without_extended_capabilities_has_none() {
        let config = ConfigSpace::new(&[(0x100, &[0xFF; 4])]);
        assert_eq!(Device { config, ..device(0, 0) }.ats(), None);
    }

    #[test]
    fn a_capability_that_configuration_space_cuts_off_is_none() {
        let config = ConfigSpace::new(&[(0x100, &[0x01, 0, 0xC1, 0xFF]), (0xFFC, &[0x0F, 0, 0x01, 0])]);
        assert_eq!(Device { config, ..device(0, 0) }.ats(), None);
    }
}
