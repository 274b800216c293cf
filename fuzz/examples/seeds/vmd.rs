//! A volume management device of a server and one of a client in a virtual machine, each with a root port and a disk behind it.

use crate::Seed;

pub(crate) fn seeds() -> Vec<Seed> {
    vec![("server", vmd(0x28c0)), ("client", vmd(0x9a0b))]
}

fn vmd(id: u16) -> Vec<u8> {
    let mut own = vec![0; 256];
    own[..2].copy_from_slice(&0x8086_u16.to_le_bytes());
    own[2..4].copy_from_slice(&id.to_le_bytes());
    own[6] = 0x10; // A list of capabilities,
    own[0x34] = 0x80;
    own[0x80..0x88].copy_from_slice(&[0x09, 0, 24, 0, 0x57, 0x44, 0x48, 0x53]); // with the mark "SHDW",
    own[0x88..0x98].copy_from_slice(&[0x8000_0000_u64, 0x60_0000_0000].map(u64::to_le_bytes).concat());
    for (at, address) in [(0x10, 0x60_0000_0000_u64), (0x18, 0x8000_0000), (0x20, 0x61_0000_0000)] {
        own[at..at + 8].copy_from_slice(&(address | 0b0100).to_le_bytes());
    }
    own[0x70] = 0b10; // or addresses in registers.
    let registers = [0x8000_0000_u64, 0x61_0000_0000].map(u64::to_le_bytes).concat();
    let mut port = vec![0; 64];
    port[..4].copy_from_slice(&[0x86, 0x80, 0x0a, 0x35]);
    port[0x0e] = 1;
    port[0x19..0x1b].copy_from_slice(&[1, 1]);
    let mut disk = vec![0; 64];
    disk[..4].copy_from_slice(&[0x86, 0x80, 0x53, 0x09]);
    disk[0x10..0x18].copy_from_slice(&0x8000_4004_u64.to_le_bytes());
    [own, [registers, vec![0; 48]].concat(), port, disk].concat()
}
