//! Logs of events (2.5): the dead kernel's, which is evidence, and one of our own, which takes the unit's writes away from the dead
//! kernel's memory and says which devices do not answer.

use alloc::vec::Vec;

use amdvi::control::{BUFFER_OFFSET, BufferBase};
use amdvi::event::{EVENT_BYTES, EVENT_WORDS, Event};
use amdvi::registers::{EVENT_HEAD, EVENT_LOG, EVENT_TAIL};
use machine::{ENTRIES, Frames, OldMemory, PAGE_SIZE, PhysicalAddress, Registers};

use crate::amdvi::unit::Unit;
use machine::growth::push;

/// How many events are read as evidence.
const EVENTS_READ: usize = 8;

/// A log of one page.
#[derive(Debug)]
pub(crate) struct EventLog {
    log: PhysicalAddress,
}

impl EventLog {
    /// An empty log in this frame, which is zeroed and published.
    pub(crate) fn new(log: PhysicalAddress) -> Self {
        Self { log }
    }

    /// The value of the base register.
    pub(crate) fn base(&self) -> BufferBase {
        BufferBase::new().with_frame(self.log.pfn().get()).with_length(BufferBase::SHORTEST)
    }

    /// Takes the next event that the unit has logged, if there is one.
    pub(crate) fn next<R: Registers, C>(
        &self,
        unit: &mut Unit<'_, R, C>,
        frames: &impl Frames,
    ) -> Option<Event> {
        let place = |register| (unit.read(register) & BUFFER_OFFSET) % PAGE_SIZE;
        let (head, tail) = (place(EVENT_HEAD), place(EVENT_TAIL));
        if head == tail {
            return None;
        }
        let word = (head / 8) as usize;
        let words: [u64; EVENT_WORDS] =
            core::array::from_fn(|offset| frames.load(self.log, (word + offset) % ENTRIES));
        unit.write(EVENT_HEAD, (head + EVENT_BYTES as u64) % PAGE_SIZE);
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
    let base = unit.buffer(EVENT_LOG);
    let Some(bytes) = base.entries().map(|entries| (entries * EVENT_BYTES) as u64) else { return evidence };
    let (mut head, tail) = (unit.read(EVENT_HEAD) & BUFFER_OFFSET, unit.read(EVENT_TAIL) & BUFFER_OFFSET);
    if head >= bytes || tail >= bytes {
        return evidence;
    }
    while head != tail && evidence.len() < EVENTS_READ {
        let word = |offset| old.read_u64(base.address().saturating_add(head + offset));
        let (Ok(low), Ok(high)) = (word(0), word(8)) else { return evidence };
        keep(Event::from_words([low, high]), &mut evidence);
        head = (head + EVENT_BYTES as u64) % bytes;
    }
    evidence
}
