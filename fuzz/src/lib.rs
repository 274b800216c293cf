//! What the fuzz targets share: the fuzzer's bytes as a disk and as a dead kernel's memory, and how takeovers are judged.

#![forbid(unsafe_code)]

mod disk;
mod judge;
mod memory;

pub use disk::Disk;
pub use judge::{Asked, Change, judge};
pub use memory::Memory;
