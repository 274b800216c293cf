//! Takeovers on a software machine, told by scenario files and drawn for people.
//!
//! ```text
//! text of a file ── File::parse ── Stage::set ── run ── Simulation ──┬── draw::text
//!                   (syntax)       (sense)     (values)              ├── draw::svg
//!                                                                    └── serde
//! ```
//!
//! A [`File`] describes a machine in a dozen lines; [`Stage::set`] makes sure that there can be such a machine;
//! [`run()`] lets its kernel die, takes the machine over, and says in values what happened. Drawing is a pure function of
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

/// A scenario for whoever has none: what `holdover simulate` shows when it is given no file.
pub const EXAMPLE: &str = include_str!("../../../scenarios/plain.toml");
