//! Turns a unit on as a kernel does: root table, queue, interrupt remapping, translation.

use super::OldKernel;
use crate::habits::Habits;
use crate::vtd::scenario::{OldQueue, UnitScenario};
use crate::vtd::unit::VtdUnit;
use fastrand::Rng;
use vtd::control::{GlobalCommand, GlobalStatus, Granularity, RootTableAddress, TableMode};
use vtd::fault::FaultStatus;
use vtd::queue::{ContextCacheInvalidation, Descriptor, QueueAddress, Wait};
use vtd::registers::{GCMD, GSTS, IQA, IQT, RTADDR};

/// The status of a wait of Linux before and after it is done (`QI_IN_USE`, `QI_DONE`).
const PENDING: u64 = 1;
const DONE: u32 = 2;

impl OldKernel<'_> {
    /// Turns a unit on, then uses its queue.
    pub(crate) fn bring_up(&mut self, index: usize) -> VtdUnit {
        let description = &self.scenario.units[index];
        let rng = Rng::with_seed(self.scenario.seed ^ 0x0717 ^ (index as u64) << 32);
        let mut unit = VtdUnit::new(description.traits, Habits::default(), rng);
        let root = RootTableAddress::new()
            .with_frame(self.tables.roots[index].get() >> 12)
            .with_mode(description.mode)
            .into_bits();
        write64(&mut unit, RTADDR.offset, root);
        self.command(&mut unit, |command| command.with_srtp(true));
        self.start_queue(&mut unit, description);
        self.command(&mut unit, |command| command.with_sirtp(true));
        self.command(&mut unit, |command| command.with_ire(true));
        self.command(&mut unit, |command| command.with_te(true));
        for function in self.scenario.functions_of(index) {
            if let Some(manner) = function.device_tlb {
                unit.add_device_tlb(function.source, manner);
            }
        }
        unit
    }

    fn command(&mut self, unit: &mut VtdUnit, change: impl FnOnce(GlobalCommand) -> GlobalCommand) {
        let keep = GlobalStatus::from_bits(unit.read32(GSTS.offset)).keep();
        unit.write32(GCMD.offset, change(keep).into_bits());
        self.let_finish(unit);
    }

    fn let_finish(&mut self, unit: &mut VtdUnit) {
        for _ in 0..100 {
            unit.advance(&mut self.memory);
        }
    }

    /// Turns the queue on, lets it do some work, and leaves it as the scenario says.
    fn start_queue(&mut self, unit: &mut VtdUnit, description: &UnitScenario) {
        if description.queue == OldQueue::Off {
            return;
        }
        let (queue, status) = (self.page(), self.page());
        let wide = description.mode == TableMode::SCALABLE;
        let address = QueueAddress::new().with_frame(queue.get() >> 12).with_wide(wide);
        let step = address.descriptor_bytes();
        write64(unit, IQA.offset, address.into_bits());
        self.command(unit, |command| command.with_qie(true));
        let done = self.rng.u64(0..20);
        let forget = ContextCacheInvalidation::new().with_granularity(Granularity::GLOBAL);
        self.submit(address, 0..done, forget.into());
        write64(unit, IQT.offset, done * step);
        self.let_finish(unit);
        let left = match description.queue {
            OldQueue::Off | OldQueue::Idle => return,
            OldQueue::Garbled => return unit.fail_queue(FaultStatus::new().with_ice(true)),
            OldQueue::Busy(waits) => u64::from(waits),
            OldQueue::Stopped => 1,
            OldQueue::TimedOut(waits) => {
                unit.fail_queue(FaultStatus::new().with_ite(true));
                u64::from(waits)
            }
        };
        let wait = Wait::new().with_write(true).with_data(DONE).reporting_to(status);
        self.memory.write(status, PENDING);
        let stopper = Descriptor([u64::MAX, 0, 0, 0]);
        let last = if description.queue == OldQueue::Stopped { stopper } else { wait };
        self.submit(address, done..done + left, last);
        write64(unit, IQT.offset, (done + left) * step);
    }

    fn submit(&mut self, queue: QueueAddress, slots: std::ops::Range<u64>, descriptor: Descriptor) {
        let step = queue.descriptor_bytes();
        for slot in slots {
            let first = queue.address().saturating_add(slot * step);
            for (offset, word) in (0..step).step_by(8).zip(descriptor.0) {
                self.memory.write(first.saturating_add(offset), word);
            }
        }
    }
}

fn write64(unit: &mut VtdUnit, offset: usize, value: u64) {
    unit.write32(offset, value as u32);
    unit.write32(offset + 4, (value >> 32) as u32);
}
