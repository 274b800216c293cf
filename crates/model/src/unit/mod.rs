//! A remapping unit: registers that behave as hardware's, caches, an invalidation queue, fault records.
//!
//! Time passes in steps ([`Unit::advance`]); nothing that software commands is done at once unless chance or its
//! [`Habits`] say so. What software must not do but can is done, and complained of.

mod caches;
mod faults;
mod queue;

use crate::answer::{Access, Answer, Requester};
use crate::habits::{Chore, Habits};
use crate::memory::Memory;
use crate::trace::Event;
use crate::walk::{Context, Device, Page, Table, Traits, Translation, Walker, is_interrupt};
use caches::{Cached, CachedTable, Caches, Forget, ForgetContexts, ForgetPasids};
use fastrand::Rng;
use queue::Queue;
use vtd::control::{
    ContextCommand, GlobalCommand, GlobalStatus, Granularity, InvalidateAddress, IotlbCommand,
    RootTableAddress, TableMode,
};
use vtd::fault::FaultReason;
use vtd::registers::{
    CAP, CCMD, ECAP, FSTS, GCMD, GSTS, ICS, IOTLB_FROM_IRO, IQA, IQH, IQT, IVA_FROM_IRO, RTADDR, VER,
};

/// Bytes of the register block: the fixed ones, and what floats lies within too.
const BLOCK: usize = 4096;

/// Chores take steps: how many are left, or none if it is never done.
#[derive(Clone, Copy, Debug)]
struct Countdown(Option<u32>);

impl Countdown {
    fn tick(&mut self) {
        self.0 = self.0.map(|left| left.saturating_sub(1));
    }

    fn is_over(self) -> bool {
        self.0 == Some(0)
    }
}

/// A remapping unit.
#[derive(Debug)]
pub(crate) struct Unit {
    traits: Traits,
    /// Registers as they read, but for those that are computed.
    words: Vec<u32>,
    status: GlobalStatus,
    /// The root table in force, which RTADDR is not until GCMD.SRTP.
    root: RootTableAddress,
    commands: Vec<Command>,
    queue: Queue,
    caches: Caches,
    next_record: usize,
    habits: Habits,
    rng: Rng,
    events: Vec<Event>,
}

/// A command under way.
#[derive(Clone, Copy, Debug)]
struct Command {
    action: Action,
    left: Countdown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    TakeRoot,
    FlushWriteBuffer,
    /// Sets the status bits of the first to those of the second.
    Switch(u32, u32),
    ForgetContexts,
    ForgetTranslations,
}

impl Unit {
    /// A unit after reset.
    pub(crate) fn new(traits: Traits, habits: Habits, rng: Rng) -> Self {
        let mut unit = Self {
            traits,
            words: vec![0; BLOCK / 4],
            status: GlobalStatus::new(),
            root: RootTableAddress::new(),
            commands: Vec::new(),
            queue: Queue::default(),
            caches: Caches::default(),
            next_record: 0,
            habits,
            rng,
            events: Vec::new(),
        };
        unit.set32(VER.offset, 0x10);
        unit.set64(CAP.offset, traits.capability.into_bits());
        unit.set64(ECAP.offset, traits.extended.into_bits());
        unit
    }

    /// A view of the tables in force.
    pub(crate) fn walker<'a>(&'a self, memory: &'a Memory) -> Walker<'a> {
        Walker { memory, traits: &self.traits, root: self.root }
    }

    /// What happened since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The old kernel is dead: what is commanded from now on is done with these habits, and watched.
    pub(crate) fn die_with(&mut self, habits: Habits) {
        self.habits = habits;
        self.events.clear();
    }

    /// Lets one step's time pass.
    pub(crate) fn advance(&mut self, memory: &mut Memory) {
        self.commands.iter_mut().for_each(|command| command.left.tick());
        while let Some(done) = self.commands.iter().position(|command| command.left.is_over()) {
            let action = self.commands.remove(done).action;
            self.complete(action, memory);
        }
        self.advance_queue(memory);
        if self.rng.u8(..) < 16 {
            self.caches.evict(&mut self.rng);
        }
    }

    /// The answer of a unit without caches.
    pub(crate) fn cold_answer(&self, memory: &Memory, access: Access) -> Answer {
        if self.status.tes() { self.walker(memory).answer(access) } else { Answer::Memory(access.iova) }
    }

    /// The answer as the caches have it; what is looked up is cached, what is blocked is recorded.
    pub(crate) fn answer(&mut self, memory: &Memory, access: Access) -> Answer {
        if !self.status.tes() {
            return Answer::Memory(access.iova);
        }
        if is_interrupt(access.iova) {
            return Answer::Interrupt;
        }
        let context = self.context(memory, access.requester());
        let answer = context.and_then(|context| self.translate(memory, context, access));
        answer.unwrap_or_else(|reason| {
            if !context.is_ok_and(|context| context.fault_disabled) {
                self.record(access, reason);
            }
            Answer::Blocked(reason)
        })
    }

    /// The context of a requester, by way of context cache and PASID cache.
    fn context(&mut self, memory: &Memory, requester: Requester) -> Result<Context, FaultReason> {
        let device = self.device(memory, requester.source)?;
        if let (Device::Scalable(_), Some(cached)) = (device, self.caches.pasid(requester)) {
            return Ok(cached);
        }
        let context = self.walker(memory).context_of(device, requester.pasid)?;
        if matches!(device, Device::Scalable(_)) {
            self.caches.keep_pasid(requester, context);
        }
        Ok(context)
    }

    fn device(&mut self, memory: &Memory, source: u16) -> Result<Device, FaultReason> {
        if let Some(cached) = self.caches.device(source) {
            return cached;
        }
        let device = self.walker(memory).device(source);
        if device.is_ok() || self.traits.capability.cm() {
            self.caches.keep_device(source, device);
        }
        device
    }

    fn translate(
        &mut self,
        memory: &Memory,
        context: Context,
        access: Access,
    ) -> Result<Answer, FaultReason> {
        self.walker(memory).check_width(context.translation, access.iova)?;
        match context.translation {
            Translation::PassThrough => Ok(Answer::Memory(access.iova)),
            Translation::SecondStage(root) => {
                self.page(memory, context.domain, root, access.iova)?.answer(access)
            }
        }
    }

    /// The page of `iova`: cached, or walked to from the lowest table that is cached.
    fn page(&mut self, memory: &Memory, domain: u16, root: Table, iova: u64) -> Result<Page, FaultReason> {
        if let Some(page) = self.caches.page(domain, iova) {
            return Ok(page);
        }
        let from = self.caches.table(domain, iova).unwrap_or(root);
        let mut below = Vec::new();
        let page = self.walker(memory).second_stage(from, iova, |table| below.push(table))?;
        for &table in &below[1..] {
            self.caches.keep_table(CachedTable { domain, iova, table }, &mut self.rng);
        }
        if page.rights.any() || self.traits.capability.cm() {
            self.caches.keep_page(Cached { domain, page }, &mut self.rng);
        }
        Ok(page)
    }

    /// Reads a 32-bit register.
    pub(crate) fn read32(&self, offset: usize) -> u32 {
        match offset {
            _ if offset == GCMD.offset => 0,
            _ if offset == GSTS.offset => self.status.into_bits(),
            _ if offset == FSTS.offset => self.fault_status(),
            _ => self.get32(offset),
        }
    }

    /// Writes a 32-bit register, or half of a 64-bit one; what starts something starts it with its upper half.
    pub(crate) fn write32(&mut self, offset: usize, value: u32) {
        let iro = self.traits.extended.iotlb_offset();
        match offset {
            _ if offset == GCMD.offset => self.command(GlobalCommand::from_bits(value)),
            _ if offset == CCMD.offset + 4 => self.command_contexts(value),
            _ if offset == iro + IOTLB_FROM_IRO + 4 => self.command_translations(value),
            _ if offset == FSTS.offset => self.clear_faults(value),
            _ if offset == ICS.offset => self.set32(offset, self.get32(offset) & !value),
            _ if self.is_fault_record(offset) => self.clear_record(offset, value),
            _ if is_read_only(offset) => self.complain("a read-only register was written"),
            _ => self.store(offset, value),
        }
    }

    /// A register that just holds what is written.
    fn store(&mut self, offset: usize, value: u32) {
        if self.status.qies() && (offset == IQA.offset || offset == IQA.offset + 4) {
            self.complain("the queue was moved while it was on");
        }
        self.set32(offset, value);
    }

    /// Starts a global command (11.4.4): exactly one change a write, and none before the last is done.
    fn command(&mut self, value: GlobalCommand) {
        let changed = GlobalCommand::from_bits(value.into_bits() ^ self.status.keep().into_bits());
        if changed.into_bits().count_ones() > 1 {
            self.complain("one write of the global command changed several things");
        }
        if !self.commands.is_empty() {
            self.complain("a command was given before the last one was done");
        }
        self.check_switches(changed, value);
        if changed.srtp() {
            self.status.set_rtps(false);
            self.start(Chore::TakeRoot, Action::TakeRoot);
        }
        if changed.wbf() {
            self.status.set_wbfs(true);
            self.start(Chore::FlushWriteBuffer, Action::FlushWriteBuffer);
        }
        self.start_switch(Chore::SwitchQueue, changed.into_bits() & 1 << 26, value);
        self.start_switch(Chore::SwitchTranslation, changed.into_bits() & 1 << 31, value);
        self.start_switch(Chore::SwitchOther, changed.into_bits() & 0x3380_0000, value);
    }

    /// Complains of what no takeover may turn off, and of a queue that is switched while it is not ready for it.
    fn check_switches(&mut self, changed: GlobalCommand, value: GlobalCommand) {
        if changed.te() && !value.te() {
            self.complain("translation was turned off");
        }
        if changed.ire() || changed.sirtp() {
            self.complain("interrupt remapping was changed");
        }
        let tail = self.get64(IQT.offset);
        if changed.qie() && value.qie() && tail != 0 {
            self.complain("the queue was turned on with a tail that is not zero");
        }
        let stopped = self.fault_status() & vtd::fault::FaultStatus::QUEUE_ERRORS.into_bits() != 0;
        if changed.qie() && !value.qie() && !stopped && tail != self.get64(IQH.offset) {
            self.complain("the queue was turned off before it was empty");
        }
    }

    fn start_switch(&mut self, chore: Chore, bits: u32, value: GlobalCommand) {
        if bits != 0 {
            self.start(chore, Action::Switch(bits, value.into_bits() & bits));
        }
    }

    fn start(&mut self, chore: Chore, action: Action) {
        let left = self.countdown(chore);
        self.commands.push(Command { action, left });
    }

    fn countdown(&mut self, chore: Chore) -> Countdown {
        Countdown(self.habits.steps(chore, &mut self.rng).map(|steps| steps.saturating_add(1)))
    }

    fn complete(&mut self, action: Action, memory: &mut Memory) {
        match action {
            Action::TakeRoot => self.take_root(),
            Action::FlushWriteBuffer => {
                memory.drain();
                self.status.set_wbfs(false);
            }
            Action::Switch(bits, value) => self.switch(bits, value, memory),
            Action::ForgetContexts => self.finish_contexts(memory),
            Action::ForgetTranslations => self.finish_translations(memory),
        }
    }

    fn take_root(&mut self) {
        self.root = RootTableAddress::from_bits(self.get64(RTADDR.offset));
        self.status.set_rtps(true);
        self.events.push(Event::RootTaken { address: self.root.address() });
        if self.traits.capability.esrtps() {
            self.caches = Caches::default();
        }
    }

    fn switch(&mut self, bits: u32, value: u32, memory: &mut Memory) {
        let before = self.status;
        self.status = GlobalStatus::from_bits(before.into_bits() & !bits | value);
        if before.qies() != self.status.qies() {
            self.reset_queue(memory);
        }
        self.events.push(Event::Switched { status: self.status });
    }

    /// CCMD: upper half, whose ICC starts (11.4.6).
    fn command_contexts(&mut self, upper: u32) {
        self.set32(CCMD.offset + 4, upper);
        let command = ContextCommand::from_bits(self.get64(CCMD.offset));
        if command.invalidate() && self.may_use_registers() {
            self.start(Chore::ForgetContexts, Action::ForgetContexts);
        } else {
            self.set64(
                CCMD.offset,
                command.with_invalidate(false).with_done(Granularity::RESERVED).into_bits(),
            );
        }
    }

    /// IOTLB: upper half, whose IVT starts (11.4.6).
    fn command_translations(&mut self, upper: u32) {
        let offset = self.iotlb();
        self.set32(offset + 4, upper);
        let command = IotlbCommand::from_bits(self.get64(offset));
        if command.invalidate() && self.may_use_registers() {
            self.start(Chore::ForgetTranslations, Action::ForgetTranslations);
        } else {
            self.set64(offset, command.with_invalidate(false).with_done(Granularity::RESERVED).into_bits());
        }
    }

    /// Register-based invalidation is refused while the queue is on (6.5.1), and one command goes at a time.
    fn may_use_registers(&mut self) -> bool {
        if self.status.qies() {
            self.complain("register-based invalidation while the queue is on");
        }
        if self.root.mode() == TableMode::SCALABLE {
            self.complain("register-based invalidation in scalable mode");
        }
        if !self.commands.is_empty() {
            self.complain("an invalidation was commanded before the last command was done");
        }
        !self.status.qies() && self.root.mode() != TableMode::SCALABLE && self.commands.is_empty()
    }

    fn finish_contexts(&mut self, memory: &mut Memory) {
        let command = ContextCommand::from_bits(self.get64(CCMD.offset));
        let device = ForgetContexts::device(command.source(), command.function_mask());
        let what = queue::forget_contexts(command.request(), command.domain(), device);
        let done = if what.is_some() { command.request() } else { Granularity::RESERVED };
        if let Some(what) = what {
            self.forget_contexts_now(what, memory);
        }
        self.set64(CCMD.offset, command.with_invalidate(false).with_done(done).into_bits());
    }

    fn finish_translations(&mut self, memory: &mut Memory) {
        let offset = self.iotlb();
        let command = IotlbCommand::from_bits(self.get64(offset));
        let pages =
            InvalidateAddress::from_bits(self.get64(self.traits.extended.iotlb_offset() + IVA_FROM_IRO));
        let what = self.forget(command.request(), command.domain(), pages);
        let done = if what.is_some() { command.request() } else { Granularity::RESERVED };
        if let Some(what) = what {
            self.forget_now(what, memory);
        }
        self.set64(offset, command.with_invalidate(false).with_done(done).into_bits());
    }

    fn forget_pasids_now(&mut self, what: ForgetPasids, memory: &mut Memory) {
        memory.drain();
        self.caches.forget_pasids(what);
        self.events.push(Event::ForgotPasids);
    }

    /// All kinds of invalidation flush the write buffer on the way (6.8).
    fn forget_contexts_now(&mut self, what: ForgetContexts, memory: &mut Memory) {
        memory.drain();
        self.caches.forget_contexts(what);
        self.events.push(Event::ForgotContexts);
    }

    fn forget_now(&mut self, what: Forget, memory: &mut Memory) {
        memory.drain();
        self.caches.forget(what);
        self.events.push(Event::ForgotTranslations);
    }

    fn iotlb(&self) -> usize {
        self.traits.extended.iotlb_offset() + IOTLB_FROM_IRO
    }

    fn complain(&mut self, what: &'static str) {
        self.events.push(Event::Misused { what });
    }

    fn get32(&self, offset: usize) -> u32 {
        self.words[offset / 4]
    }

    fn set32(&mut self, offset: usize, value: u32) {
        self.words[offset / 4] = value;
    }

    fn get64(&self, offset: usize) -> u64 {
        u64::from(self.get32(offset)) | u64::from(self.get32(offset + 4)) << 32
    }

    fn set64(&mut self, offset: usize, value: u64) {
        self.set32(offset, value as u32);
        self.set32(offset + 4, (value >> 32) as u32);
    }
}

/// Whether the specification has this place as read only (11.4).
fn is_read_only(offset: usize) -> bool {
    [VER, CAP, ECAP, GSTS, IQH]
        .iter()
        .any(|register| register.offset == offset & !7 || register.offset == offset)
}
