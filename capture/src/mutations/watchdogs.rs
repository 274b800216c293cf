//! A deliberate mistake with the dead kernel's watchdogs: nobody looks for them.

use handoff::Options;

use super::{NO_PINGS, chosen};
use crate::discover::Machine;
use crate::watchdogs;

/// Finds the watchdogs that run, or leaves them as they are, so that they bite.
pub(crate) fn find(machine: &mut Machine, options: &Options) {
    if !chosen(NO_PINGS) {
        watchdogs::find(machine, options);
    }
}
