//! IVRS tables (AMD's I/O virtualization specification, section 5.2).

use crate::Seed;

/// All devices but the unit's own bridge, and aliases behind a bridge.
const RANGES: &[u8] = &[3, 3, 0, 0, 4, 0xFE, 0xFF, 0, 67, 0, 1, 0, 0, 0xA5, 0, 0, 4, 0xFF, 1, 0, 0, 0, 0, 0];
/// An I/O APIC and a timer.
const SPECIAL: &[u8] = &[72, 0, 0, 0xD7, 5, 0xA0, 0, 1, 72, 0, 0, 0, 0, 0xA0, 0, 2];
const ALL: &[u8] = &[1, 0, 0, 0, 66, 8, 1, 0, 0, 9, 1, 0, 70, 7, 0, 0, 0, 0, 0, 0x80];

pub(crate) fn seeds() -> Vec<Seed> {
    let all_kinds =
        [ivhd(0x10, &[RANGES, SPECIAL]), ivhd(0x11, &[RANGES, SPECIAL]), ivhd(0x40, &[RANGES, &acpi()])];
    vec![
        ("one_kind", table(&[ivhd(0x10, &[ALL])])),
        ("all_kinds", table(&all_kinds)),
        ("reserved", table(&[ivhd(0x11, &[RANGES]), ivmd(0x20), ivmd(0x22)])),
    ]
}

/// A block that describes a unit.
fn ivhd(kind: u8, entries: &[&[u8]]) -> Vec<u8> {
    let images = if kind == 0x10 { 0 } else { 16 };
    let length = (24 + images + entries.concat().len()) as u16;
    let mut bytes = vec![kind, 0xB0];
    bytes.extend(length.to_le_bytes());
    bytes.extend([2, 0, 0x40, 0]);
    bytes.extend(0xFD20_0000_u64.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(&0x2465_77EF_A225_4AFA_u128.to_le_bytes()[..images]);
    bytes.extend(entries.concat());
    bytes
}

/// A device that ACPI names.
fn acpi() -> Vec<u8> {
    [b"\xF0\xA5\0\x40AMDI0020".as_slice(), &[0; 8], &[2, 9], b"\\_SB.FUR0"].concat()
}

/// A block that reserves memory.
fn ivmd(kind: u8) -> Vec<u8> {
    let mut bytes = vec![kind, 7, 32, 0, 5, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend([0x9F00_0000_u64, 0x20_0000].map(u64::to_le_bytes).concat());
    bytes
}

fn table(blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::from(*b"IVRS");
    bytes.resize(48, 0);
    bytes[8] = 2;
    bytes[36..40].copy_from_slice(&0x0020_3043_u32.to_le_bytes());
    bytes.extend(blocks.concat());
    let length = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[9] = bytes.iter().fold(0, |sum, byte| sum.wrapping_sub(*byte));
    bytes
}
