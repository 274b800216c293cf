//! Device-TLBs: translations that devices keep themselves (PCI Express ATS; VT-d chapter 4, AMD-Vi 2.2.5).
//!
//! Such a device asks the unit for translations, caches them, and then makes requests with physical addresses, which
//! the unit lets through unchecked. So once the unit's own caches hold nothing of the old tables, the takeover
//! invalidates each of these devices' TLBs. A device that does not confirm may go on using what it cached. As long as
//! nothing was cut out, the new tables say the same; but the device can still reach memory of ours that an old
//! mapping reached. Only a table that blocks the device altogether would prevent that, and it would break off the
//! device's work. So the takeover leaves the device alone and reports it.
//!
//! The device's context says whether it may have a TLB, and that decides whom the takeover tells: a device can be missing
//! from the caller's list, as virtual functions are where nobody looks for them. The device's own configuration, which the
//! caller reads, says whether ATS is enabled, and how to ask.
//!
//! A device that does not answer takes long, up to a minute and a half. The devices of all units share that time, and then
//! the rest are asked in passing, so that a dead card with hundreds of virtual functions delays the dump no longer than a
//! dead card with one ([`Patience`](crate::Patience)).

use alloc::vec::Vec;

use machine::{Clock, Frames, Registers, SourceId};

use crate::command::Commanded;
use crate::duplicate::Duplicate;
use crate::found::Context;
use crate::hazard::{Danger, HazardPlace, Outcome};
use crate::patience::Awaited;
use crate::surroundings::DeviceTlb;
use crate::unit::UnitError;
use machine::growth::{OutOfMemory, push};

/// Invalidates the device-TLBs of all devices whose contexts allow them one; returns those that confirmed, or may have.
pub(crate) fn forget_all<R: Registers, C: Clock>(
    unit: &mut Commanded<'_, R, C>,
    copy: &mut Duplicate,
    known: &[DeviceTlb],
    frames: &mut impl Frames,
) -> Result<Vec<DeviceTlb>, OutOfMemory> {
    let mut answering = Vec::new();
    let (mut silence, allowed) = (Silence::default(), unit.device_tlbs(frames)?);
    for turn in Turn::ALL {
        for source in allowed.iter().copied() {
            let Some(tlb) = turn.device_tlb(source, known, &silence) else { continue };
            let forgotten = silence.visit(tlb, &copy.contexts, unit, frames);
            // Who may have answered is told again whenever something changes.
            let is_told_again = matches!(forgotten, Ok(()) | Err(UnitError::DeviceUnheard));
            let is_listed = is_told_again && push(&mut answering, tlb).is_ok();
            let mut note = |danger, outcome| copy.hazards.note(HazardPlace::Device(source), danger, outcome);
            if forgotten.is_err() || !is_listed {
                note(Danger::DeviceTlbSilent, Outcome::KeptInPlace);
            } else if turn.is_of_strangers() {
                note(Danger::DeviceTlbUnknown, Outcome::Duplicated);
            }
            if of_source(&copy.contexts, source).any(|context| context.entry.hides_pasids()) {
                note(Danger::DeviceTlbOfGuest, Outcome::KeptInPlace);
            }
        }
    }
    Ok(answering)
}

/// When a device is told: those that are likely not to answer come last.
///
/// Strangers are devices whose configuration space was not found. Siblings of a silent device were told after it, and are on
/// the same bus: functions of one card fail together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Known,
    KnownSiblings,
    Strangers,
    StrangeSiblings,
}

impl Turn {
    const ALL: [Self; 4] = [Self::Known, Self::KnownSiblings, Self::Strangers, Self::StrangeSiblings];

    fn is_of_strangers(self) -> bool {
        matches!(self, Self::Strangers | Self::StrangeSiblings)
    }

    /// The device-TLB at `source`, if it is its turn and the device may keep something.
    fn device_tlb(self, source: SourceId, known: &[DeviceTlb], silence: &Silence) -> Option<DeviceTlb> {
        let found = known.iter().find(|tlb| tlb.source == source).copied();
        let is_stranger = found.is_none();
        let tlb = found.unwrap_or(DeviceTlb::unknown(source));
        let of_siblings = matches!(self, Self::KnownSiblings | Self::StrangeSiblings);
        let turn = self.is_of_strangers() == is_stranger && of_siblings == silence.is_sibling(tlb);
        Some(tlb).filter(|tlb| turn && tlb.enabled)
    }
}

/// What is known of devices that do not answer.
struct Silence {
    /// By bus: the first source-id, in the order of telling, that did not answer.
    since: [Option<SourceId>; 256],
    /// Whether the unit takes no more commands.
    is_unit: bool,
}

impl Default for Silence {
    fn default() -> Self {
        Self { since: [None; 256], is_unit: false }
    }
}

impl Silence {
    fn bus(tlb: DeviceTlb) -> usize {
        usize::from(tlb.physical.bus())
    }

    fn is_sibling(&self, tlb: DeviceTlb) -> bool {
        self.since[Self::bus(tlb)].is_some_and(|first| tlb.source > first)
    }

    /// Invalidates what one device keeps, unless nobody is likely to answer.
    fn visit<R: Registers, C: Clock>(
        &mut self,
        tlb: DeviceTlb,
        contexts: &[Context],
        unit: &mut Commanded<'_, R, C>,
        frames: &mut impl Frames,
    ) -> Result<(), UnitError> {
        if self.is_unit {
            return Err(UnitError::NoQueue);
        }
        let awaited = if self.is_sibling(tlb) { Awaited::Sibling } else { Awaited::Device };
        let told = forget_all_of(tlb, awaited, contexts, unit, frames);
        if let Err(error) = told
            && error != UnitError::DeviceUnheard
        {
            self.is_unit = matches!(error, UnitError::NoAnswer(late) if late.is_of_command());
            self.since[Self::bus(tlb)].get_or_insert(tlb.source);
        }
        told
    }
}

/// Invalidates what one device caches for requests without PASID and for each PASID in its tables.
pub(crate) fn forget_all_of<R: Registers, C: Clock>(
    tlb: DeviceTlb,
    awaited: Awaited,
    contexts: &[Context],
    unit: &mut Commanded<'_, R, C>,
    frames: &mut impl Frames,
) -> Result<(), UnitError> {
    let pasids = of_source(contexts, tlb.source).filter_map(|context| context.pasid);
    [None].into_iter().chain(pasids.map(Some)).try_for_each(|pasid| forget(tlb, awaited, pasid, unit, frames))
}

/// Invalidates what a device caches for the requests of these contexts.
pub(crate) fn forget_contexts<'a, R: Registers, C: Clock>(
    tlb: DeviceTlb,
    mut contexts: impl Iterator<Item = &'a Context>,
    unit: &mut Commanded<'_, R, C>,
    frames: &mut impl Frames,
) -> Result<(), UnitError> {
    contexts.try_for_each(|context| forget(tlb, Awaited::Answering, context.pasid, unit, frames))
}

fn forget<R: Registers, C: Clock>(
    tlb: DeviceTlb,
    awaited: Awaited,
    pasid: Option<u32>,
    unit: &mut Commanded<'_, R, C>,
    frames: &mut impl Frames,
) -> Result<(), UnitError> {
    (0..tlb.tellings).try_for_each(|_| unit.forget_in_device(tlb, awaited, pasid, frames))
}

/// The contexts of one device; `contexts` are sorted by source-id.
pub(crate) fn of_source(contexts: &[Context], source: SourceId) -> impl Iterator<Item = &Context> {
    let first = contexts.partition_point(|context| context.source < source);
    contexts[first..].iter().take_while(move |context| context.source == source)
}
