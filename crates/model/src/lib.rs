//! A software VT-d machine with caches, faults and DMA engines, for tests and simulation.
//!
//! A [`Scenario`] describes a machine at the moment its kernel dies; [`Scenario::machine`] builds it. The [`Machine`]
//! hands out ports that implement the traits of the `machine` crate. Every call of a port is a step of the machine's
//! time: its remapping units go on with their commands, its caches evict what they like, and its devices do DMA. The
//! model compares each answer that a device gets, warm from the caches and cold from the tables, with the answer
//! before the panic. It collects everything that a takeover must never do as [`Violation`]s.
//!
//! The model is as unkind as the specification allows: commands take time; a fetched descriptor is not yet executed;
//! hardware does not see stores until they are published (and may see them earlier); new frames hold junk; cached
//! entries stay unless they are invalidated; and RTADDR has no effect until GCMD.SRTP.
//!
//! | module | what it holds |
//! |---|---|
//! | [`memory`] | physical memory as hardware sees it |
//! | [`vast`] | tables too large to be stored |
//! | [`walk`] | what the tables say, without caches |
//! | `unit` | a remapping unit: registers, commands, caches, queue, fault records |
//! | [`habits`] | how a unit misbehaves |
//! | `world`, [`witness`] | one step of time; what must not happen |
//! | `ports` | the machine as the capture kernel sees it |
//! | [`scenario`], [`damage`] | descriptions of a machine and of its damage |
//! | [`random`] | random descriptions |
//! | `assemble`, `old_kernel` | how the old kernel sets a machine up |
//! | [`trace`] | what happened, for people |

#![forbid(unsafe_code)]

pub mod answer;
pub mod habits;
mod machine;
pub mod memory;
mod ports;
pub mod trace;
mod vtd;
pub mod witness;
mod world;

pub use crate::answer::{Access, Answer, Direction, Requester};
pub use crate::machine::Machine;
pub use crate::memory::MemoryKind;
pub use crate::ports::{OldRam, OwnFrames, Ticks, UnitRegisters};
pub use crate::vtd::scenario::{Meddling, Scenario};
pub use crate::vtd::{damage, random, scenario, vast, walk};
pub use crate::witness::{Delivery, Temperature, Violation};
pub use crate::world::Own;
