//! Framebuffers as OVMF and a VESA BIOS leave them, with a line of text.

use crate::Seed;

pub(crate) fn seeds() -> Vec<Seed> {
    vec![("efi", framebuffer(0x70, 1280, 800, 32)), ("vesa", framebuffer(0x23, 1024, 768, 16))]
}

/// The first 64 bytes of `boot_params` (Linux, include/uapi/linux/screen_info.h).
fn framebuffer(kind: u8, width: u16, height: u16, depth: u16) -> Vec<u8> {
    let mut info = vec![0; 64];
    info[0x0f] = kind;
    let channels = if depth == 32 { [8, 16, 8, 8, 8, 0] } else { [5, 11, 6, 5, 5, 0] };
    for (at, value) in [(0x12, width), (0x14, height), (0x16, depth), (0x24, width * (depth / 8))] {
        info[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    info[0x18..0x1c].copy_from_slice(&0xC000_0000_u32.to_le_bytes());
    info[0x26..0x2c].copy_from_slice(&channels);
    [info, b"dumped 20000 of 31154 pages".to_vec()].concat()
}
