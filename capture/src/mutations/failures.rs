//! Steps that fail on request, as they would without memory, and one at which this kernel dies.

use handoff::{Areas, Options};
use machine::OutOfMemory;

use super::{FAIL_DISCOVER, FAIL_TAKE_OVER, PANIC_TAKING_OVER, chosen};
use crate::boot::Booted;
use crate::discover::{self, DiscoverError, Machine};
use crate::remapping::Remapping;
use crate::take_over::{self, TakeOverError};

/// Discovers what the dead kernel left, or fails in the end.
pub(crate) fn discover(booted: Booted, options: &Options) -> Result<Machine, DiscoverError> {
    let machine = discover::discover(booted, options)?;
    if chosen(FAIL_DISCOVER) { Err(OutOfMemory.into()) } else { Ok(machine) }
}

/// Takes the units over; fails or dies before that is known.
pub(crate) fn take_over(machine: &mut Machine, areas: Areas) -> Result<Remapping, TakeOverError> {
    let remapping = take_over::take_over(machine, areas)?;
    assert!(!chosen(PANIC_TAKING_OVER), "a mistake on request");
    if chosen(FAIL_TAKE_OVER) { Err(TakeOverError::NoMemory) } else { Ok(remapping) }
}
