//! The tasks of `cargo xtask`, one module each.

pub(crate) mod bench_dump;
pub(crate) mod build;
pub(crate) mod compare;
pub(crate) mod compare_handover;
pub(crate) mod core;
pub(crate) mod demo;
pub(crate) mod disk_speed;
pub(crate) mod fuzz;
pub(crate) mod package;
pub(crate) mod run;
pub(crate) mod setup;
mod spread;
pub(crate) mod test;
