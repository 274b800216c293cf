//! The tour of a host's targets and their logical units, in search of disks.

use alloc::vec::Vec;

use machine::growth::push;
use machine::{BlockError, Clock, DmaMemory, Registers};

use super::adapter::Unit;
use super::answer;
use super::command::{self, length};
use super::host::{Disk, Failure, Host};
use super::sense::STOPPED;
use crate::disk::{Durability, Found, Geometry, Place};
use crate::error::StartError;

/// The targets and units that were not looked at yet.
#[derive(Debug)]
pub(super) struct Tour {
    next_target: u16,
    last_target: u8,
    /// Units of the target before `next_target`, the last one first.
    units: Vec<Unit>,
}

/// What a step of the tour has come to.
pub(super) enum Step {
    /// A unit, or a target that cannot be asked for its units.
    Found(Found),
    /// Nothing that is worth a word.
    Nothing,
    /// The end.
    Over,
}

impl Tour {
    /// A tour of all targets up to this one.
    pub(super) fn up_to(last_target: u8) -> Self {
        Self { next_target: 0, last_target, units: Vec::new() }
    }

    /// Whether nothing is left to look at.
    pub(super) fn is_over(&self) -> bool {
        self.units.is_empty() && self.next_target > self.last_target.into()
    }

    /// The unit that is looked at next: one that is known, or the first one of the next target.
    pub(super) fn next(&self) -> Unit {
        self.units.last().copied().unwrap_or(Unit { target: self.next_target as u8, number: 0 })
    }

    fn add(&mut self, unit: Unit) -> Result<(), StartError> {
        push(&mut self.units, unit).map_err(|_| StartError::NoMemory)
    }
}

impl<R: Registers, M: DmaMemory> Host<R, M> {
    /// Looks at the next unit, or asks the next target for its units. Whatever comes of it, the tour is past it.
    pub(super) fn step(&mut self, buffer: &mut M, clock: &impl Clock) -> Step {
        if self.tour.is_over() {
            return Step::Over;
        }
        let unit = self.tour.next();
        let found = match self.tour.units.pop() {
            Some(unit) => self.look_at(unit, buffer, clock),
            None => self.list_units(unit, buffer, clock).err().map(Err),
        };
        found.map_or(Step::Nothing, |geometry| Step::Found(Found { place: unit.place(), geometry }))
    }

    /// Lists the units of the next target, whose first unit this is.
    fn list_units(&mut self, first: Unit, buffer: &mut M, clock: &impl Clock) -> Result<(), StartError> {
        self.tour.next_target += 1;
        match self.ask::<{ length::UNITS }>(first, command::REPORT_UNITS, buffer, clock) {
            Ok(answer) => {
                for number in answer::units(&answer) {
                    self.tour.add(Unit { number, ..first })?;
                }
                self.tour.units.reverse();
                Ok(())
            }
            Err(Failure::Refused(BlockError::Gone)) => Ok(()),
            // Targets of old have one unit and no list.
            Err(Failure::Refused(_)) => self.tour.add(first),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Looks whether a unit is a disk; `None` if there is nothing.
    fn look_at(
        &mut self,
        unit: Unit,
        buffer: &mut M,
        clock: &impl Clock,
    ) -> Option<Result<Geometry, StartError>> {
        match self.ask(unit, command::INQUIRY, buffer, clock) {
            Ok(answer) => match answer::device_kind(&answer)? {
                answer::DISK => Some(self.measure(unit, buffer, clock)),
                kind => Some(Err(StartError::NoDisk(answer::kind_name(kind)))),
            },
            Err(Failure::Refused(BlockError::Gone)) => None,
            Err(failure) => Some(Err(failure.into())),
        }
    }

    /// Has a disk start that was stopped, by an array's management or to save power. Whatever else is wrong, the next questions tell.
    fn start_disk(&mut self, unit: Unit, clock: &impl Clock) -> Result<(), StartError> {
        let tried = match self.execute(unit, command::TEST_READY, None, clock) {
            Err(Failure::Refused(BlockError::Device(STOPPED))) => {
                self.execute(unit, command::START, None, clock)
            }
            tested => tested,
        };
        match tried {
            Err(failure @ (Failure::Silent(_) | Failure::Lost(_))) => Err(failure.into()),
            Ok(()) | Err(Failure::Refused(_)) => Ok(()),
        }
    }

    /// Asks a disk for its size, and whether it can be written.
    fn measure(&mut self, unit: Unit, buffer: &mut M, clock: &impl Clock) -> Result<Geometry, StartError> {
        self.start_disk(unit, clock)?;
        let (blocks, block_size) = self.ask_capacity(unit, buffer, clock)?;
        let size = blocks.checked_mul(block_size.into()).ok_or(StartError::Geometry)?;
        let piece = self.most - self.most % block_size as usize;
        if piece == 0 {
            return Err(StartError::Geometry);
        }
        match self.ask(unit, command::MODE_SENSE, buffer, clock) {
            Ok(modes) if answer::is_write_protected(&modes) => return Err(StartError::ReadOnly),
            Ok(modes) => self.cache.is_volatile = answer::has_volatile_cache(&modes),
            Err(failure @ Failure::Refused(BlockError::Reserved)) => return Err(failure.into()),
            // A disk need not have modes. If it cannot be written, the first write tells.
            Err(Failure::Refused(_)) => {}
            Err(failure) => return Err(failure.into()),
        }
        self.disk = Some(Disk { unit, block_size: block_size.into() });
        Ok(Geometry { size, block_size, piece, durability: Durability::OnFlush })
    }

    /// Asks a disk for number and size of its blocks, by the command that every disk knows if it does not know the other one.
    fn ask_capacity(
        &mut self,
        unit: Unit,
        buffer: &mut M,
        clock: &impl Clock,
    ) -> Result<(u64, u32), StartError> {
        let capacity = match self.ask(unit, command::READ_CAPACITY, buffer, clock) {
            Ok(long) => answer::capacity(&long),
            Err(Failure::Refused(BlockError::Device(_))) => {
                answer::short_capacity(self.ask(unit, command::READ_SHORT_CAPACITY, buffer, clock)?)
            }
            Err(failure) => return Err(failure.into()),
        };
        capacity.ok_or(StartError::Geometry)
    }
}

impl Unit {
    /// How the unit is named.
    pub(super) fn place(self) -> Place {
        Place::LogicalUnit { target: self.target.into(), lun: self.number }
    }
}
