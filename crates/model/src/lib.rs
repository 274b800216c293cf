//! A software machine whose IOMMU is on, VT-d's or AMD-Vi's: with caches, faults and DMA engines, for tests and simulation.
//!
//! A [`Scenario`] describes a machine with VT-d at the moment its kernel dies, an [`amdvi::Scenario`] one with AMD-Vi; its
//! method `machine` builds it. The [`Machine`] hands out ports that implement the traits of the `machine` crate. Every call of a
//! port is a step of the machine's time: its remapping units go on with their commands, its caches evict what they like, and
//! its devices do DMA. The model compares each answer that a device gets, warm from the caches and cold from the tables, with
//! the answer before the panic. It collects everything that a takeover must never do as [`Violation`]s.
//!
//! The model is as unkind as the specifications allow: commands take time; a fetched descriptor is not yet executed;
//! hardware does not see stores until they are published (and may see them earlier); new frames hold junk; cached entries
//! stay unless they are invalidated; and VT-d's RTADDR has no effect until GCMD.SRTP, while AMD-Vi's device table base has it at
//! once.
//!
//! What both architectures share is here: memory, time, devices, ports. What each has of its own is in a module, whose rooms
//! have the same names; a closed enum puts them side by side.
//!
//! | module | what it holds |
//! |---|---|
//! | [`memory`] | physical memory as hardware sees it |
//! | [`habits`] | how a unit misbehaves |
//! | `unit`, `tables` | a unit, or its tables, of either architecture |
//! | `harm` | what damage does to a word of a table |
//! | `trail` | what a walk through tables leaves to be done: accessed and dirty bits |
//! | `translations` | what a unit caches of pages and tables, and evicts when it likes |
//! | `world`, [`witness`] | one step of time; what must not happen |
//! | `ports`, `versions` | the machine as the capture kernel sees it; its frames while units store to them |
//! | `assemble` | how a machine is built of what an old kernel left |
//! | [`trace`] | what happened, for people |
//! | `vtd`, [`amdvi`] | each architecture's own: |
//! | ` scenario`, ` damage` | descriptions of a machine and of its damage |
//! | ` random` | random descriptions |
//! | ` old_kernel` | how the old kernel sets a machine up |
//! | ` walk` | what the tables say, without caches |
//! | ` unit` | a remapping unit: registers, commands, caches, queue or command buffer, faults or logs |
//! | [`vast`] | tables of VT-d too large to be stored |

#![forbid(unsafe_code)]

pub mod amdvi;
pub mod answer;
mod assemble;
mod evict;
pub mod habits;
mod harm;
mod machine;
pub mod memory;
mod old_pages;
mod parts;
mod ports;
mod reached;
mod shapes;
mod tables;
pub mod trace;
mod trail;
mod translations;
mod unit;
mod versions;
mod vtd;
pub mod witness;
mod world;

pub use crate::answer::{Access, Answer, Direction, Reason, Requester};
pub use crate::machine::{Architecture, Machine};
pub use crate::memory::MemoryKind;
pub use crate::parts::Meddling;
pub use crate::ports::{OldRam, OwnFrames, Ticks, UnitRegisters};
pub use crate::reached::{Reached, Rights};
pub use crate::vtd::scenario::Scenario;
pub use crate::vtd::{damage, random, scenario, vast, walk};
pub use crate::witness::{Delivery, Temperature, Violation};
pub use crate::world::Own;
