//! A remapping unit: registers that behave as on hardware, caches, an invalidation queue, fault records.
//!
//! Time passes in steps ([`VtdUnit::advance`]); a command takes effect at once only if chance or the unit's
//! [`Habits`] say so. The unit executes what software must not do but can, and reports a misuse.

mod caches;
mod commands;
mod device_tlb;
mod faults;
mod lookup;
mod queue;
mod translate;

use crate::habits::{Chore, Countdown, Habits};
use crate::memory::Memory;
use crate::trace::Event;
use crate::unit::Width;
use crate::vtd::walk::{Traits, Walker};
use caches::{Caches, Forget, ForgetContexts, ForgetPasids};
use commands::Command;
use device_tlb::DeviceTlbs;
use fastrand::Rng;
use queue::Queue;
use std::collections::BTreeMap;
use vtd::control::{GlobalCommand, GlobalStatus, RootTableAddress};
use vtd::registers::{CAP, CCMD, ECAP, FIXED, FSTS, GCMD, GSTS, ICS, IOTLB_FROM_IRO, IQA, IQH, VER};

/// Bytes of the register block: the fixed registers, and those whose place the capability registers give.
const BLOCK: usize = 4096;

/// The device that did not answer the old kernel.
const OLD_DEVICE: u16 = 0x0AA0;

/// A remapping unit.
#[derive(Debug)]
pub(crate) struct VtdUnit {
    traits: Traits,
    /// The values of registers, except for those that are computed.
    words: Vec<u32>,
    status: GlobalStatus,
    /// The root table in force: RTADDR as it was at the last GCMD.SRTP.
    root: RootTableAddress,
    commands: Vec<Command>,
    queue: Queue,
    caches: Caches,
    device_tlbs: DeviceTlbs,
    next_record: usize,
    habits: Habits,
    /// How often each register was read since the panic.
    reads: BTreeMap<usize, u64>,
    /// How often the capture kernel read or wrote registers.
    accesses: u64,
    /// Steps since the panic.
    steps: u64,
    /// Whether others wrote registers: then the state of the queue is no fault of the capture kernel's.
    was_intruded: bool,
    rng: Rng,
    events: Vec<Event>,
}

impl VtdUnit {
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
            device_tlbs: DeviceTlbs::default(),
            next_record: 0,
            habits,
            reads: BTreeMap::new(),
            accesses: 0,
            steps: 0,
            was_intruded: false,
            rng,
            events: Vec::new(),
        };
        unit.set32(VER.offset, 0x10);
        unit.set64(CAP.offset, traits.capability.into_bits());
        unit.set64(ECAP.offset, traits.extended.into_bits());
        unit
    }

    /// The root table in force.
    pub(crate) fn root(&self) -> RootTableAddress {
        self.root
    }

    pub(crate) fn traits(&self) -> &Traits {
        &self.traits
    }

    /// Whether translation is on.
    pub(crate) fn translates(&self) -> bool {
        self.status.tes()
    }

    /// A view of the tables in force.
    pub(crate) fn walker<'a>(&'a self, memory: &'a Memory) -> Walker<'a> {
        self.walker_at(self.root, memory)
    }

    /// A view of the tables below another root.
    pub(crate) fn walker_at<'a>(&'a self, root: RootTableAddress, memory: &'a Memory) -> Walker<'a> {
        Walker { memory, traits: &self.traits, root }
    }

    /// What happened since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Marks the old kernel as dead: from now on the unit has these habits, and its commands are checked.
    pub(crate) fn die_with(&mut self, habits: Habits) {
        self.habits = habits;
        self.steps = 0;
        self.events.clear();
    }

    /// Lets one step's time pass.
    pub(crate) fn advance(&mut self, memory: &mut Memory) {
        self.steps += 1;
        if self.habits.times_out(self.steps) {
            self.give_up_on(OLD_DEVICE);
        }
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

    /// Lets others write registers just before an access of the capture kernel.
    pub(crate) fn before_access(&mut self) {
        for intrusion in self.habits.intrusions(self.accesses) {
            self.was_intruded = true;
            self.write32(intrusion.register, intrusion.value);
        }
        self.accesses += 1;
    }

    /// Reads a register of 32 or 64 bits as the capture kernel sees it, which may be junk.
    pub(crate) fn look(&mut self, offset: usize, width: Width) -> u64 {
        let low = u64::from(self.read32(offset));
        let value = match width {
            Width::Bits32 => low,
            Width::Bits64 => low | u64::from(self.read32(offset + 4)) << 32,
        };
        let reads = self.reads.entry(offset).or_default();
        *reads += 1;
        self.habits.seen(offset, *reads - 1, value)
    }

    /// Whether the unit loses the capture kernel's writes to a register.
    pub(crate) fn is_deaf_to(&self, offset: usize) -> bool {
        self.habits.loses(offset)
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

    /// Writes a 32-bit register, or half of a 64-bit one; the upper half starts what the register starts.
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

    /// Writes a 64-bit register, the lower half first.
    pub(crate) fn write64(&mut self, offset: usize, value: u64) {
        self.write32(offset, value as u32);
        self.write32(offset + 4, (value >> 32) as u32);
    }

    /// A register that just holds what is written.
    fn store(&mut self, offset: usize, value: u32) {
        if self.status.qies() && (offset == IQA.offset || offset == IQA.offset + 4) {
            self.complain("the queue was moved while it was on");
        }
        self.set32(offset, value);
    }

    fn countdown(&mut self, chore: Chore) -> Countdown {
        self.habits.countdown(chore, &mut self.rng)
    }

    fn forget_pasids_now(&mut self, what: ForgetPasids, memory: &mut Memory) {
        memory.drain();
        self.caches.forget_pasids(what);
        self.events.push(Event::ForgotPasids);
    }

    /// Invalidates contexts. All kinds of invalidation also flush the write buffer (6.8).
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

/// The specification's name of the register at `offset`.
pub(crate) fn name(offset: usize) -> &'static str {
    FIXED.iter().find(|register| register.offset == offset).map_or("(floating)", |register| register.name)
}

/// Whether the register at this offset is read only (11.4).
fn is_read_only(offset: usize) -> bool {
    [VER, CAP, ECAP, GSTS, IQH]
        .iter()
        .any(|register| register.offset == offset & !7 || register.offset == offset)
}
