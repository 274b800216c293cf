//! The lists of capabilities in a function's configuration space.

use bitfield_struct::bitfield;
use machine::Registers;

use crate::{CONFIG_SIZE, Device};

/// Bytes of configuration space that hold the standard capabilities.
pub const STANDARD_SIZE: usize = 256;

/// Status register (7.5.1.1.4): 16 bits; bit 4 says that there is a list of standard capabilities.
const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Offset of the first standard capability (7.5.1.1.11): 8 bits.
const CAPABILITIES_POINTER: usize = 0x34;
/// Standard capabilities lie behind the header.
const FIRST_STANDARD: usize = 0x40;
/// Most standard capabilities, of four bytes each, that fit; a longer list is circular.
const MOST_STANDARD: usize = (STANDARD_SIZE - FIRST_STANDARD) / 4;

/// The first extended capability (7.6.1).
const FIRST_EXTENDED: usize = STANDARD_SIZE;
/// Most extended capabilities that fit; a longer list is circular.
const MOST_EXTENDED: usize = (CONFIG_SIZE - FIRST_EXTENDED) / 4;

/// The first four bytes of an extended capability (7.6.3).
#[bitfield(u32)]
struct ExtendedHeader {
    /// Which capability it is.
    id: u16,
    #[bits(4)]
    version: u8,
    /// Offset of the next one.
    #[bits(12)]
    next: u16,
}

/// Lists the standard capabilities (7.5.3): the ID of each and the offset of its first byte, a multiple of four.
///
/// The list ends at a pointer that leaves its bounds, and at the latest after as many capabilities as fit.
pub fn standard(config: &impl Registers) -> impl Iterator<Item = (u8, usize)> {
    let has_list = config.read16(STATUS) & STATUS_CAPABILITIES != 0;
    let first = has_list.then(|| pointer(config, CAPABILITIES_POINTER)).flatten();
    core::iter::successors(first, |&at| pointer(config, at + 1))
        .take(MOST_STANDARD)
        .map(|at| (config.read8(at), at))
}

/// Follows the pointer at `at`. Its lowest two bits are reserved and masked.
fn pointer(config: &impl Registers, at: usize) -> Option<usize> {
    let target = usize::from(config.read8(at) & !0b11);
    (target >= FIRST_STANDARD).then_some(target)
}

/// Lists the extended capabilities: the ID of each and the offset of its first byte, a multiple of four.
///
/// The list ends like that of the [`standard`] ones. A function of conventional PCI has none: ones or zeros are read there.
pub fn extended(config: &impl Registers) -> impl Iterator<Item = (u16, usize)> {
    let header = |at| ExtendedHeader::from_bits(config.read32(at));
    let follow = |at: usize| (FIRST_EXTENDED..CONFIG_SIZE).contains(&at).then_some(at);
    core::iter::successors(Some(FIRST_EXTENDED), move |&at| follow(usize::from(header(at).next() & !0b11)))
        .take(MOST_EXTENDED)
        .map(move |at| (header(at).id(), at))
}

impl<R: Registers> Device<R> {
    /// Finds the first extended capability with this ID that has `size` bytes or more; returns its offset.
    pub(crate) fn extended_capability(&self, id: u16, size: usize) -> Option<usize> {
        let has_room = |at: usize| at + size <= CONFIG_SIZE;
        extended(&self.config).find(|&(found, at)| found == id && has_room(at)).map(|(_, at)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixtures::ConfigSpace;
    use proptest::prelude::*;

    /// The list of QEMU's `virtio-blk-pci`, whose capabilities are linked backwards.
    fn qemu() -> ConfigSpace {
        ConfigSpace::new(&[
            (0x06, &[0x10]),
            (0x34, &[0x98]),
            (0x40, &[0x09, 0x00]),
            (0x50, &[0x09, 0x40]),
            (0x60, &[0x09, 0x50]),
            (0x70, &[0x09, 0x60]),
            (0x84, &[0x09, 0x70]),
            (0x98, &[0x11, 0x84]),
        ])
    }

    #[test]
    fn the_list_of_a_real_device_is_followed() {
        let list: Vec<_> = standard(&qemu()).collect();
        assert_eq!(list, [(0x11, 0x98), (9, 0x84), (9, 0x70), (9, 0x60), (9, 0x50), (9, 0x40)]);
    }

    #[test]
    fn a_function_without_a_list_has_no_capabilities() {
        let config = qemu();
        config.put(0x06, &[0]);
        assert_eq!(standard(&config).count(), 0);
    }

    #[test]
    fn a_list_in_circles_ends() {
        let config = qemu();
        config.put(0x41, &[0x98]);
        assert_eq!(standard(&config).count(), 48);
        let itself = ConfigSpace::new(&[(0x100, &[0x01, 0, 0x01, 0x10])]);
        assert_eq!(extended(&itself).count(), 960);
    }

    #[test]
    fn a_pointer_into_the_header_ends_the_list() {
        let config = qemu();
        config.put(0x85, &[0x3C]);
        assert_eq!(standard(&config).count(), 2);
        let header = ConfigSpace::new(&[(0x100, &[0x01, 0, 0xC1, 0x0F])]);
        assert_eq!(extended(&header).collect::<Vec<_>>(), [(1, 0x100)]);
    }

    proptest! {
        /// [`ConfigSpace`] stops the test at an access outside.
        #[test]
        fn no_configuration_space_leads_a_walk_out_of_it(
            mut noise in prop::collection::vec(any::<u8>(), CONFIG_SIZE),
        ) {
            noise[STATUS] |= 0x10;
            let config = ConfigSpace::new(&[(0, &noise)]);
            prop_assert!(standard(&config).all(|(_, at)| (0x40..0x100).contains(&at) && at % 4 == 0));
            prop_assert!(extended(&config).all(|(_, at)| (0x100..0x1000).contains(&at) && at % 4 == 0));
        }
    }
}
