//! The list of capabilities in a PCI function's configuration space (PCI Local Bus Specification 3.0, section 6.7).

use machine::Registers;

/// Status register; bit 4 says that there is a list.
const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Offset of the first capability.
const CAPABILITIES_POINTER: usize = 0x34;
/// Capabilities lie behind the header and inside the 256 bytes of configuration space.
const FIRST: usize = 0x40;
/// Bytes of configuration space that hold capabilities.
pub const CONFIGURATION_SIZE: usize = 256;
/// As many capabilities, of four bytes each, fit; a longer list goes in circles.
const MOST: usize = (CONFIGURATION_SIZE - FIRST) / 4;

/// Lists the capabilities of a function: the ID of each and the offset of its first byte.
///
/// The list ends at a pointer that leaves its bounds, and at the latest when there are more than can be.
pub fn capabilities(configuration: &impl Registers) -> impl Iterator<Item = (u8, usize)> {
    let has_list = configuration.read16(STATUS) & STATUS_CAPABILITIES != 0;
    let first = has_list.then(|| pointer(configuration, CAPABILITIES_POINTER)).flatten();
    core::iter::successors(first, |&at| pointer(configuration, at + 1))
        .take(MOST)
        .map(|at| (configuration.read8(at), at))
}

/// Follows the pointer at `at`. Its lowest two bits are reserved and masked.
fn pointer(configuration: &impl Registers, at: usize) -> Option<usize> {
    let target = usize::from(configuration.read8(at) & !0b11);
    (target >= FIRST).then_some(target)
}
