//! Logs of events (2.5): the dead kernel's, which is evidence, and one of our own, which takes the unit's writes away from the dead
//! kernel's memory and says which devices do not answer.

use alloc::vec::Vec;

use amdvi::control::{BUFFER_OFFSET, BufferBase};
use amdvi::event::{EVENT_BYTES, EVENT_WORDS, Event};
use amdvi::registers::{EVENT_HEAD, EVENT_LOG, EVENT_TAIL};
use machine::{Frames, OldMemory, PAGE_SIZE, PhysicalAddress, Registers};

use crate::amdvi::queue::{BUFFER_FRAMES, buffer_base, place};
use crate::amdvi::unit::Unit;
use machine::growth::push;

/// Bytes of our log.
const LOG_BYTES: u64 = BUFFER_FRAMES as u64 * PAGE_SIZE;

/// How many events are read as evidence.
const EVENTS_READ: usize = 8;

/// A log, as long as the command buffer.
#[derive(Debug)]
pub(crate) struct EventLog {
    log: PhysicalAddress,
}

impl EventLog {
    /// An empty log from this frame on; its frames are zeroed and published.
    pub(crate) fn new(log: PhysicalAddress) -> Self {
        Self { log }
    }

    /// The value of the base register.
    pub(crate) fn base(&self) -> BufferBase {
        buffer_base(self.log)
    }

    /// Takes the next event that the unit has logged, if there is one.
    pub(crate) fn next<R: Registers, C>(
        &self,
        unit: &mut Unit<'_, R, C>,
        frames: &impl Frames,
    ) -> Option<Event> {
        let offset = |register| (unit.read(register) & BUFFER_OFFSET) % LOG_BYTES;
        let (head, tail) = (offset(EVENT_HEAD), offset(EVENT_TAIL));
        if head == tail {
            return None;
        }
        let word = |offset| {
            let (frame, word) = place(self.log, (head / 8) as usize + offset);
            frames.load(frame, word)
        };
        let words: [u64; EVENT_WORDS] = core::array::from_fn(word);
        unit.write(EVENT_HEAD, (head + EVENT_BYTES as u64) % LOG_BYTES);
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
