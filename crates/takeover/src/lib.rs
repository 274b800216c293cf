//! Accept a VT-d unit in the active state in which a dead kernel left it.
//!
//! Translation stays on throughout. The story, a module for each step:
//!
//! ```text
//! census → plan → duplicate → swap → attach
//! ```
//!
//! 1. [`census`]: copy root and context tables into own frames, check each entry there, count the page tables below.
//! 2. [`plan`]: decide for each domain how it is carried over within the frames there are.
//! 3. [`duplicate`]: copy page tables, check each copy, relink it; reserve every I/O address that was mapped. What
//!    does not fit is folded into larger pages or kept in place.
//! 4. [`swap`]: own invalidation queue, own root pointer, caches forgotten: legal because both sets translate alike.
//!    Devices that keep translations themselves are told to forget them ([`device_tlb`]).
//! 5. [`attach`]: a device's new domain inherits the old one and gets I/O addresses that nobody used.
//!
//! [`take_over`] is the first four; the [`Takeover`] it returns does the fifth. Nothing is printed: a [`Report`]
//! says what became of each context, domain and hazard.
//!
//! A capture kernel brings its registers, its clock, the old memory and frames for tables, behind the traits of `machine`:
//!
//! ```
//! # use core::error::Error;
//! # use machine::{Clock, Frames, IoAddress, OldMemory, PhysicalAddress, Range, Registers};
//! use takeover::{Failure, Limits, Surroundings, Unit, take_over};
//! use vtd::{paging::Permission, source::SourceId};
//!
//! /// Takes over the unit behind `registers`, and returns where the disk at 00:02.0 finds `buffer`.
//! fn accept<C: Clock>(
//!     registers: impl Registers,
//!     clock: &C,
//!     old: &impl OldMemory,
//!     frames: &mut impl Frames,
//!     surroundings: &Surroundings<'_>,
//!     buffer: Range<PhysicalAddress>,
//! ) -> Result<IoAddress, Box<dyn Error>> {
//!     let unit = Unit::new(registers, 4096, clock)?;
//!     let mut taken = take_over(unit, old, frames, surroundings, &Limits::default()).map_err(Failure::from)?;
//!     for hazard in &taken.report().hazards.listed {
//!         println!("{hazard}"); // such as "device 00:1f.3: reserved bits are set: blocked"
//!     }
//!     let disk = taken.attach(SourceId::at(0, 2, 0), &[], frames)?;
//!     Ok(taken.map(&disk, buffer, Permission::ReadWrite, old, frames)?)
//! }
//! # let size = model::random::Size { units: 1, domains: 3, functions: 5, runs: 5 };
//! # let machine = model::Scenario::random(1, size).machine();
//! # let own = machine.ranges(model::Kind::Capture);
//! # let memory = [machine.ranges(model::Kind::Old), own.clone()].concat();
//! # let surroundings = Surroundings {
//! #     host_address_bits: machine.traits(0).host_address_bits,
//! #     memory: &memory,
//! #     own: &own,
//! #     kept_free: &[],
//! #     device_tlbs: &[],
//! # };
//! # let (registers, clock, mut frames) = (machine.registers(0), machine.clock(), machine.frames(500));
//! # let buffer = Range::from(own[0].end.get() - 0x4000..own[0].end.get());
//! # accept(registers, &clock, &machine.old_memory(), &mut frames, &surroundings, buffer).unwrap();
//! ```
//!
//! What the dead kernel left is an allegation. Devices may still be writing to its memory, so each table is copied
//! into a frame of our own before it is looked at, and only the copy is used, but for what is kept in place for want
//! of frames. Every walk is bounded by the levels of the architecture and the frames there are, every wait by
//! [`Limits::deadline`].

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod attach;
mod borrowed;
pub mod census;
mod command;
mod copies;
mod device_tlb;
mod domain;
mod duplicate;
mod entry;
pub mod failure;
mod found;
mod growth;
pub mod hazard;
mod identity;
mod ids;
mod invalidate;
mod judge;
mod mark;
mod mode;
mod own;
mod plan;
mod queue;
pub mod report;
mod resources;
mod surroundings;
mod swap;
mod tables;
mod twin;
mod unit;

pub use attach::{Attachment, Inherited, Takeover};
pub use entry::Entry;
pub use failure::{AttachError, Failure, MapError, Refusal};
pub use found::{Found, OldQueue};
pub use hazard::Outcome;
pub use report::Report;
pub use resources::Resources;
pub use surroundings::{DeviceTlb, Limits, Surroundings};
pub use unit::{NoAnswer, Unit, UnitError};

use machine::{Clock, Frames, OldMemory, Registers};

use attach::{Keep, Replaced};
use command::CommandedUnit;
use failure::InForce;

/// Takes over a unit whose translation is on: census, plan, duplicate, swap.
///
/// Old tables are read from `old` and never written; own tables come from `frames`. When this fails, [`Failure`]
/// says which tables are in force: the old ones unless the unit stopped answering halfway. The frames stay taken,
/// since the unit may be using them.
pub fn take_over<'c, R: Registers, C: Clock>(
    unit: Unit<'c, R, C>,
    old: &impl OldMemory,
    frames: &mut impl Frames,
    surroundings: &Surroundings<'_>,
    limits: &Limits,
) -> Result<Takeover<'c, R, C>, Refusal<'c, R, C>> {
    let mut unit = CommandedUnit::new(unit, limits.deadline);
    match replace_tables(&mut unit, Resources { old, frames, surroundings, limits }) {
        Ok(replaced) => Ok(Takeover::new(unit, replaced)),
        Err(failure) => Err(Refusal { failure, unit: unit.unit }),
    }
}

/// Makes the unit translate with tables of our own.
fn replace_tables<R: Registers, C: Clock, M: OldMemory, F: Frames>(
    unit: &mut CommandedUnit<'_, R, C>,
    mut resources: Resources<'_, M, F>,
) -> Result<Replaced, Failure> {
    let keep = Keep::new(resources.surroundings, resources.limits)?;
    let census = census::take(&unit.unit, &mut resources)?;
    let plan = plan::make(&census, resources.frames.available(), resources.limits)?;
    let mut copy = duplicate::duplicate(census, &plan, &mut resources)?;
    let Resources { frames, surroundings, .. } = resources;
    let swapped = swap::swap(unit, &copy, frames)?;
    let device_tlbs = device_tlb::forget_all(unit, &mut copy, surroundings.device_tlbs, frames);
    let report = Report::new(swapped.found, swapped.root, &mut copy)
        .map_err(|error| Failure { reason: error.into(), in_force: InForce::New })?;
    Ok(Replaced { copy, device_tlbs, keep, report })
}

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
