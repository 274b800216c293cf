//! A bridge, and a function with ATS and virtual functions behind it.

use crate::Seed;

/// Bytes of the bridge's configuration space, and of the function's.
const HALF: usize = 0x1A0;

pub(crate) fn seeds() -> Vec<Seed> {
    vec![("behind_a_bridge", [bridge(), function()].concat())]
}

/// A root port (PCI Express base specification 6.0, section 7.5.3) to bus 1, with a window.
fn bridge() -> Vec<u8> {
    let mut space = vec![0; HALF];
    put(&mut space, 0x00, &[0x86, 0x80, 0x0B, 0x24]);
    put(&mut space, 0x06, &[0x10]);
    put(&mut space, 0x0E, &[1]);
    put(&mut space, 0x19, &[1, 1, 0]);
    put(&mut space, 0x20, &[0x80, 0xFE, 0x90, 0xFE]);
    put(&mut space, 0x34, &[0x40]);
    put(&mut space, 0x40, &[0x10, 0, 0x42, 0]);
    space
}

/// A function with a 64-bit base address register, ATS (section 10.5.1) turned on, and three virtual functions (section
/// 9.3.3).
fn function() -> Vec<u8> {
    let mut space = vec![0; HALF];
    put(&mut space, 0x00, &[0xF4, 0x1A, 0x42, 0x10]);
    put(&mut space, 0x10, &[0x0C, 0, 0, 0xFE, 1]);
    put(&mut space, 0x100, &[0x01, 0, 0x01, 0x15]);
    put(&mut space, 0x150, &[0x0F, 0, 0x01, 0x16, 0x24, 0, 0, 0x80]);
    put(&mut space, 0x160, &[0x10, 0, 0x01, 0]);
    put(&mut space, 0x168, &[0x09, 0, 0, 0, 64, 0, 64, 0, 3, 0, 0, 0, 0x80, 0, 2, 0]);
    space
}

fn put(space: &mut [u8], at: usize, bytes: &[u8]) {
    space[at..at + bytes.len()].copy_from_slice(bytes);
}
