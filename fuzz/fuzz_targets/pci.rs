//! The configuration space of two PCI functions, one of which may be a bridge to the other: lists of capabilities may
//! lead anywhere, bridges to each other, and virtual functions past the last bus.

#![no_main]

use libfuzzer_sys::fuzz_target;
use machine::Registers;
use pci::{CONFIG_SIZE, Function};

/// Configuration space with the fuzzer's bytes at its beginning, and zeros behind.
#[derive(Clone)]
struct Space([u8; CONFIG_SIZE]);

impl Space {
    fn new(bytes: &[u8]) -> Self {
        let mut space = [0; CONFIG_SIZE];
        let len = bytes.len().min(CONFIG_SIZE);
        space[..len].copy_from_slice(&bytes[..len]);
        Self(space)
    }

    fn at<const N: usize>(&self, offset: usize) -> [u8; N] {
        *self.0[offset..].first_chunk().expect("an offset within configuration space")
    }
}

impl Registers for Space {
    fn read8(&self, offset: usize) -> u8 {
        u8::from_le_bytes(self.at(offset))
    }
    fn read16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.at(offset))
    }
    fn read32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.at(offset))
    }
    fn read64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.at(offset))
    }
    fn write8(&mut self, _: usize, _: u8) {}
    fn write16(&mut self, _: usize, _: u16) {}
    fn write32(&mut self, _: usize, _: u32) {}
    fn write64(&mut self, _: usize, _: u64) {}
}

fuzz_target!(|bytes: &[u8]| {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let [first, second] = [first, second].map(Space::new);
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
});
