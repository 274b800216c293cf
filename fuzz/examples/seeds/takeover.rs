//! Machines of several kinds, unharmed, with words of their tables overwritten, and with pointers bent.

use crate::Seed;

pub(crate) fn seeds() -> Vec<Seed> {
    // A leaf of the second stage (9.8): read and write, at 0x20_0000, where made-up machines have the capture kernel.
    let leaf = 0x0200_0003_u64.to_le_bytes();
    let overwritten = [&[3, 0, 0][..], &leaf, &[3, 1, 0], &leaf].concat();
    let bent = [&[0x13, 0, 0][..], &1_u64.to_le_bytes(), &[0x21, 0, 0], &[0; 8]].concat();
    vec![
        ("plain", machine(1, 255, &[])),
        ("another", machine(2, 255, &[])),
        ("third", machine(5, 255, &[])),
        ("few_frames", machine(1, 4, &[])),
        ("leaves_into_the_capture_kernel", machine(1, 255, &overwritten)),
        ("bent", machine(2, 255, &bent)),
    ]
}

/// The same for AMD's: a word of the device table that lets a device pass, leaves into the capture kernel, and bent pointers.
pub(crate) fn amdvi_seeds() -> Vec<Seed> {
    // A page of host tables (2.2.3), and what a device table entry says of pass-through (2.2.2.1).
    let page = 0x6000_0000_0200_0001_u64.to_le_bytes();
    let passing = 0x6000_0000_0000_0003_u64.to_le_bytes();
    let overwritten = [&[3, 0, 0][..], &page, &[3, 1, 0], &page].concat();
    let bent = [&[0x13, 0, 0][..], &1_u64.to_le_bytes(), &[0x20, 0, 0], &[0; 8]].concat();
    let passing = [&[0, 0, 0][..], &passing].concat();
    vec![
        ("plain", machine(1, 255, &[])),
        ("another", machine(2, 255, &[])),
        ("third", machine(5, 255, &[])),
        ("few_frames", machine(1, 4, &[])),
        ("leaves_into_the_capture_kernel", machine(1, 255, &overwritten)),
        ("passing", machine(3, 255, &passing)),
        ("bent", machine(2, 255, &bent)),
    ]
}

fn machine(seed: u8, frames: u8, words: &[u8]) -> Vec<u8> {
    [&[seed, frames][..], words].concat()
}
