//! Finding a virtio disk's structures in configuration space.

#![expect(clippy::panic, reason = "accesses that a test does not expect stop it")]

use machine::Registers;
use pci::capabilities;
use proptest::prelude::*;
use storage::virtio::Capabilities;
use storage::{BarRange, StartError};

/// Configuration space; reading outside it or unaligned stops the test.
struct Configuration([u8; 256]);

impl Configuration {
    fn bytes<const N: usize>(&self, offset: usize) -> [u8; N] {
        assert!(offset.is_multiple_of(N), "{N} bytes at {offset:#x}");
        *self.0[offset..].first_chunk().unwrap_or_else(|| panic!("{N} bytes at {offset:#x}"))
    }
}

impl Registers for Configuration {
    fn read8(&self, offset: usize) -> u8 {
        self.0[offset]
    }
    fn read16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.bytes(offset))
    }
    fn read32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.bytes(offset))
    }
    fn read64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.bytes(offset))
    }
    fn write8(&mut self, _: usize, _: u8) {
        panic!("configuration space is only read")
    }
    fn write16(&mut self, _: usize, _: u16) {
        panic!("configuration space is only read")
    }
    fn write32(&mut self, _: usize, _: u32) {
        panic!("configuration space is only read")
    }
    fn write64(&mut self, _: usize, _: u64) {
        panic!("configuration space is only read")
    }
}

/// The capabilities of QEMU's `virtio-blk-pci`: `lspci -xxx` shows these bytes.
fn qemu() -> Configuration {
    let mut bytes = [0; 256];
    bytes[0x00..0x08].copy_from_slice(&[0xf4, 0x1a, 0x42, 0x10, 0x07, 0x05, 0x10, 0x00]);
    bytes[0x34] = 0x98;
    let mut put = |at: usize, capability: &[u8]| bytes[at..at + capability.len()].copy_from_slice(capability);
    put(0x40, &[0x09, 0x00, 0x10, 0x01, 4, 0, 0, 0, 0, 0x00, 0, 0, 0, 0x10, 0, 0]);
    put(0x50, &[0x09, 0x40, 0x10, 0x03, 4, 0, 0, 0, 0, 0x10, 0, 0, 0, 0x10, 0, 0]);
    put(0x60, &[0x09, 0x50, 0x10, 0x04, 4, 0, 0, 0, 0, 0x20, 0, 0, 0, 0x10, 0, 0]);
    put(0x70, &[0x09, 0x60, 0x14, 0x02, 4, 0, 0, 0, 0, 0x30, 0, 0, 0, 0x10, 0, 0, 4, 0, 0, 0]);
    put(0x84, &[0x09, 0x70, 0x14, 0x05, 0, 0, 0, 0, 0, 0x00, 0, 0, 0, 0x00, 0, 0, 0, 0, 0, 0]);
    put(0x98, &[0x11, 0x84, 0x01, 0x80, 1, 0, 0, 0, 1, 0x08, 0, 0]);
    Configuration(bytes)
}

#[test]
fn the_structures_of_a_real_device_are_found() {
    let structure = |offset| BarRange { bar: 4, offset, length: 0x1000 };
    let expected = Capabilities {
        common: structure(0),
        notify: structure(0x3000),
        notify_multiplier: 4,
        device: structure(0x2000),
    };
    assert_eq!(Capabilities::find_blk(&qemu()), Ok(expected));
    let ids: Vec<_> = capabilities::standard(&qemu()).collect();
    assert_eq!(ids, [(0x11, 0x98), (9, 0x84), (9, 0x70), (9, 0x60), (9, 0x50), (9, 0x40)]);
}

#[test]
fn a_function_without_a_list_has_no_capabilities() {
    let mut configuration = qemu();
    configuration.0[0x06] = 0;
    assert_eq!(Capabilities::find_blk(&configuration), Err(StartError::Missing("common configuration")));
}

#[test]
fn a_list_in_circles_ends() {
    let mut configuration = qemu();
    configuration.0[0x41] = 0x98;
    assert_eq!(capabilities::standard(&configuration).count(), 48);
    assert!(Capabilities::find_blk(&configuration).is_ok());
}

#[test]
fn a_structure_that_cannot_be_right_is_passed_over() {
    for (at, byte, missing) in [
        (0x62, 0x0f, "device configuration"), // the capability is too short
        (0x64, 0x06, "device configuration"), // there is no BAR 6
        (0x68, 0x02, "device configuration"), // misaligned
        (0x6d, 0x00, "device configuration"), // the structure is empty
        (0x72, 0x10, "notification"),         // the capability lacks the multiplier
    ] {
        let mut configuration = qemu();
        configuration.0[at] = byte;
        assert_eq!(Capabilities::find_blk(&configuration), Err(StartError::Missing(missing)), "{at:#x}");
    }
}

#[test]
fn the_first_usable_structure_of_a_type_is_taken() {
    let mut configuration = qemu();
    configuration.0[0x53] = 0x04;
    configuration.0[0x54] = 0x00;
    let found = Capabilities::find_blk(&configuration).map(|found| found.device.bar);
    assert_eq!(found, Ok(4));
    configuration.0[0x64] = 0x07;
    let found = Capabilities::find_blk(&configuration).map(|found| found.device.bar);
    assert_eq!(found, Ok(0), "the first cannot be right");
}

proptest! {
    #[test]
    fn no_configuration_space_breaks_the_search(
        mut bytes in prop::array::uniform32(any::<[u8; 8]>()),
        edits in prop::collection::vec((0_usize..256, any::<u8>()), 0..12),
    ) {
        bytes[0][6] |= 0x10;
        let random = Configuration(bytes.as_flattened().try_into().unwrap_or([0; 256]));
        let _ = Capabilities::find_blk(&random);
        let mut edited = qemu();
        for (at, byte) in edits {
            edited.0[at] = byte;
        }
        if let Ok(found) = Capabilities::find_blk(&edited) {
            prop_assert!(found.common.bar < 6 && found.common.length >= 56);
        }
    }
}
