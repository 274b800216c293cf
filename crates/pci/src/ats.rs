//! Which functions keep translations in TLBs of their own (PCI Express base specification 6.0, section 7.8.8).

use machine::Registers;
use takeover::DeviceTlb;

use super::{CONFIG_SIZE, Device};

/// First of the extended capabilities, and their IDs (section 7.6.3).
const FIRST: usize = 0x100;
const ATS: u16 = 0x0F;
/// No more fit into configuration space; a longer list goes in circles.
const MOST: usize = (CONFIG_SIZE - FIRST) / 4;

// Offsets from the ATS capability.
const CAPABILITY: usize = 4;
const QUEUE_DEPTH: u16 = 0x1F;
const CONTROL: usize = 6;
const ENABLE: u16 = 1 << 15;

impl<R: Registers> Device<R> {
    /// What the unit needs to know to tell this function to forget translations, if it keeps any.
    pub fn device_tlb(&self) -> Option<DeviceTlb> {
        let ats = self.extended_capability(ATS)?;
        if self.config.read16(ats + CONTROL) & ENABLE == 0 {
            return None;
        }
        let source = self.function.source();
        let depth = match self.config.read16(ats + CAPABILITY) & QUEUE_DEPTH {
            0 => 32,
            depth => depth as u8,
        };
        Some(DeviceTlb { source, physical: source, depth })
    }

    /// The offset of an extended capability that has eight bytes or more.
    fn extended_capability(&self, id: u16) -> Option<usize> {
        let follow = |at: usize| (FIRST..=CONFIG_SIZE - 8).contains(&at).then_some(at);
        let next = |at: &usize| follow((self.config.read32(*at) >> 20) as usize & !0b11);
        let mut list = core::iter::successors(follow(FIRST), next).take(MOST);
        list.find(|at| self.config.read32(*at) as u16 == id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Function;
    use super::*;
    use fixtures::ConfigSpace;
    use vtd::source::SourceId;

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
        let tlb = |depth| DeviceTlb { source: SourceId(0x0308), physical: SourceId(0x0308), depth };
        assert_eq!(device(0x80, 4).device_tlb(), Some(tlb(4)));
        assert_eq!(device(0x80, 0).device_tlb(), Some(tlb(32)));
        assert_eq!(device(0x00, 4).device_tlb(), None);
    }

    #[test]
    fn a_function_without_extended_capabilities_has_none() {
        let absent =
            Device { function: device(0, 0).function, config: ConfigSpace::new(&[(0x100, &[0xFF; 4])]) };
        assert_eq!(absent.device_tlb(), None);
    }
}
