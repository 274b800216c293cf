//! What a takeover works with.

use crate::surroundings::{Limits, Surroundings};

/// What a takeover works with: memory old and own, what surrounds the unit, and what may be used up.
#[derive(Debug)]
pub struct Resources<'a, M, F> {
    /// The dead kernel's memory.
    pub old: &'a M,
    /// Frames for tables of our own.
    pub frames: &'a mut F,
    /// The machine around the unit.
    pub surroundings: &'a Surroundings<'a>,
    /// How much may be used up, of frames, memory and time.
    pub limits: &'a Limits,
}
