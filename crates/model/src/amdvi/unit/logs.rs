//! Logs: events, page requests and guest interrupts, which the unit writes to memory (2.5, 2.6, 2.8).

use super::AmdViUnit;
use super::control::Activity;
use crate::amdvi::walk::{Abort, Reports};
use crate::answer::{Access, Direction};
use crate::memory::Memory;
use crate::trace::Event;
use amdvi::control::{BufferBase, Status};
use amdvi::event::{EventCode, EventLow};
use amdvi::registers::{
    COMMAND_BUFFER, COMMAND_HEAD, COMMAND_TAIL, EVENT_HEAD, EVENT_LOG, EVENT_TAIL, GA_HEAD, GA_LOG,
    GA_LOG_TAIL_ADDRESS, GA_TAIL, PPR_HEAD, PPR_LOG, PPR_TAIL,
};
use machine::{PhysicalAddress, SourceId};

/// The registers of a buffer, and the bytes of its entries.
pub(super) struct Ring {
    pub(super) base: usize,
    pub(super) head: usize,
    pub(super) tail: usize,
    pub(super) entry: u64,
}

pub(super) fn ring(activity: Activity) -> Ring {
    let ([base, head, tail], entry) = match activity {
        Activity::Commands => ([COMMAND_BUFFER, COMMAND_HEAD, COMMAND_TAIL], 16),
        Activity::Events => ([EVENT_LOG, EVENT_HEAD, EVENT_TAIL], 16),
        Activity::Pages => ([PPR_LOG, PPR_HEAD, PPR_TAIL], 16),
        Activity::Guests => ([GA_LOG, GA_HEAD, GA_TAIL], 8),
    };
    Ring { base: base.offset, head: head.offset, tail: tail.offset, entry }
}

/// The status bits of a full log, and of a new entry.
fn status_bits(activity: Activity) -> [Status; 2] {
    let none = Status::new();
    match activity {
        Activity::Commands => [none, none],
        Activity::Events => [none.with_event_overflow(true), none.with_event_interrupt(true)],
        Activity::Pages => [none.with_ppr_overflow(true), none.with_ppr_interrupt(true)],
        Activity::Guests => [none.with_ga_overflow(true), none.with_ga_interrupt(true)],
    }
}

impl AmdViUnit {
    /// Reports a blocked request, unless its device reports none, or no more (SA, SE).
    pub(super) fn report(&mut self, access: Access, abort: Abort, memory: &mut Memory) {
        self.events.push(Event::Fault { access, reason: abort.into() });
        let entry = self.entry(memory, access.source).unwrap_or_default();
        let told = match Reports::of(entry) {
            Reports::All => true,
            Reports::First => self.reported.insert(access.source),
            Reports::None => false,
        };
        if !told && abort.code() == EventCode::IO_PAGE_FAULT {
            return;
        }
        let tag = access.pasid.map_or(entry.guest.domain(), |pasid| pasid as u16);
        let low = EventLow::new()
            .with_source(SourceId(access.source))
            .with_pasid_high(access.pasid.map_or(0, |pasid| (pasid >> 16 & 0xF) as u8))
            .with_domain(tag)
            .with_guest(access.pasid.is_some())
            .with_interrupt(access.pasid.is_none() && machine::INTERRUPT_WINDOW.contains(access.iova))
            .with_present(matches!(abort, Abort::NotAllowed | Abort::Reserved))
            .with_write(access.direction == Direction::Write)
            .with_permission(abort == Abort::NotAllowed)
            .with_reserved(abort == Abort::Reserved)
            .with_code(abort.code());
        self.log_event(low, access.iova.get(), memory);
    }

    pub(crate) fn log_event(&mut self, low: EventLow, address: u64, memory: &mut Memory) {
        self.append(Activity::Events, &[low.into_bits(), address], memory);
    }

    /// Lets devices make page requests and guests get interrupts now and then.
    pub(super) fn log_others_work(&mut self, memory: &mut Memory) {
        if self.rng.u8(..) < 8 && self.control().ppr() {
            let words = [u64::from(self.rng.u16(..)), self.rng.u64(..) & !0xFFF];
            self.append(Activity::Pages, &words, memory);
        }
        if self.rng.u8(..) < 8 {
            let word = self.rng.u64(..);
            if self.append(Activity::Guests, &[word], memory) {
                let (at, tail) = (self.get(GA_LOG_TAIL_ADDRESS.offset), self.get(GA_TAIL.offset));
                self.store(PhysicalAddress::new(at), tail, memory);
            }
        }
    }

    /// Adds an entry to a log; a log that has no room for it has overflown, and stops.
    fn append(&mut self, activity: Activity, words: &[u64], memory: &mut Memory) -> bool {
        let ring = ring(activity);
        let base = BufferBase::from_bits(self.get(ring.base));
        let Some(entries) = base.entries().filter(|_| self.runs.is_running(activity)) else { return false };
        let bytes = entries as u64 * ring.entry;
        let tail = self.get(ring.tail) % bytes;
        let next = (tail + ring.entry) % bytes;
        let [overflow, interrupt] = status_bits(activity);
        if next == self.get(ring.head) % bytes {
            self.raise(overflow);
            self.runs.stop(activity);
            self.events.push(Event::LogFull);
            return false;
        }
        for (offset, word) in (tail..).step_by(8).zip(words) {
            self.store(base.address().saturating_add(offset), *word, memory);
        }
        self.set(ring.tail, next);
        self.raise(interrupt);
        true
    }

    /// Fills the event log with the events of the old kernel's time, until there is no room for one more.
    pub(crate) fn fill_events(&mut self, memory: &mut Memory) {
        while self.runs.is_running(Activity::Events) {
            let low = EventLow::new().with_code(EventCode::IO_PAGE_FAULT);
            self.log_event(low, 0x1000, memory);
        }
    }

    /// Stores a word of a log.
    fn store(&mut self, address: PhysicalAddress, word: u64, memory: &mut Memory) {
        memory.write_by_unit(address, word);
        self.events.push(Event::Logged { address });
    }
}
