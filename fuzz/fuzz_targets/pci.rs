//! The configuration space of two PCI functions, one of which may be a bridge to the other: lists of capabilities may
//! lead anywhere, bridges to each other, and virtual functions past the last bus.

#![no_main]

use fixtures::ConfigSpace;
use libfuzzer_sys::fuzz_target;
use pci::{CONFIG_SIZE, Function};

/// Configuration space with the fuzzer's bytes at its beginning, and zeros behind.
fn space(bytes: &[u8]) -> ConfigSpace {
    ConfigSpace::new(&[(0, &bytes[..bytes.len().min(CONFIG_SIZE)])])
}

fuzz_target!(|bytes: &[u8]| {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let [first, second] = [first, second].map(space);
    let open = |function: Function| match (function.bus, function.devfn) {
        (0, 8) => Some(first.clone()),
        (1, 8) => Some(second.clone()),
        _ => None,
    };
    let mut devices = Vec::new();
    pci::scan(0, 0..=1, open, &mut devices);
    for device in &devices {
        let claimed = (0..8).filter_map(|index| device.bar(index)).count() + device.claimed().count();
        assert!(claimed <= 12);
        let _ = (device.identity(), device.bridge());
        assert!(device.ats().is_none_or(|ats| (1..=32).contains(&ats.queue_depth)));
        if let Some(sr_iov) = device.sr_iov() {
            assert!(sr_iov.virtual_functions().is_sorted_by(|one, next| one < next));
        }
        assert!(pci::aliases(&devices, device.function).count() <= 256);
    }
    let mut found = Vec::new();
    pci::virtual_functions(&devices, |_| Some(second.clone()), &mut found);
    for function in found {
        assert!(devices.iter().any(|device| device.function == function.physical));
        assert!(function.ats.is_none_or(|ats| (1..=32).contains(&ats.queue_depth)));
    }
});
