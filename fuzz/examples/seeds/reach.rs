//! Tables of one function, by architecture and mode, behind the registers that say how they are read.

use crate::Seed;

/// CAP and ECAP as QEMU 10 has them, with every kind of translation.
const CAP: u64 = 0x01d2_008c_222f_0606;
const ECAP: u64 = 0x0000_c880_00f0_0f4a;
/// Root table, context table, three tables of pages, PASID directory and table.
const PAGES: usize = 7;

pub(crate) fn seeds() -> Vec<Seed> {
    vec![("legacy", legacy()), ("scalable", scalable()), ("amdvi", amdvi())]
}

/// Function 00:02.0 in three levels, of whose last table one entry leads back to it.
fn legacy() -> Vec<u8> {
    let mut memory = vec![0; PAGES * 0x1000];
    put(&mut memory, 0, 0x1001);
    put(&mut memory, 0x1000 + 0x10 * 16, 0x2001);
    put(&mut memory, 0x1008 + 0x10 * 16, 0x101);
    put_pages(&mut memory, 3);
    with_registers([0, 0, CAP, ECAP, 0, 0, 0], memory)
}

/// The same by way of a PASID directory and a PASID table, and of first-stage tables of four levels.
fn scalable() -> Vec<u8> {
    let mut memory = vec![0; PAGES * 0x1000];
    put(&mut memory, 0, 0x1001);
    put(&mut memory, 0x1000 + 0x10 * 32, 0x5001);
    put(&mut memory, 0x5000, 0x6001);
    put(&mut memory, 0x6000, 0x41);
    put(&mut memory, 0x6010, 0x2000);
    put_pages(&mut memory, 7);
    with_registers([0, 1 << 10, CAP, ECAP, 0, 0, 0], memory)
}

/// Function 00:02.0 of AMD-Vi with guest tables for PASID 0 and 1 over host tables, whose entries are a page of each kind of
/// size, and one that skips a level.
fn amdvi() -> Vec<u8> {
    let mut memory = vec![0; PAGES * 0x1000];
    put(&mut memory, 0x10 * 32, 0x6C80_0000_0000_1603 | 1 << 54);
    put(&mut memory, 0x10 * 32 + 8, 2);
    put(&mut memory, 0x1000, 0x6000_0000_0000_2201);
    put(&mut memory, 0x1008, 0x6000_0000_4000_0001);
    for page in 2..PAGES as u64 {
        put(&mut memory, 0x2000 + page as usize * 8, 0x6000_0000_0000_0001 | page << 12);
    }
    put(&mut memory, 0x2000, 0x6000_0000_0001_0E01);
    put(&mut memory, 0x2008, 0x6000_0000_0001_0E01);
    put(&mut memory, 0x2000 + 7 * 8, 0x2000_0000_0000_9001);
    // The CR3 table, and guest tables.
    put(&mut memory, 0x3000, 0x4001);
    put(&mut memory, 0x3008, 0x4001);
    put(&mut memory, 0x4000, 0x5007);
    put(&mut memory, 0x5000, 0x6007);
    put(&mut memory, 0x6000, 0x7087);
    // Pages 0x10 to 0x1F are excluded for all devices.
    with_registers([1, 0, 1 << 0 | 1 << 16, 1 << 4 | 2 << 10 | 1 << 12, 0, 0x1_0003, 0x1_F000], memory)
}

/// A large page, small ones, and a table that leads back to itself.
fn put_pages(memory: &mut [u8], rights: u64) {
    put(memory, 0x2000, 0x3000 | rights);
    put(memory, 0x2008, 0x2000 | rights);
    put(memory, 0x3000, 0x4000 | rights);
    put(memory, 0x3008, 0x20_0080 | rights);
    put(memory, 0x4000, 0x9000 | rights);
    put(memory, 0x4008, 0xFEE0_0000 | rights);
}

fn with_registers(header: [u64; 7], memory: Vec<u8>) -> Vec<u8> {
    [header.map(u64::to_le_bytes).concat(), memory].concat()
}

fn put(memory: &mut [u8], at: usize, word: u64) {
    memory[at..at + 8].copy_from_slice(&word.to_le_bytes());
}
