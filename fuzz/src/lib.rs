//! What the fuzz targets share: the fuzzer's bytes as a disk and as a dead kernel's memory.

#![forbid(unsafe_code)]

mod disk;
mod memory;

pub use disk::Disk;
pub use memory::Memory;
