//! Where things are in a dump area, as the documentation of `crates/area` says; witnesses trust no constant of Holdover's own. All in bytes.

/// Holdover writes blocks of so many bytes.
pub(crate) const BLOCK: u64 = 4096;
/// The seal; in front of it is nothing that a dump changes.
pub(crate) const SEAL: u64 = (1 << 20) - BLOCK;
/// The log's record, which the log follows.
pub(crate) const LOG: u64 = 1 << 20;
/// The dump's first block, which is written once more when the dump is complete.
pub(crate) const DUMP: u64 = 4 << 20;
