//! ELF cores with one note and two ranges of memory, whole and truncated within the second range.

use crate::Seed;

/// Where memory starts in the file.
const MEMORY: usize = 0x1000;
/// `p_vaddr` of address 0.
const DIRECT: u64 = 0xFFFF_8880_0000_0000;

pub(crate) fn seeds() -> Vec<Seed> {
    let core = core();
    let cut = core[..core.len() - 0x1800].to_vec();
    vec![("whole", core), ("cut", cut)]
}

/// An ELF header and program headers (System V ABI, chapters 4 and 5), then memory. The first range ends within a page, and
/// the second starts in the same.
fn core() -> Vec<u8> {
    let mut bytes = Vec::from(*b"\x7fELF\x02\x01\x01");
    bytes.resize(16, 0);
    bytes.extend([4, 0, 62, 0, 1, 0, 0, 0]);
    bytes.extend([0_u64, 64, 0].map(u64::to_le_bytes).concat());
    bytes.extend([0, 0, 0, 0, 64, 0, 56, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([4, 0x200, 0, 0, 0, 0, 0].map(u64::to_le_bytes).concat());
    let ranges = [(MEMORY as u64, 0x1000, 0x1800), (MEMORY as u64 + 0x1800, 0x2800, 0x2800)];
    for (at, start, len) in ranges {
        bytes.extend([1, at, DIRECT + start, start, len, len, 4096].map(u64::to_le_bytes).concat());
    }
    bytes.resize(MEMORY + 0x4000, 0xA5);
    bytes
}
