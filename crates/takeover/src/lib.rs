//! Accept a remapping unit, of Intel's VT-d or of AMD-Vi, in the active state in which a dead kernel left it.
//!
//! Translation stays on throughout, and devices go on with their work. The steps, one module each; those that command a unit,
//! or read tables that only its architecture has, are in `vtd` and in `amdvi`, which mirror each other, and the others are about
//! domains and page tables of any format. The seam between them is [`Unit`], [`Entry`] and `command`:
//!
//! ```text
//! census → plan → duplicate → swap → attach
//! ```
//!
//! 1. [`census`]: copies the tables above the page tables into frames of our own (root and context tables, or the device table),
//!    checks each entry there, and counts the page tables below.
//! 2. `plan`: decides for each domain how to carry it over with the frames that there are.
//! 3. `duplicate`: copies page tables, checks each copy, relinks it, and reserves every I/O address that was mapped.
//!    What does not fit is folded into larger pages or kept in place.
//! 4. `vtd::swap`, `amdvi::swap`: starts our own invalidation queue or command buffer, loads our own root pointer or the base of our
//!    own device table, and invalidates the caches. That is legal because both sets of tables translate alike. Devices with a TLB of
//!    their own are told to invalidate it (`device_tlb`).
//! 5. [`attach`]: gives a device to a driver. Its new domain inherits the old one, and the driver gets I/O addresses
//!    that nobody used.
//!
//! # What you bring
//!
//! | what | what it stands for | what must hold |
//! |---|---|---|
//! | [`Registers`] | the unit's register block | the takeover makes 32-bit and 64-bit accesses at offsets below the size given to [`Unit::vtd`], or below [`Unit::register_bytes`], and never any of 8 or 16 bits |
//! | [`Clock`] | time since some start | it advances while the processor waits |
//! | [`OldMemory`] | the dead kernel's memory | it is read, never written; what is not RAM, or faults, is [`Unreadable`] |
//! | [`Frames`] | page frames for tables | they lie in [`Surroundings::own`], and nobody else uses them |
//!
//! The methods of [`Frames`] all act on one memory, which the unit reads and, for the status of its queue, writes:
//!
//! - `table_mut` fills a frame that the unit does not know yet. After that, `store` changes it by one 64-bit access
//!   per entry, since the unit may be reading.
//! - `table` and `load` return what `table_mut` and `store` wrote last. `load` reads memory anew at each call, so
//!   that it sees a write by the unit. The takeover never calls `table` on memory that the unit writes.
//! - `publish` makes the writes to these entries visible to the unit before any later write. Where the unit's page
//!   walks do not snoop the processor's caches (ECAP.C = 0), it writes the cache lines back.
//!
//! [`Surroundings`] describes the machine:
//!
//! - `memory` is all RAM, `own` included: the tables that replace pass-through map it.
//! - `other_memory` is what else devices may reach, such as persistent memory.
//! - `own` is all memory that your kernel uses, its frames included. The takeover cuts it out of every inherited
//!   translation, and accepts no inherited table that lies in it.
//! - `kept_free` are I/O addresses that no driver gets: reserved memory regions (RMRR, IVMD) and windows of PCI bridges.
//! - `device_tlbs` says of each device whether it keeps translations itself (ATS). On AMD-Vi it also says which devices there are: those
//!   behind other units that share the device table too, as devices that keep nothing of this unit's.
//!
//! # Order of calls
//!
//! 1. [`Unit::vtd`] on a block of one page. If [`Unit::register_bytes`] is larger, map that much and make the unit
//!    anew. [`Unit::amdvi`] takes a block of 16 KiB.
//! 2. If [`Unit::translates`] says that translation is off, there is nothing to take over.
//! 3. [`take_over`], or [`take_over_after`] where there are several units: those of AMD-Vi may share a device table, and then they share
//!    what replaces it. Several units may share the frames; each leaves [`Limits::spare_frames`] of them.
//! 4. [`Takeover::report`], at any time: what became of each context, domain and hazard.
//! 5. [`Takeover::attach`] for each device that gets a driver, with the aliases of its requests, then
//!    [`Takeover::map`] and [`Takeover::unmap`].
//!
//! ```
//! use takeover::{Clock, Failure, Frames, IoAddress, Limits, OldMemory, Permission, PhysicalAddress};
//! use takeover::{Range, Registers, SourceId, Surroundings, Unit, take_over};
//!
//! /// Takes over the unit behind `registers`, and returns where the disk at 00:02.0 finds `buffer`.
//! fn accept<C: Clock>(
//!     registers: impl Registers,
//!     clock: &C,
//!     old: &impl OldMemory,
//!     frames: &mut impl Frames,
//!     surroundings: &Surroundings<'_>,
//!     buffer: Range<PhysicalAddress>,
//! ) -> Result<IoAddress, Box<dyn core::error::Error>> {
//!     let unit = Unit::vtd(registers, 4096, clock)?;
//!     let mut taken = take_over(unit, old, frames, surroundings, &Limits::default()).map_err(Failure::from)?;
//!     for hazard in &taken.report().hazards.listed {
//!         println!("{hazard}"); // such as "device 00:1f.3: reserved bits are set: blocked"
//!     }
//!     let disk = taken.attach(SourceId::at(0, 2, 0), &[], frames)?;
//!     Ok(taken.map(&disk, buffer, Permission::ReadWrite, old, frames)?)
//! }
//! # let size = model::random::Size { units: 1, domains: 3, functions: 5, runs: 5 };
//! # let machine = model::Scenario::random(1, size).machine();
//! # let own = machine.ranges(model::MemoryKind::Capture);
//! # let memory = [machine.ranges(model::MemoryKind::Old), own.clone()].concat();
//! # let surroundings = Surroundings::new(machine.traits(0).host_address_bits, &memory, &own);
//! # let (registers, clock, mut frames) = (machine.registers(0), machine.clock(), machine.frames(500));
//! # let buffer = Range::from(own[0].end.get() - 0x4000..own[0].end.get());
//! # accept(registers, &clock, &machine.old_memory(), &mut frames, &surroundings, buffer).unwrap();
//! ```
//!
//! # When it fails
//!
//! [`take_over`] fails with a [`Refusal`]: a [`Failure`], and the unit. The failure says why ([`failure::Reason`])
//! and which tables the unit uses now:
//!
//! | [`failure::InForce`] | what it means |
//! |---|---|
//! | `Old` | all devices are translated as the dead kernel said, your memory included. Only after `Unit` may its invalidation queue or command buffer have been turned off |
//! | `New` | the copies are in force, but the unit's caches may still hold what was cut out of them |
//! | `Unknown` | the unit does not say. Use no device behind it |
//!
//! | reason | tables in force | what to do |
//! |---|---|---|
//! | `TranslationOff` | `Old` | nothing: I/O addresses are physical |
//! | `Mode`, `RootUnreadable`, `RootInOwnMemory` | `Old` | the unit is lost to you |
//! | `OutOfFrames`, `DeviceTable` | `Old` | bring more frames: 512 side by side for a device table, a few if it can stay in place |
//! | `OtherModes` | `Unknown` | nothing: the old kernel gave units that differ one device table, it was changed where it is for the first of them, and says something else to this one |
//! | `OutOfMemory` | `Old`; `New` if only the list of device-TLBs or the report could not be made | bring more memory |
//! | `Unit` | `Old` before the root pointer was written, else `Unknown` or `New` | the unit does not do what it is told |
//!
//! Where secure nested paging locks the registers of an AMD-Vi unit, the base of its device table cannot move in one step or no frames
//! are left side by side for another, what cannot be replaced is used where it is, in the old kernel's memory ([`Frames::reuse`]), and
//! the report says so ([`hazard::Danger::TableInPlace`], [`hazard::Danger::BuffersInPlace`]). Everything below the device table is ours
//! as ever. All invariants hold but two: old memory is written there, and only there; and isolation and continuity hold until a device
//! writes to that table or that buffer, if the dead kernel had mapped them for one: the tables that replace pass-through leave them out.
//! If that memory cannot be used, the takeover ends with [`UnitError::Locked`], and the unit is as it was.
//!
//! A failed takeover gives back its frames, but for those that the unit was told of: its queue, and all tables once it was
//! given their root pointer. What is left of the patience is for the next unit. A problem with a single device
//! or domain is no failure: the takeover blocks or fences it, and reports a hazard.
//!
//! [`Takeover::attach`] refuses a device whose context was not looked at, for want of frames say: nobody knows which
//! I/O addresses its work still uses. Otherwise [`Takeover::attach`] and [`Takeover::map`] fail with [`AttachError`] and [`MapError`] when frames, memory,
//! domain-ids or I/O addresses run out, or when the unit does not answer. Everything that worked before still works.
//! After a failed [`Takeover::unmap`] the device may still reach the memory: use it for nothing else.
//!
//! # Trust
//!
//! Nothing that the dead kernel left is trusted. Devices may still be writing to its memory, so each table is copied
//! into a frame of our own before it is checked, and only the copy is used. The exception are tables that are kept in
//! place because frames are short. The levels of the architecture and the number of frames bound every walk, and
//! [`Limits::deadline`] bounds every wait for the unit, and [`Limits::patience`] all waits together, of all units if what one
//! takeover leaves is given to the next.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;

mod amdvi;
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
pub mod hazard;
mod identity;
mod ids;
mod ledger;
mod own;
mod patience;
mod plan;
pub mod report;
mod resources;
mod sources;
mod surroundings;
mod table;
mod twin;
mod unit;
mod vtd;

pub use iova::Space;
pub use machine::{
    Clock, CopyError, Frames, IoAddress, OldMemory, Permission, PhysicalAddress, Range, Registers, SourceId,
    Table, Unreadable,
};

pub use crate::amdvi::entry::Entry as AmdViEntry;
pub use crate::amdvi::found::Found as AmdViFound;
pub use crate::amdvi::unit::Unit as AmdViUnit;
pub use crate::vtd::entry::Entry as VtdEntry;
pub use crate::vtd::found::Found as VtdFound;
pub use crate::vtd::unit::Unit as VtdUnit;
pub use attach::{Attachment, Inherited, Takeover};
pub use entry::Entry;
pub use failure::{AttachError, Failure, MapError, Refusal};
pub use hazard::Outcome;
pub use identity::IdentityMap;
pub use patience::Patience;
pub use report::{Found, OldQueue, Report};
pub use resources::Resources;
pub use surroundings::{DeviceTlb, Limits, Surroundings};
pub use unit::{NoAnswer, RegisterValue, Unit, UnitError};

use alloc::vec::Vec;

use attach::{Keep, Replaced};
use command::{Commanded, Swapped};
use duplicate::Duplicate;
use failure::{InForce, Reason};
use hazard::Hazards;
use ledger::Ledger;
use machine::growth::{OutOfMemory, collected};

/// Takes over a unit whose translation is on: census, plan, duplicate, swap.
///
/// Old tables are read from `old` and never written; new tables come from `frames`. Each wait for
/// the unit ends after [`Limits::deadline`], and all waits together after [`Limits::patience`]. A [`Refusal`] returns the unit and says which tables are in force: the old ones, unless the
/// unit stopped answering halfway. Frames that the unit was told of stay allocated, since it may be using them; all others
/// are given back.
#[expect(clippy::result_large_err, reason = "a box takes memory, and that may be what is missing")]
pub fn take_over<'c, R: Registers, C: Clock>(
    unit: Unit<'c, R, C>,
    old: &impl OldMemory,
    frames: &mut impl Frames,
    surroundings: &Surroundings<'_>,
    limits: &Limits,
) -> Result<Takeover<'c, R, C>, Refusal<'c, R, C>> {
    take_over_after(unit, [], old, frames, surroundings, limits)
}

/// The same, where units `before` have been taken over, none of whose devices was attached yet.
///
/// Units of AMD-Vi may have one device table: Linux makes one for each PCI segment. Then the first of them that is taken over lists and
/// copies what all devices use, and those after it share what it made; a device is attached to the unit that it is behind.
#[expect(clippy::result_large_err, reason = "a box takes memory, and that may be what is missing")]
pub fn take_over_after<'c, 'b, R: Registers + 'b, C: Clock + 'b>(
    unit: Unit<'c, R, C>,
    before: impl IntoIterator<Item = &'b Takeover<'c, R, C>>,
    old: &impl OldMemory,
    frames: &mut impl Frames,
    surroundings: &Surroundings<'_>,
    limits: &Limits,
) -> Result<Takeover<'c, R, C>, Refusal<'c, R, C>>
where
    'c: 'b,
{
    let mut unit = Commanded::new(unit, limits);
    let surroundings = &surroundings.as_wide_as_memory();
    let mut ledger = Ledger::new(frames);
    let owner = before.into_iter().find(|taken| taken.replaced_tables_of(&unit));
    let resources = Resources { old, frames: &mut ledger, surroundings, limits };
    let replaced = match owner {
        Some(owner) => share_tables(&mut unit, owner, resources),
        None => replace_tables(&mut unit, resources),
    };
    match replaced {
        Ok(replaced) => Ok(Takeover::new(unit, replaced)),
        Err(failure) => {
            ledger.give_back(unit.told());
            Err(Refusal { failure, patience: unit.patience(), unit: unit.into_unit() })
        }
    }
}

/// Makes the unit translate with tables of our own.
fn replace_tables<R: Registers, C: Clock, M: OldMemory, F: Frames>(
    unit: &mut Commanded<'_, R, C>,
    mut resources: Resources<'_, M, F>,
) -> Result<Replaced, Failure> {
    let keep = Keep::new(resources.surroundings, unit.untranslated(), resources.limits)?;
    unit.take_queue(resources.frames)?;
    let mut hazards = Hazards::new(resources.limits.hazards);
    let in_use = unit.copy_device_table(&mut resources, &mut hazards)?;
    let known = resources.surroundings.in_use;
    let all_in_use = known.iter().chain(in_use.iter().filter(|memory| !known.contains(memory)));
    let all_in_use = collected(all_in_use.copied())?;
    let surroundings = &resources.surroundings.with_in_use(&all_in_use);
    let mut resources = Resources { surroundings, ..resources };
    let census = unit.take_census(&mut resources, hazards)?;
    let plan = plan::make(&census, resources.frames.available(), resources.limits)?;
    let mut copy = duplicate::duplicate(census, &plan, &mut resources)?;
    unit.link_all(&copy, resources.frames);
    let (swapped, device_tlbs) = bring_into_force(unit, &mut copy, resources)?;
    let report = Report::new(swapped, unit.tables(), &mut copy);
    let report = report.map_err(|error| Failure { reason: error.into(), in_force: InForce::New })?;
    Ok(Replaced { copy, device_tlbs, keep, report, in_use })
}

/// Makes the unit translate with the tables that replaced its own already, for the unit of another takeover.
fn share_tables<'c, R: Registers, C: Clock, M: OldMemory, F: Frames>(
    unit: &mut Commanded<'c, R, C>,
    owner: &Takeover<'c, R, C>,
    resources: Resources<'_, M, F>,
) -> Result<Replaced, Failure> {
    let keep = Keep::new(resources.surroundings, unit.untranslated(), resources.limits)?;
    unit.take_queue(resources.frames)?;
    unit.share_tables(owner.unit()).map_err(|reason| match reason {
        // What was changed for the other unit says something else to this one.
        Reason::OtherModes => Failure { reason, in_force: InForce::Unknown },
        reason => reason.into(),
    })?;
    let mut copy = owner.lend(resources.limits)?;
    let (swapped, device_tlbs) = bring_into_force(unit, &mut copy, resources)?;
    let report = Report::of_sharing(swapped, core::mem::take(&mut copy.hazards));
    Ok(Replaced { copy, device_tlbs, keep, report, in_use: Vec::new() })
}

/// Has the unit use the tables of ours, and all caches forget what they hold of the old kernel's. Returns which device-TLBs confirmed.
fn bring_into_force<R: Registers, C: Clock, M: OldMemory, F: Frames>(
    unit: &mut Commanded<'_, R, C>,
    copy: &mut Duplicate,
    Resources { old, frames, surroundings, .. }: Resources<'_, M, F>,
) -> Result<(Swapped, Vec<DeviceTlb>), Failure> {
    let swapped = unit.swap((old, surroundings), frames, &mut copy.hazards)?;
    let without_memory = |error: OutOfMemory| Failure { reason: error.into(), in_force: InForce::New };
    let device_tlbs = device_tlb::forget_all(unit, copy, surroundings.device_tlbs, frames);
    let device_tlbs = device_tlbs.map_err(without_memory)?;
    unit.note_disturbances(&mut copy.hazards);
    Ok((swapped, device_tlbs))
}

/// The example in README.md, which is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
