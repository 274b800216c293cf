//! Measures the memory and time that a dump of a machine of 1 TiB takes. The machine's memory is computed when it is
//! read, and the disk discards the pages.

#![expect(clippy::unwrap_used, reason = "helpers of tests may stop at the first surprise as tests do")]

#[path = "../tests/terabyte/dump/mod.rs"]
mod dump;

use dump::{Array, Dumped, Machine, dump};
use kdump::Codec;

fn main() {
    println!("GiB   codec   pages     peak, KiB   choosing, s   vital, s   altogether, s");
    for (gibibytes, codec) in [(64, Codec::Zlib), (1024, Codec::Zlib), (1024, Codec::None)] {
        let machine = Machine { frames: gibibytes << 18, array: Array::Kept };
        let Dumped { ended, peak, choosing, vital, took } = dump(&machine, codec);
        assert_eq!(ended.error, None, "the dump is complete");
        let (pages, name, peak) = (ended.statistics.done, codec.name(), peak.div_ceil(1024));
        let [choosing, vital, took] = [choosing, vital, took].map(|time| time.as_secs_f64());
        println!("{gibibytes:<5} {name:7} {pages:<9} {peak:<11} {choosing:<13.2} {vital:<10.2} {took:.2}");
    }
}
