//! Lists the pages of old memory that may change while Holdover runs: those into which devices write, and those that
//! the unit itself writes.

use std::collections::HashSet;

use machine::Range;

use super::tables::Tables;
use crate::machines::ram::Page;

/// Accessed and dirty, which the unit sets in first-stage entries (VT-d specification, section 9.7).
const NOTES: u64 = 1 << 5 | 1 << 6;

/// Bytes of an event of AMD's unit (AMD I/O virtualization technology specification, section 2.5).
const EVENT: usize = 16;

/// The dead kernel's log of events, into which AMD's unit writes until it gets another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventLog {
    /// Where it is.
    pub(crate) memory: Range<u64>,
    /// The only function that gives a reason for events.
    pub(crate) source: u16,
}

/// Pages that may change, by address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writable {
    /// By devices, and in any way.
    by_devices: HashSet<u64>,
    /// First-stage tables, in which the unit notes what is used.
    by_unit: HashSet<u64>,
    /// Events of a device whose tables were damaged.
    events: Option<EventLog>,
}

impl Writable {
    /// The pages that the dead kernel's tables let devices write. Untranslated requests may go anywhere, so for them only
    /// the pages count that the trace shows in use: their I/O addresses are physical ones.
    pub(crate) fn of(dead: &Tables, used: &HashSet<u64>) -> Self {
        let by_devices = &dead.writable_pages() | used;
        Self { by_devices, by_unit: dead.noted_pages(), events: None }
    }

    /// The same, and these pages, which Holdover has to change where they are.
    pub(crate) fn and_pages(mut self, pages: impl Iterator<Item = u64>) -> Self {
        self.by_devices.extend(pages);
        self
    }

    /// The same, and events that the unit logs.
    pub(crate) fn and_events(self, events: Option<EventLog>) -> Self {
        Self { events, ..self }
    }

    /// Whether a page may have changed, however it did.
    pub(crate) fn may_change(&self, address: u64) -> bool {
        self.by_devices.contains(&address) || self.events_at(address).is_some()
    }

    /// Whether a page may have become `after`.
    pub(crate) fn explains(&self, address: u64, before: &Page, after: &Page) -> bool {
        self.by_devices.contains(&address)
            || self.by_unit.contains(&address) && same_but_for_notes(before, after)
            || self.events_at(address).is_some_and(|events| events.explain(before, after))
    }

    fn events_at(&self, address: u64) -> Option<&EventLog> {
        self.events.as_ref().filter(|events| events.memory.contains(address))
    }
}

impl EventLog {
    /// Whether all that is new in a page are events of that function.
    fn explain(&self, before: &Page, after: &Page) -> bool {
        let events = |page: &Page| page.as_chunks::<EVENT>().0.to_vec();
        let new = events(before).into_iter().zip(events(after)).filter(|(was, is)| was != is);
        new.map(|(_, event)| event).all(|event| {
            // The function's id is in bits 15:0, what happened in bits 63:60, where nothing is reserved.
            event[..2] == self.source.to_le_bytes() && event[7] >> 4 != 0
        })
    }
}

fn same_but_for_notes(before: &Page, after: &Page) -> bool {
    let entries = |page: &Page| {
        page.as_chunks::<8>().0.iter().map(|entry| u64::from_le_bytes(*entry) | NOTES).collect::<Vec<_>>()
    };
    entries(before) == entries(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_stage_table_may_get_used_bits_and_nothing_else() {
        let writable = Writable { by_unit: HashSet::from([0x1000]), ..Writable::default() };
        let before = [0; 4096];
        let with = |byte| {
            let mut after = before;
            after[8] = byte;
            after
        };
        assert!(writable.explains(0x1000, &before, &with(0x60)));
        assert!(!writable.explains(0x1000, &before, &with(0x61)));
        assert!(!writable.explains(0x2000, &before, &with(0x60)));
    }

    #[test]
    fn a_log_of_events_may_get_events_of_one_function_and_nothing_else() {
        let log = EventLog { memory: Range::new(0x4000, 0x6000), source: 0x90 };
        let writable = Writable::default().and_events(Some(log));
        let explains = |address, at: usize, event: [u8; EVENT]| {
            let mut after = [0; 4096];
            after[at..at + EVENT].copy_from_slice(&event);
            writable.explains(address, &[0; 4096], &after)
        };
        let event = |source: u8, code: u8| [source, 0, 0, 0, 0, 0, 0, code << 4, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(explains(0x5000, 0xff0, event(0x90, 1)));
        assert!(!explains(0x6000, 0, event(0x90, 1)), "past the log");
        assert!(!explains(0x5000, 0, event(0x91, 1)), "another function's");
        assert!(!explains(0x5000, 0, event(0x90, 0)), "no event");
        assert!(!explains(0x5000, 8, event(0x90, 1)), "between two events");
        assert!(writable.may_change(0x4000) && !writable.may_change(0x6000));
    }

    #[test]
    fn a_page_of_a_device_may_change_in_any_way() {
        let writable = Writable { by_devices: HashSet::from([0x1000]), ..Writable::default() };
        assert!(writable.explains(0x1000, &[0; 4096], &[7; 4096]));
    }
}
