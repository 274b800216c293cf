//! The command buffer (2.4): the ring of commands that the unit fetches, and the requests in flight.
//!
//! A fetched command is not yet executed: unless it is a completion wait, it may take effect after later ones. Only what a
//! completion wait stores says that all commands before it are done; a head that equals the tail does not.

use super::AmdViUnit;
use super::caches::{Caches, Depth, Forget, Span, Whose};
use super::control::Activity;
use crate::amdvi::scenario::Lock;
use crate::answer::Requester;
use crate::habits::{Chore, Countdown};
use crate::memory::{Memory, MemoryKind};
use crate::parts::DeviceTlb;
use crate::trace::Event;
use amdvi::command::{
    COMMAND_BYTES, Command, CommandType, CompletionWait, DeviceTlbInvalidation, PagesInvalidation, PagesRange,
};
use amdvi::control::{BufferBase, Status};
use amdvi::event::{EventCode, EventLow};
use amdvi::registers::{COMMAND_BUFFER, COMMAND_HEAD, COMMAND_TAIL};
use machine::{PhysicalAddress, Range, SourceId};

/// Steps of a millisecond: between two readings of the clock, software reads a few registers.
const MILLISECOND: u32 = 3;
/// The most commands that are fetched at once.
const BURST: u32 = 16;

/// The buffer's state that no register shows.
#[derive(Debug, Default)]
pub(super) struct Commands {
    /// The fetch under way.
    fetch: Option<Countdown>,
    /// Requests that were fetched and are not done, in order.
    in_flight: Vec<InFlight>,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    request: Request,
    left: Countdown,
}

/// What a well-formed command asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// Forget a device table entry.
    Device(u16),
    /// Forget the interrupts of a device.
    Interrupts(u16),
    Translations(Forget),
    /// The translations in a device-TLB.
    InDevice(Requester, Span),
    Everything,
    /// Prefetching, and answers to page requests; this model needs neither.
    NothingHere,
    Wait(CompletionWait, u64),
}

impl Commands {
    /// Whether all that was fetched is done.
    pub(super) fn are_done(&self) -> bool {
        self.in_flight.is_empty()
    }

    fn is_fenced(&self) -> bool {
        self.in_flight.iter().any(|one| matches!(one.request, Request::Wait(wait, _) if wait.flush()))
    }

    /// Takes out the next request that is done; a wait is done when nothing is before it.
    fn next_done(&mut self) -> Option<Request> {
        let done = |(index, one): (usize, &InFlight)| {
            one.left.is_over() && (index == 0 || !matches!(one.request, Request::Wait(..)))
        };
        let index = self.in_flight.iter().enumerate().position(done)?;
        Some(self.in_flight.remove(index).request)
    }
}

impl AmdViUnit {
    /// Advances the requests in flight, then the fetch.
    pub(super) fn advance_commands(&mut self, memory: &mut Memory) {
        self.commands.in_flight.iter_mut().for_each(|one| one.left.tick());
        while let Some(request) = self.commands.next_done() {
            self.carry_out(request, memory);
        }
        if self.is_fetching() {
            self.advance_fetch(memory);
        }
    }

    fn advance_fetch(&mut self, memory: &mut Memory) {
        if self.next_command().is_none() {
            return;
        }
        let mut left = self.commands.fetch.unwrap_or_else(|| self.countdown(Chore::FetchDescriptor));
        left.tick();
        self.commands.fetch = if left.is_over() { None } else { Some(left) };
        if !left.is_over() {
            return;
        }
        for _ in 0..self.rng.u32(1..=BURST) {
            let Some((at, next)) = self.next_command() else { return };
            if !self.fetch(at, memory) {
                return;
            }
            self.set(COMMAND_HEAD.offset, next);
        }
    }

    /// Where the next command is, and what the head is after it; `None` if there is none, or one before it keeps it back.
    fn next_command(&self) -> Option<(PhysicalAddress, u64)> {
        let base = BufferBase::from_bits(self.get(COMMAND_BUFFER.offset));
        let bytes = (base.entries()? * COMMAND_BYTES) as u64;
        let (head, tail) = (self.get(COMMAND_HEAD.offset) % bytes, self.get(COMMAND_TAIL.offset) % bytes);
        let is_there = head != tail && !self.commands.is_fenced();
        is_there.then(|| (base.address().saturating_add(head), (head + COMMAND_BYTES as u64) % bytes))
    }

    /// Fetches a command; one that cannot be read or is malformed stops the fetching there (2.5.6, 2.5.7).
    fn fetch(&mut self, at: PhysicalAddress, memory: &mut Memory) -> bool {
        let words = [memory.read(at), memory.read(at.saturating_add(8))];
        let (request, error) = match words {
            [Some(low), Some(high)] => (self.decode(Command([low, high])), EventCode::ILLEGAL_COMMAND_ERROR),
            _ => (None, EventCode::COMMAND_HARDWARE_ERROR),
        };
        let Some(request) = request else {
            self.runs.stop(Activity::Commands);
            self.events.push(Event::QueueStopped { at: at.get() });
            self.log_event(EventLow::new().with_code(error), at.get(), memory);
            return false;
        };
        let left = self.duration(request);
        self.commands.in_flight.push(InFlight { request, left });
        true
    }

    /// Decodes a command; `None` if it has reserved bits or codes, or asks for what the unit does not support.
    fn decode(&self, command: Command) -> Option<Request> {
        let [low, high] = command.0;
        let feature = self.traits.feature;
        let (source, of_device) = (low as u16, low & 0x0FFF_FFFF_FFFF_0000 == 0 && high == 0);
        match command.kind() {
            CommandType::COMPLETION_WAIT if low & 0xFF << 52 == 0 => {
                Some(Request::Wait(CompletionWait::from_bits(low), high))
            }
            CommandType::INVALIDATE_DEVTAB_ENTRY if of_device => Some(Request::Device(source)),
            CommandType::INVALIDATE_INTERRUPT_TABLE if of_device => Some(Request::Interrupts(source)),
            CommandType::INVALIDATE_IOMMU_PAGES if low & 0x0FFF_0000_FFF0_0000 == 0 && high & 0xFF8 == 0 => {
                let (wanted, range) = (PagesInvalidation::from_bits(low), PagesRange::from_bits(high));
                self.pages(wanted, range).map(Request::Translations)
            }
            CommandType::INVALIDATE_IOTLB_PAGES if high & 2 == 0 => {
                let (wanted, range) = (DeviceTlbInvalidation::from_bits(low), PagesRange::from_bits(high));
                let pasid = u32::from(wanted.pasid_low())
                    | u32::from(wanted.pasid_middle()) << 8
                    | u32::from(wanted.pasid_high()) << 16;
                let requester =
                    Requester { source: wanted.source().0, pasid: range.guest().then_some(pasid) };
                Some(Request::InDevice(requester, Span::of(range)))
            }
            CommandType::PREFETCH_IOMMU_PAGES if feature.prefetch() => Some(Request::NothingHere),
            CommandType::COMPLETE_PPR_REQUEST if feature.ppr() => Some(Request::NothingHere),
            CommandType::INVALIDATE_IOMMU_ALL if feature.ia() && command == Command::INVALIDATE_IOMMU_ALL => {
                Some(Request::Everything)
            }
            _ => None,
        }
    }

    /// Which translations an invalidation is about; `None` if it is about guests, which the unit does not know.
    fn pages(&self, wanted: PagesInvalidation, range: PagesRange) -> Option<Forget> {
        let whose = match range.guest() {
            false => Whose::Host,
            true if self.traits.feature.gt() => Whose::Guest(wanted.pasid()),
            true => return None,
        };
        let depth = if range.tables() { Depth::AllLevels } else { Depth::Leaves };
        Some(Forget { domain: wanted.domain(), whose, span: Span::of(range), depth })
    }

    fn carry_out(&mut self, request: Request, memory: &mut Memory) {
        match request {
            Request::Device(source) => {
                self.caches.forget_device(source);
                self.reported.remove(&source);
                self.events.push(Event::ForgotDevice { source });
            }
            Request::Interrupts(source) => {
                self.caches.forget_interrupts(source);
                self.events.push(Event::ForgotInterrupts { source });
            }
            Request::Translations(what) => {
                self.caches.forget(what);
                self.events.push(Event::ForgotTranslations);
            }
            Request::Everything => {
                self.caches = Caches::default();
                self.reported.clear();
                self.events.push(Event::ForgotEverything);
            }
            Request::InDevice(requester, span) => self.ask_device(requester, span, memory),
            Request::NothingHere => (),
            Request::Wait(wait, data) => self.complete(wait, data, memory),
        }
    }

    /// Tells a device to invalidate its translations; one that does not answer is given up after a while (2.5.8).
    fn ask_device(&mut self, requester: Requester, span: Span, memory: &mut Memory) {
        let source = requester.source;
        self.forget_in_device(requester, |page| span.meets(page.iova, page.shift));
        if self.device_tlbs.manner(source) != DeviceTlb::Answers {
            let low = EventLow::new().with_source(SourceId(source)).with_code(EventCode::IOTLB_INV_TIMEOUT);
            self.log_event(low, 0, memory);
            self.events.push(Event::DeviceSilent { source });
        }
    }

    /// How long a request takes from now. A device that stalls is given up late, when InvTimeOut says; without that, one that does not
    /// answer never is.
    fn duration(&mut self, request: Request) -> Countdown {
        let Request::InDevice(requester, span) = request else {
            return self.countdown(Chore::FinishDescriptor);
        };
        let manner = self.device_tlbs.manner(requester.source);
        if matches!(manner, DeviceTlb::Answers) {
            return self.countdown(Chore::FinishDescriptor);
        }
        self.forget_in_device(requester, |page| span.meets(page.iova, page.shift));
        match (manner, self.time_out()) {
            (_, None) => Countdown(None),
            (DeviceTlb::Stalls, late) => Countdown(late),
            _ => self.countdown(Chore::FinishDescriptor),
        }
    }

    /// After how many steps the unit gives a device up (InvTimeOut); `None` if never. The code 7 is reserved: here it is the longest.
    fn time_out(&self) -> Option<u32> {
        let code = self.control().invalidation_timeout().0;
        Some(MILLISECOND * 10_u32.pow(u32::from(code).checked_sub(1)?))
    }

    /// Stores what a completion wait says; reports a misuse if the capture kernel's buffer has the unit write to memory that is
    /// not its own.
    fn complete(&mut self, wait: CompletionWait, data: u64, memory: &mut Memory) {
        let address = PhysicalAddress::new(wait.address() << 3);
        if wait.store() && self.may_store(address) {
            let buffer = BufferBase::from_bits(self.get(COMMAND_BUFFER.offset)).address();
            let own =
                |at: PhysicalAddress| memory.is(Range::new(at, at.saturating_add(8)), MemoryKind::Capture);
            if own(buffer) && !own(address) {
                self.complain("a completion wait stores to memory that is not the capture kernel's");
            }
            memory.write_by_unit(address, data);
        }
        if wait.interrupt() {
            self.raise(Status::new().with_completion_interrupt(true));
        }
        self.events.push(Event::Waited { data });
    }

    /// Whether secure nested paging allows a store: where registers are locked, into one range.
    fn may_store(&self, address: PhysicalAddress) -> bool {
        self.lock == Lock::Open || self.exclusion_registers().1.contains(address)
    }
}
