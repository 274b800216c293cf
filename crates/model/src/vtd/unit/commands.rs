//! Commands through registers: the global command (11.4.4), and invalidation while no queue is on (11.4.6).

use super::caches::{Caches, ForgetContexts};
use super::{Countdown, VtdUnit, queue};
use crate::habits::Chore;
use crate::memory::Memory;
use crate::trace::Event;
use vtd::control::{
    ContextCommand, GlobalCommand, GlobalStatus, Granularity, InvalidateAddress, IotlbCommand,
    RootTableAddress, TableMode,
};
use vtd::fault::FaultStatus;
use vtd::registers::{CCMD, IOTLB_FROM_IRO, IQH, IQT, IVA_FROM_IRO, RTADDR};

/// A command under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    pub(super) action: Action,
    pub(super) left: Countdown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    TakeRoot,
    FlushWriteBuffer,
    /// Sets the status bits of the first to those of the second.
    Switch(u32, u32),
    ForgetContexts,
    ForgetTranslations,
}

impl VtdUnit {
    /// Starts a global command (11.4.4): each write makes exactly one change, and only after the last command is
    /// done.
    pub(super) fn command(&mut self, value: GlobalCommand) {
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

    /// Reports a misuse when a command turns off what no takeover may turn off, or switches a queue that is not
    /// ready.
    fn check_switches(&mut self, changed: GlobalCommand, value: GlobalCommand) {
        if changed.te() && !value.te() {
            self.complain("translation was turned off");
        }
        if changed.ire() || changed.sirtp() {
            self.complain("interrupt remapping was changed");
        }
        if changed.qie() && !self.was_intruded {
            self.check_queue_switch(value.qie());
        }
    }

    /// The queue is turned on when its tail is zero, and off when it is empty and done, or has stopped.
    fn check_queue_switch(&mut self, on: bool) {
        let (head, tail) = (self.get64(IQH.offset), self.get64(IQT.offset));
        let stopped = self.fault_status() & FaultStatus::QUEUE_STOPS.into_bits() != 0;
        if on && tail != 0 {
            self.complain("the queue was turned on with a tail that is not zero");
        }
        if !on && !stopped && tail != head {
            self.complain("the queue was turned off before it was empty");
        }
        if !on && !stopped && self.is_busy() {
            self.complain("the queue was turned off before its last request was done");
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

    pub(super) fn complete(&mut self, action: Action, memory: &mut Memory) {
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

    /// CCMD: handles the upper half, whose ICC starts the command (11.4.6).
    pub(super) fn command_contexts(&mut self, upper: u32) {
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

    /// IOTLB: handles the upper half, whose IVT starts the command (11.4.6).
    pub(super) fn command_translations(&mut self, upper: u32) {
        let offset = self.iotlb();
        self.set32(offset + 4, upper);
        let command = IotlbCommand::from_bits(self.get64(offset));
        if command.invalidate() && self.may_use_registers() {
            self.start(Chore::ForgetTranslations, Action::ForgetTranslations);
        } else {
            self.set64(offset, command.with_invalidate(false).with_done(Granularity::RESERVED).into_bits());
        }
    }

    /// Refuses register-based invalidation while the queue is on (6.5.1) or a command is pending.
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

    fn iotlb(&self) -> usize {
        self.traits.extended.iotlb_offset() + IOTLB_FROM_IRO
    }
}
