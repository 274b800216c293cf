//! Queued invalidation (6.5.2): the ring of descriptors that the unit fetches, and the requests in flight.
//!
//! A fetched descriptor is not yet executed: unless it is a wait, it may take effect after later ones. Only the
//! status of a wait says that all descriptors before it are done; a head that equals the tail does not.

use super::caches::{Depth, Forget, ForgetContexts, ForgetPasids};
use super::{Countdown, VtdUnit};
use crate::answer::Requester;
use crate::habits::Chore;
use crate::memory::{Memory, MemoryKind};
use crate::trace::Event;
use crate::vtd::scenario::DeviceTlb;
use machine::{IoAddress, PhysicalAddress, Range};
use vtd::control::{Granularity, InvalidateAddress, TableMode};
use vtd::fault::FaultStatus;
use vtd::queue::{
    ContextCacheInvalidation, Descriptor, DescriptorType, DeviceTlbInvalidation, IotlbInvalidation,
    PasidCacheInvalidation, PasidDeviceTlbInvalidation, PasidIotlbInvalidation, QUEUE_OFFSET, QueueAddress,
    WAIT_COMPLETED, Wait,
};
use vtd::registers::{FSTS, ICS, IQA, IQH, IQT};

/// The queue's state that no register shows.
#[derive(Debug, Default)]
pub(super) struct Queue {
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

/// What a well-formed descriptor asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Contexts(ForgetContexts),
    Pasids(ForgetPasids),
    Translations(Forget),
    /// The translations in a device-TLB.
    InDevice(Requester),
    /// Interrupt entries; this model has none.
    NothingHere,
    Wait(Wait, PhysicalAddress),
}

impl Queue {
    fn is_fenced(&self) -> bool {
        self.in_flight.iter().any(|one| matches!(one.request, Request::Wait(wait, _) if wait.fence()))
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

impl VtdUnit {
    /// Advances the requests in flight, then the fetch.
    pub(super) fn advance_queue(&mut self, memory: &mut Memory) {
        if !self.status.qies() {
            return;
        }
        self.queue.in_flight.iter_mut().for_each(|one| one.left.tick());
        while let Some(request) = self.queue.next_done() {
            self.carry_out(request, memory);
        }
        self.advance_fetch(memory);
    }

    /// Starts or stops the queue (6.5.2). Requests in flight at the stop take effect, but report nothing.
    pub(super) fn reset_queue(&mut self, memory: &mut Memory) {
        for one in std::mem::take(&mut self.queue).in_flight {
            if !matches!(one.request, Request::Wait(..) | Request::InDevice(_)) {
                self.carry_out(one.request, memory);
            }
        }
        self.set64(IQH.offset, 0);
    }

    /// Whether some request is under way that will be done sooner or later.
    pub(super) fn is_busy(&self) -> bool {
        let never = |one: &InFlight| one.left.0.is_none();
        !self.queue.in_flight.is_empty() && !self.queue.in_flight.iter().any(never)
    }

    fn advance_fetch(&mut self, memory: &Memory) {
        let stopped = self.get32(FSTS.offset) & FaultStatus::QUEUE_STOPS.into_bits() != 0;
        let (head, tail) = (self.get64(IQH.offset), self.get64(IQT.offset) & QUEUE_OFFSET);
        if stopped || head == tail || self.queue.is_fenced() {
            return;
        }
        let mut left = self.queue.fetch.unwrap_or_else(|| self.countdown(Chore::FetchDescriptor));
        left.tick();
        self.queue.fetch = if left.is_over() { None } else { Some(left) };
        if left.is_over() {
            self.fetch(memory, head);
        }
    }

    /// Fetches the descriptor at `head`; a malformed one stops the queue there.
    fn fetch(&mut self, memory: &Memory, head: u64) {
        let address = QueueAddress::from_bits(self.get64(IQA.offset));
        let step = address.descriptor_bytes();
        // Scalable mode requires wide descriptors (6.5.2).
        let fits = address.wide() || self.root.mode() != TableMode::SCALABLE;
        let fetched = read_descriptor(memory, address.address().saturating_add(head), step).filter(|_| fits);
        let request = fetched
            .filter(|_| head.is_multiple_of(step) && head < address.bytes())
            .and_then(|d| self.decode(d));
        let Some(request) = request else {
            self.set32(FSTS.offset, self.get32(FSTS.offset) | FaultStatus::new().with_iqe(true).into_bits());
            self.events.push(Event::QueueStopped { at: head });
            return;
        };
        let left = self.duration(request);
        self.queue.in_flight.push(InFlight { request, left });
        self.set64(IQH.offset, (head + step) % address.bytes());
    }

    /// Decodes a descriptor; `None` if it has reserved bits or codes, or asks for what the unit does not support.
    fn decode(&self, descriptor: Descriptor) -> Option<Request> {
        let [low, high, rest @ ..] = descriptor.0;
        if rest != [0, 0] {
            return None;
        }
        match descriptor.kind() {
            DescriptorType::CONTEXT_CACHE if low & 0xFFFC_0000_0000_FFC0 == 0 && high == 0 => {
                let wanted = ContextCacheInvalidation::from_bits(low);
                let device = ForgetContexts::device(wanted.source().0, wanted.function_mask());
                forget_contexts(wanted.granularity(), wanted.domain(), device).map(Request::Contexts)
            }
            DescriptorType::IOTLB if low & 0xFFFF_FFFF_0000_FF00 == 0 && high & 0xF80 == 0 => {
                let wanted = IotlbInvalidation::from_bits(low);
                let pages = InvalidateAddress::from_bits(high);
                self.forget(wanted.granularity(), wanted.domain(), pages).map(Request::Translations)
            }
            DescriptorType::PASID_CACHE if low & 0xFFF0_0000_0000_FFC0 == 0 && high == 0 => {
                forget_pasids(PasidCacheInvalidation::from_bits(low)).map(Request::Pasids)
            }
            DescriptorType::DEVICE_TLB if self.traits.extended.dt() => {
                let source = DeviceTlbInvalidation::from_bits(low).source().0;
                Some(Request::InDevice(Requester { source, pasid: None }))
            }
            DescriptorType::PASID_DEVICE_TLB if self.traits.extended.dt() => {
                let wanted = PasidDeviceTlbInvalidation::from_bits(low);
                let (source, pasid) = (wanted.source().0, Some(wanted.pasid()));
                Some(Request::InDevice(Requester { source, pasid }))
            }
            DescriptorType::PASID_IOTLB if low & 0xFFF0_0000_0000_FFC0 == 0 => {
                forget_of_pasid(PasidIotlbInvalidation::from_bits(low)).map(Request::Translations)
            }
            DescriptorType::INTERRUPT_ENTRY => Some(Request::NothingHere),
            DescriptorType::WAIT if low & 0xFFFF_FF00 == 0 && high.is_multiple_of(4) => {
                Some(Request::Wait(Wait::from_bits(low), high.into()))
            }
            _ => None,
        }
    }

    fn carry_out(&mut self, request: Request, memory: &mut Memory) {
        match request {
            Request::Contexts(what) => self.forget_contexts_now(what, memory),
            Request::Pasids(what) => self.forget_pasids_now(what, memory),
            Request::Translations(what) => self.forget_now(what, memory),
            Request::InDevice(requester) => self.ask_device(requester),
            Request::NothingHere => (),
            Request::Wait(wait, address) => self.report(wait, address, memory),
        }
    }

    /// Tells a device to invalidate its translations; if it does not answer, all waits are aborted and the queue
    /// stops (6.5.2.10).
    fn ask_device(&mut self, requester: Requester) {
        self.forget_in_device(requester);
        if self.device_tlbs.manner(requester.source) != DeviceTlb::Answers {
            self.give_up_on(requester.source);
        }
    }

    /// Stops waiting for a device: aborts all waits, and stops the queue (6.5.2.10).
    pub(super) fn give_up_on(&mut self, source: u16) {
        self.queue.in_flight.retain(|one| !matches!(one.request, Request::Wait(..)));
        self.give_device_up(source);
    }

    /// How long a request takes from now.
    fn duration(&mut self, request: Request) -> Countdown {
        match request {
            Request::InDevice(requester)
                if self.device_tlbs.manner(requester.source) == DeviceTlb::Stalls =>
            {
                self.forget_in_device(requester);
                Countdown(None)
            }
            _ => self.countdown(Chore::FinishDescriptor),
        }
    }

    /// Writes a wait's status; reports a misuse if the capture kernel's queue writes to memory that is not its own.
    fn report(&mut self, wait: Wait, address: PhysicalAddress, memory: &mut Memory) {
        if wait.write() {
            let queue = QueueAddress::from_bits(self.get64(IQA.offset)).address();
            let own =
                |at: PhysicalAddress| memory.is(Range::new(at, at.saturating_add(4)), MemoryKind::Capture);
            if own(queue) && !own(address) {
                self.complain("a wait reports to memory that is not the capture kernel's");
            }
            memory.write32_by_unit(address, wait.data());
        }
        if wait.interrupt() {
            self.set32(ICS.offset, WAIT_COMPLETED);
        }
        self.events.push(Event::Waited { data: wait.data().into() });
    }

    /// What an IOTLB invalidation covers (6.5.2.3); `None` for undefined codes and masks.
    pub(super) fn forget(&self, how: Granularity, domain: u16, pages: InvalidateAddress) -> Option<Forget> {
        let capability = self.traits.capability;
        let depth = if pages.leaf_only() { Depth::Leaves } else { Depth::AllLevels };
        match how {
            Granularity::GLOBAL => Some(Forget::Everything),
            Granularity::DOMAIN => Some(Forget::Domain(domain)),
            Granularity::SELECTIVE if !capability.psi() => Some(Forget::Domain(domain)),
            Granularity::SELECTIVE if pages.address_mask() <= capability.mamv() => {
                let order = pages.address_mask().into();
                Some(Forget::Pages { domain, iova: IoAddress::new(pages.frame() << 12), order, depth })
            }
            _ => None,
        }
    }
}

/// What a context-cache invalidation covers (6.5.2.1).
pub(super) fn forget_contexts(
    how: Granularity,
    domain: u16,
    device: ForgetContexts,
) -> Option<ForgetContexts> {
    match how {
        Granularity::GLOBAL => Some(ForgetContexts::Everything),
        Granularity::DOMAIN => Some(ForgetContexts::Domain(domain)),
        Granularity::SELECTIVE => Some(device),
        _ => None,
    }
}

/// What a PASID-cache invalidation covers (6.5.2.2).
fn forget_pasids(wanted: PasidCacheInvalidation) -> Option<ForgetPasids> {
    let (domain, pasid) = (wanted.domain(), wanted.pasid());
    match wanted.granularity() {
        PasidCacheInvalidation::ALL_OF_DOMAIN => Some(ForgetPasids::Domain(domain)),
        PasidCacheInvalidation::ONE => Some(ForgetPasids::One { domain, pasid }),
        PasidCacheInvalidation::GLOBAL => Some(ForgetPasids::Everything),
        _ => None,
    }
}

/// What an invalidation by PASID covers (6.5.2.4): at least the pages that it names, here all of the PASID.
fn forget_of_pasid(wanted: PasidIotlbInvalidation) -> Option<Forget> {
    const ALL: u8 = 2;
    const PAGES: u8 = 3;
    let forget = Forget::Pasid { domain: wanted.domain(), pasid: wanted.pasid() };
    matches!(wanted.granularity(), ALL | PAGES).then_some(forget)
}

fn read_descriptor(memory: &Memory, address: PhysicalAddress, bytes: u64) -> Option<Descriptor> {
    let mut words = [0; 4];
    for (offset, word) in (0..bytes).step_by(8).zip(&mut words) {
        *word = memory.read(address.saturating_add(offset))?;
    }
    Some(Descriptor(words))
}
