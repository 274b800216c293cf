//! Logs of events (2.5): the dead kernel's, which is evidence, and one of our own, which takes the unit's writes away from the dead
//! kernel's memory and says which devices do not answer.

use alloc::vec::Vec;

use amdvi::event::Event;
use amdvi::registers::{EVENT_HEAD, EVENT_LOG, EVENT_TAIL};
use machine::{Frames, OldMemory, PhysicalAddress, Registers};

use crate::amdvi::ring::Ring;
use crate::amdvi::unit::Unit;
use machine::growth::push;

/// How many events are read as evidence.
const EVENTS_READ: usize = 8;

/// A log that is read.
#[derive(Debug)]
pub(crate) struct EventLog {
    pub(crate) ring: Ring,
}

impl EventLog {
    /// An empty log from this frame on; its frames are zeroed and published.
    pub(crate) fn new(log: PhysicalAddress) -> Self {
        Self { ring: Ring::new(log) }
    }

    /// Takes the next event that the unit has logged, if there is one.
    pub(crate) fn next<R: Registers, C>(
        &self,
        unit: &mut Unit<'_, R, C>,
        frames: &impl Frames,
    ) -> Option<Event> {
        let (head, tail) = (self.ring.place(unit, EVENT_HEAD), self.ring.place(unit, EVENT_TAIL));
        if head == tail {
            return None;
        }
        let words = self.ring.get(head, frames);
        unit.write(EVENT_HEAD, self.ring.after(head));
        Some(Event::from_words(words))
    }
}

/// Adds an event to the evidence, if there is room for more.
pub(crate) fn keep(event: Event, evidence: &mut Vec<Event>) {
    if evidence.len() < EVENTS_READ {
        let _ = push(evidence, event);
    }
}

/// Reads the first events that the old kernel has not read, in its memory; the unit does not log there any more.
pub(crate) fn unread<R: Registers, C>(unit: &Unit<'_, R, C>, old: &impl OldMemory) -> Vec<Event> {
    let mut evidence = Vec::new();
    let Some(ring) = Ring::of_old(unit.buffer(EVENT_LOG)) else { return evidence };
    let (mut head, tail) = (unit.offset(EVENT_HEAD), unit.offset(EVENT_TAIL));
    if head.max(tail) >= ring.memory().len() {
        return evidence;
    }
    while head != tail && evidence.len() < EVENTS_READ {
        let word = |offset| old.read_u64(ring.memory().start.saturating_add(head + offset));
        let (Ok(low), Ok(high)) = (word(0), word(8)) else { return evidence };
        keep(Event::from_words([low, high]), &mut evidence);
        head = ring.after(head);
    }
    evidence
}
