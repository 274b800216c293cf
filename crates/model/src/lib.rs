//! A software VT-d machine with caches, faults and DMA engines, for tests and simulation.
//!
//! A [`Scenario`] describes a machine at the moment its kernel dies; [`Scenario::machine`] builds it. The [`Machine`]
//! hands out ports that implement the traits of the `machine` crate, and every call of a port is a step of the machine's
//! time: its remapping units go on with what they were told, its caches forget what they like, its devices do DMA, and
//! each answer that a device gets, warm from the caches and cold from the tables, is compared with the answer it got
//! before the panic. What a takeover must never do is collected as [`Violation`]s.
//!
//! The model is as unkind as the specification allows: commands take time, a fetched descriptor is not a finished one,
//! stores are not seen by the hardware until they are published (and may be seen earlier), new frames hold junk, nothing
//! cached is forgotten unless it is invalidated, and RTADDR means nothing until GCMD.SRTP.
//!
//! | module | what it is |
//! |---|---|
//! | [`memory`] | physical memory as hardware finds it |
//! | [`vast`] | tables too large to be stored |
//! | [`walk`] | what the tables say, without caches |
//! | `unit` | a remapping unit: registers, commands, caches, queue, fault records |
//! | [`habits`] | how a unit misbehaves |
//! | `world`, [`witness`] | one step of time; what must not happen |
//! | `ports` | the machine as the capture kernel sees it |
//! | [`scenario`], [`damage`] | a machine and its damage, described |
//! | [`random`] | descriptions made up |
//! | `assemble`, `old_kernel` | how an old kernel came to leave a machine so |
//! | [`trace`] | what happened, for people |

#![forbid(unsafe_code)]

pub mod answer;
mod assemble;
pub mod damage;
pub mod habits;
mod machine;
pub mod memory;
mod old_kernel;
mod ports;
pub mod random;
pub mod scenario;
pub mod trace;
mod unit;
pub mod vast;
pub mod walk;
pub mod witness;
mod world;

pub use crate::answer::{Access, Answer, Direction, Requester};
pub use crate::machine::Machine;
pub use crate::memory::MemoryKind;
pub use crate::ports::{OldRam, OwnFrames, Ticks, UnitRegisters};
pub use crate::scenario::{Meddling, Scenario};
pub use crate::witness::{Delivery, Temperature, Violation};
pub use crate::world::Own;
