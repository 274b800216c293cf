//! The fallback kernel as the capture kernel finds it in memory: the page that describes it, the set-up header of its kernel, and what
//! that kernel is told in turn. The page's checksum is made right, so that each of its fields is looked at.

#![no_main]

use std::hash::Hasher;

use capture::platform::boot_params::BootParams;
use capture::platform::zero_page::{self, Next, Remapped};
use handoff::{BzImage, Fallback};
use holdover_fuzz::Memory;
use libfuzzer_sys::fuzz_target;
use machine::{OldMemory, PhysicalAddress, Range};
use twox_hash::XxHash64;

/// Where the fields are in the page, behind its checksum, and how many bytes of them the fuzzer chooses.
const FIELDS: std::ops::Range<usize> = 16..80;
/// What the capture kernel keeps.
const KEPT: Range<PhysicalAddress> =
    Range { start: PhysicalAddress::new(1 << 20), end: PhysicalAddress::new(2 << 20) };

/// The page with these fields.
fn page(fields: &[u8]) -> [u8; Fallback::HEADER] {
    let mut page = [0; Fallback::HEADER];
    page[..8].copy_from_slice(b"HoldFall");
    page[FIELDS].copy_from_slice(fields);
    let mut sum = XxHash64::with_seed(0);
    sum.write(&page[FIELDS.start..]);
    page[8..16].copy_from_slice(&sum.finish().to_le_bytes());
    page
}

/// What lies at address 0.
fn params(bytes: &[u8]) -> BootParams {
    let memory = Memory::new(bytes);
    BootParams::copy(0, |address, into| memory.read(address.into(), into).is_ok())
}

fuzz_target!(|bytes: &[u8]| {
    let Some((fields, rest)) = bytes.split_at_checked(FIELDS.len()) else { return };
    let Some((first, rest)) = rest.split_first_chunk::<{ BzImage::HEADER }>() else { return };
    let (page, params) = (page(fields), params(rest));
    // It lies in the reservation, and so below the processor's last address.
    let container = params.initramfs().filter(|container| container.end.get() <= 1 << 52);
    let Some(length) = container.map(|container| container.len()) else { return };
    let Ok(fallback) = Fallback::parse(&page, length) else { return };
    assert!(fallback.length() <= length && fallback.kernel().end <= fallback.initramfs().start);
    let Ok(image) = BzImage::parse(first, fallback.kernel) else { return };
    let program = image.program();
    assert!(program.end <= fallback.kernel && program.end - program.start <= image.memory());
    let initramfs = Range::from(fallback.initramfs());
    let next = Next { first, image, command_line: 7, initramfs, root_pointer: Some(9), kept: &[KEPT] };
    let mut told = [0; 4096];
    if zero_page::compose(&params, &next, &mut told).is_ok() {
        assert!(!self::params(&told).usable().any(|usable| usable.overlaps(KEPT)));
    }
    for remapped in [Remapped::No, Remapped::Legacy, Remapped::Scalable] {
        let line = zero_page::command_line(fallback.command_line, 1, remapped, image.command_line());
        assert!(line.is_ok_and(|line| line.len() <= image.command_line() as usize) || line.is_err());
    }
});
