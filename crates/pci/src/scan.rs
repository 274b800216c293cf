//! Finds the functions that are present.
//!
//! The scan looks at every bus of a segment group instead of following bridges from bus 0. It therefore finds the
//! buses behind further host bridges, which only ACPI's interpreted tables name, and a damaged bridge cannot mislead
//! it.

use alloc::vec::Vec;

use machine::Registers;
use machine::growth::push;

use crate::device::VENDOR_ID;
use crate::{Device, Function};

/// Vendor IDs that are read where no function is: ones, or zeros where the memory is not configuration space.
const NO_VENDOR: [u16; 2] = [0xFFFF, 0];

/// Most functions that are recorded, of all segments. Machines with thousands of virtual functions have fewer.
pub const MOST_FUNCTIONS: usize = 1 << 14;

/// Adds to `found` the functions on `buses` of `segment`; `open` gives access to a function's configuration space.
///
/// Garbage there may look like any number of functions. Only the first [`MOST_FUNCTIONS`] are recorded, so that memory is
/// left for the rest of the work.
pub fn scan<R: Registers>(
    segment: u16,
    buses: impl Iterator<Item = u8>,
    open: impl Fn(Function) -> Option<R>,
    found: &mut Vec<Device<R>>,
) {
    let slots = buses.flat_map(|bus| (0..32).map(move |slot| Function { segment, bus, devfn: slot << 3 }));
    for device in slots.flat_map(|first| functions_of(first, &open)) {
        if found.len() == MOST_FUNCTIONS || push(found, device).is_err() {
            break;
        }
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
    let several = device.as_ref().is_some_and(|device| device.header_type().multi_function());
    let others = (1..=if several { 7 } else { 0 })
        .map(move |number| Function { devfn: first.devfn | number, ..first });
    device.into_iter().chain(others.filter_map(present))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CONFIG_SIZE;
    use crate::device::HEADER_TYPE;
    use fixtures::ConfigSpace;

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
}
