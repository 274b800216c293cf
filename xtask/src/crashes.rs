//! Crashes: runs one from boot to reset, and lists those that the test runs, with what each must show.

pub(crate) mod boot;
pub(crate) mod crash;
pub(crate) mod damage;
mod expectation;
pub(crate) mod handover;
pub(crate) mod matrix;
pub(crate) mod row;
mod used;
