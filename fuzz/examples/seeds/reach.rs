//! Tables of one function in each mode, behind the registers that say how they are read.

use crate::Seed;

/// CAP and ECAP as QEMU 10 has them, with every kind of translation.
const CAP: u64 = 0x01d2_008c_222f_0606;
const ECAP: u64 = 0x0000_c880_00f0_0f4a;
/// Root table, context table, three tables of pages, PASID directory and table.
const PAGES: usize = 7;

pub(crate) fn seeds() -> Vec<Seed> {
    vec![("legacy", legacy()), ("scalable", scalable())]
}

/// Function 00:02.0 in three levels, of whose last table one entry leads back to it.
fn legacy() -> Vec<u8> {
    let mut memory = vec![0; PAGES * 0x1000];
    put(&mut memory, 0, 0x1001);
    put(&mut memory, 0x1000 + 0x10 * 16, 0x2001);
    put(&mut memory, 0x1008 + 0x10 * 16, 0x101);
    put_pages(&mut memory, 3);
    with_registers(0, memory)
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
    with_registers(1 << 10, memory)
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

fn with_registers(root: u64, memory: Vec<u8>) -> Vec<u8> {
    [[root, CAP, ECAP].map(u64::to_le_bytes).concat(), memory].concat()
}

fn put(memory: &mut [u8], at: usize, word: u64) {
    memory[at..at + 8].copy_from_slice(&word.to_le_bytes());
}
