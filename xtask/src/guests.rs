//! What a guest runs: Debian's kernels from the archive, an initial RAM file system, and Holdover or stock kdump to
//! take the dump.

pub(crate) mod archive;
mod bzimage;
pub(crate) mod image;
pub(crate) mod initramfs;
pub(crate) mod kernels;
pub(crate) mod mirror;
mod nfs;
mod pe;
pub(crate) mod signed;
pub(crate) mod stock;
pub(crate) mod target;
pub(crate) mod tool;
