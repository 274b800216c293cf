//! A fallback kernel: the fields that describe it, its kernel's set-up header, and `boot_params` with two ranges of memory.

use crate::Seed;
use handoff::Fallback;

pub(crate) fn seeds() -> Vec<Seed> {
    let whole = fallback(8 << 20);
    let cut = whole[..64 + 0x290 + 0x300].to_vec();
    vec![("whole", whole), ("cut", cut), ("short_kernel", fallback(0x100))]
}

/// One whose kernel has so many bytes.
fn fallback(kernel: u64) -> Vec<u8> {
    let fallback = Fallback { kept: 16 << 20, kernel, initramfs: 9 << 20, command_line: "nr_cpus=1" };
    let header = fallback.header().expect("a short command line");
    [&header[16..80], &fixtures::bz_image(), &boot_params()].concat()
}

/// Linux, Documentation/arch/x86/zero-page.rst.
fn boot_params() -> [u8; 4096] {
    let mut params = [0; 4096];
    let mut put = |at: usize, bytes: &[u8]| params[at..][..bytes.len()].copy_from_slice(bytes);
    put(0x1E8, &[2]);
    put(0x218, &[0, 0, 0, 0x30, 0, 0, 0, 0x20]);
    for (at, start, len) in [(0x2D0, 0x1000_u64, 0x9_F000_u64), (0x2E4, 0x10_0000, 0x1000_0000)] {
        put(at, &[start, len].map(u64::to_le_bytes).concat());
        put(at + 16, &[1]);
    }
    params
}
