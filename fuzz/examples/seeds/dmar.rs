//! DMAR tables (VT-d specification, chapter 8).

use crate::Seed;

/// The type of each structure (8.2), then what is in it.
const DRHD: (u16, &[u8]) = (0, &[1, 0, 0, 0, 0, 0, 0xD9, 0xFE, 0, 0, 0, 0, 3, 8, 0, 0, 0, 0xFF, 0, 0]);
const DRHD_OF_TWO: (u16, &[u8]) = (
    0,
    &[0, 0, 0, 0, 0, 0, 0xD8, 0xFE, 0, 0, 0, 0, 1, 8, 0, 0, 0, 0, 2, 0, 2, 10, 0, 0, 0, 0, 0x1C, 0, 3, 1],
);
const RMRR: (u16, &[u8]) =
    (1, &[0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0xFF, 0x0F, 0x11, 0, 0, 0, 0, 0, 1, 8, 0, 0, 0, 2, 0x1F, 3]);
const ATSR: (u16, &[u8]) = (2, &[1, 0, 0, 0]);
const RHSA: (u16, &[u8]) = (3, &[0, 0, 0, 0, 0, 0, 0xD9, 0xFE, 0, 0, 0, 0, 1, 0, 0, 0]);
const ANDD: (u16, &[u8]) = (4, b"\0\0\0\x09\\_SB.I2C0\0");
const SATC: (u16, &[u8]) = (5, &[1, 0, 0, 0, 1, 8, 0, 0, 0, 0, 8, 0]);
const OTHER: (u16, &[u8]) = (6, &[0; 8]);

pub(crate) fn seeds() -> Vec<Seed> {
    vec![
        ("qemu", qemus()),
        ("server", table(&[DRHD_OF_TWO, DRHD, RMRR, ATSR, RHSA, ANDD, SATC])),
        ("newer", table(&[OTHER, DRHD])),
    ]
}

pub(crate) fn qemus() -> Vec<u8> {
    table(&[DRHD])
}

fn table(structures: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::from(*b"DMAR");
    bytes.resize(48, 0);
    bytes[36] = 38;
    bytes[37] = 1;
    for (kind, body) in structures {
        bytes.extend(kind.to_le_bytes());
        bytes.extend((body.len() as u16 + 4).to_le_bytes());
        bytes.extend(*body);
    }
    let length = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[9] = bytes.iter().fold(0, |sum, byte| sum.wrapping_sub(*byte));
    bytes
}
