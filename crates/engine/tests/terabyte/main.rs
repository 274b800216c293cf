//! Checks that the engine's need of memory does not grow with the memory of the dead machine.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise as tests do")]

mod dump;

use dump::{Array, Machine, dump};
use kdump::Codec;

/// The part of a reservation of 32 MiB that the capture kernel can spare for the engine, besides tables and the disk's
/// buffers.
const SPARE: usize = 4 << 20;

#[test]
fn a_machine_of_a_tebibyte_is_dumped_in_the_memory_that_one_of_64_gibibytes_takes() {
    let [small, large] = [1 << 24, 1 << 28].map(|frames| {
        let machine = Machine { frames, array: Array::LeftOut };
        let dumped = dump(&machine, Codec::None);
        assert_eq!(dumped.ended.error, None);
        assert_eq!(dumped.ended.statistics.done, machine.kept());
        assert!(dumped.vital < dumped.took && dumped.choosing < dumped.took);
        dumped.peak
    });
    assert!(large < SPARE, "{large} bytes");
    assert!(large.abs_diff(small) < 4096, "{small} and {large} bytes");
}
