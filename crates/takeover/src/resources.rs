//! What a takeover works with.

use crate::surroundings::{Limits, Surroundings};

/// The resources of a takeover: memory old and own, the unit's surroundings, and limits.
#[derive(Debug)]
pub struct Resources<'a, M, F> {
    /// The dead kernel's memory.
    pub old: &'a M,
    /// Frames for tables of our own.
    pub frames: &'a mut F,
    /// The machine around the unit.
    pub surroundings: &'a Surroundings<'a>,
    /// Limits on frames, memory and time.
    pub limits: &'a Limits,
}
