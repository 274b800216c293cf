//! Finds the functions that are present.
//!
//! The scan looks at every bus of a segment group instead of following bridges from bus 0. It therefore finds the
//! buses behind further host bridges, which only ACPI's interpreted tables name, and a damaged bridge cannot mislead
//! it. Bridges say one thing more: behind a port with ARI forwarding, every function number is looked at, since function 0
//! may be absent, and there may be more than eight.

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
    segment: u32,
    buses: impl Iterator<Item = u8>,
    open: impl Fn(Function) -> Option<R>,
    found: &mut Vec<Device<R>>,
) {
    let first = found.len();
    let slots = buses.flat_map(|bus| (0..32).map(move |slot| Function { segment, bus, devfn: slot << 3 }));
    record(slots.flat_map(|first| functions_of(first, &open)), found);
    for index in first..found.len() {
        if let Some(bus) = found[index].ari_bus() {
            scan_ari_bus(segment, bus, &open, found);
        }
    }
}

/// Adds to `found` the functions of a bus on which any of 256 functions may be present without those before it.
fn scan_ari_bus<R: Registers>(
    segment: u32,
    bus: u8,
    open: impl Fn(Function) -> Option<R>,
    found: &mut Vec<Device<R>>,
) {
    let is_here = |function: Function| (function.segment, function.bus) == (segment, bus);
    let mut known = [false; 256];
    for device in found.iter().filter(|device| is_here(device.function)) {
        known[usize::from(device.function.devfn)] = true;
    }
    let unknown = (0..=u8::MAX).filter(|devfn| !known[usize::from(*devfn)]);
    record(unknown.filter_map(|devfn| present(Function { segment, bus, devfn }, &open)), found);
}

fn record<R>(functions: impl Iterator<Item = Device<R>>, found: &mut Vec<Device<R>>) {
    for device in functions {
        if found.len() == MOST_FUNCTIONS || push(found, device).is_err() {
            break;
        }
    }
}

/// The function at this address, if it is present.
fn present<R: Registers>(function: Function, open: impl Fn(Function) -> Option<R>) -> Option<Device<R>> {
    let config = open(function).filter(|config| !NO_VENDOR.contains(&config.read16(VENDOR_ID)))?;
    Some(Device { function, config })
}

/// The functions of the device whose function 0 is `first`.
fn functions_of<R: Registers>(
    first: Function,
    open: impl Fn(Function) -> Option<R>,
) -> impl Iterator<Item = Device<R>> {
    let device = present(first, &open);
    let several = device.as_ref().is_some_and(|device| device.header_type().multi_function());
    let others = (1..=if several { 7 } else { 0 })
        .map(move |number| Function { devfn: first.devfn | number, ..first });
    device.into_iter().chain(others.filter_map(move |function| present(function, &open)))
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

    /// 00:1c.0 is a root port to bus 1 (capability version 2), which forwards by ARI if bit 5 of its device control 2 is set.
    /// The device behind it has functions 1, 9 and 10; no function 0.
    fn behind_a_port(control: u8) -> Vec<String> {
        let open = |function: Function| match (function.bus, function.devfn) {
            (0, 0xE0) => Some(ConfigSpace::new(&[
                (VENDOR_ID, &[0x86, 0x80]),
                (0x06, &[0x10]),
                (HEADER_TYPE, &[1]),
                (0x19, &[1, 1]),
                (0x34, &[0x40]),
                (0x40, &[0x10, 0, 0x42]),
                (0x68, &[control]),
            ])),
            (1, 1 | 9 | 10) => Some(ConfigSpace::new(&[(VENDOR_ID, &[0x86, 0x80])])),
            _ => Some(ConfigSpace::new(&[(VENDOR_ID, &[0xFF; 4])])),
        };
        let mut found = Vec::new();
        scan(0, 0..=1, open, &mut found);
        found.iter().map(|device| device.function.to_string()).collect()
    }

    #[test]
    fn functions_behind_an_absent_function_0_are_found_where_the_port_forwards_by_ari() {
        assert_eq!(behind_a_port(1 << 5), ["0000:00:1c.0", "0000:01:00.1", "0000:01:01.1", "0000:01:01.2"]);
        assert_eq!(behind_a_port(0), ["0000:00:1c.0"]);
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
