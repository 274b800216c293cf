//! The machine that a guest runs on: its scenario, its QEMU, and what the bench reads and controls of it.

pub(crate) mod area;
pub(crate) mod console;
pub(crate) mod emulator;
pub(crate) mod files;
pub(crate) mod firmware;
pub(crate) mod gdb;
pub(crate) mod qemu;
pub(crate) mod qmp;
pub(crate) mod ram;
pub(crate) mod reserved;
pub(crate) mod scale;
pub(crate) mod scenario;
mod socket;
mod traffic;
