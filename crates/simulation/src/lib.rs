//! Simulates takeovers on a software machine: scenario files describe them, pictures show them.
//!
//! ```text
//! text of a file ── File::parse ── Stage::set ── run ── Simulation ──┬── draw::text
//!                   (syntax)       (sense)     (values)              ├── draw::svg
//!                                                                    └── serde
//! ```
//!
//! A [`File`] describes a machine in a dozen lines. [`Stage::set`] checks that such a machine can exist. [`run()`]
//! lets its kernel die, takes the machine over, and returns what happened as values. Drawing is a pure function of
//! these values.

#![forbid(unsafe_code)]

pub mod draw;
pub mod file;
mod rivals;
mod run;
mod stage;
mod values;

pub use file::{Error, File};
pub use run::run;
pub use stage::Stage;
pub use values::{
    Device, Domain, Landing, Mapping, Phase, Policy, PolicyResult, Purpose, Simulation, Tables, Traffic,
};

/// A scenario for users who have none: `holdover simulate` runs it when no file is given.
pub const EXAMPLE: &str = include_str!("../../../scenarios/plain.toml");
