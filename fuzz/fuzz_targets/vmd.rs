//! Intel's volume management device: its configuration space, its registers and those of the buses behind it may say anything. Only buses that it
//! can have are asked for, the search ends, and what is behind it leads into its windows or nowhere.

#![no_main]

use fixtures::ConfigSpace;
use libfuzzer_sys::fuzz_target;
use machine::{PhysicalAddress, Range};
use pci::vmd::{FIRST_DOMAIN, Vmd};
use pci::{CONFIG_SIZE, Device, Function};

fn space(bytes: &[u8]) -> ConfigSpace {
    ConfigSpace::new(&[(0, &bytes[..bytes.len().min(CONFIG_SIZE)])])
}

fuzz_target!(|bytes: &[u8]| {
    let (own, rest) = bytes.split_at(bytes.len().min(256));
    let (registers, behind) = rest.split_at(rest.len().min(64));
    let (first, second) = behind.split_at(behind.len() / 2);
    let [first, second] = [first, second].map(space);
    let device = Device { function: Function { segment: 0, bus: 0, devfn: 0x70 }, config: space(own) };
    let Ok(vmd) = Vmd::read(&device, FIRST_DOMAIN, |_| Some(space(registers))) else { return };
    let mut found = Vec::new();
    let open = |range: Range<PhysicalAddress>| {
        assert_eq!(range.len(), 1 << 20);
        let (first, second) = (first.clone(), second.clone());
        Some(move |offset: usize| match offset / CONFIG_SIZE {
            0 => Some(first.clone()),
            8 => Some(second.clone()),
            _ => None,
        })
    };
    vmd.scan(open, &mut found);
    assert!(found.len() <= 2 * 256, "a bus was searched twice");
    for device in found {
        assert_eq!(device.function.segment, FIRST_DOMAIN);
        for start in (0..6).filter_map(|index| device.bar(index)) {
            let Some(inside) = Range::sized(start, 4096) else { continue };
            assert!(vmd.physical(inside).is_none_or(|outside| outside.len() == inside.len()));
        }
    }
});
