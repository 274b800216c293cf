//! Turns a unit on as Linux does: device table, command buffer, logs, translation; then it flushes everything.

use super::OldKernel;
use crate::amdvi::scenario::{
    Cr3Addresses, ExcludedDevices, Exclusion, GuestTables, Lock, OldCommands, OldLog, Power, Stage,
    UnitScenario,
};
use crate::amdvi::unit::AmdViUnit;
use amdvi::command::{COMMAND_BYTES, Command, CompletionWait, PagesInvalidation};
use amdvi::control::{
    BufferBase, Control, DeviceTableBase, ExclusionBase, ExclusionLimit, InvalidationTimeout,
};
use amdvi::registers::{
    COMMAND_BUFFER, COMMAND_TAIL, CONTROL, DEVICE_TABLE, EVENT_LOG, EXCLUSION_BASE, EXCLUSION_LIMIT, GA_LOG,
    GA_LOG_TAIL_ADDRESS, PPR_LOG, device_table_segment,
};
use fastrand::Rng;
use machine::{PhysicalAddress, SourceId};

/// Linux's buffers have 512 entries, which fill two pages.
const LENGTH: u8 = 9;
const BUFFER_PAGES: u64 = 2;
/// A command that no unit executes.
const ILLEGAL: Command = Command([0xF << 60, 0]);

/// The old kernel's command buffer.
struct Buffer {
    start: PhysicalAddress,
    /// Where completion waits store.
    semaphore: PhysicalAddress,
    commands: u64,
}

impl OldKernel<'_> {
    /// Turns a unit on, then uses its command buffer.
    pub(crate) fn bring_up(&mut self, index: usize) -> AmdViUnit {
        let description = &self.scenario.units[index];
        let rng = Rng::with_seed(self.scenario.seed ^ 0x0717 ^ (index as u64) << 32);
        let mut unit = AmdViUnit::new(description, rng);
        self.set_device_table(&mut unit, index);
        let mut buffer = self.set_buffers(&mut unit);
        set_exclusion(&mut unit, description, &buffer);
        // Linux nests guest tables where the host tables translate all their addresses.
        let nests = description.cr3_addresses == Cr3Addresses::Guests
            && self.scenario.domains.iter().any(|domain| matches!(domain.stage, Stage::Nested(_)));
        unit.write64(CONTROL.offset, control(description).with_guest_cr3_address(nests).into_bits());
        self.let_finish(&mut unit);
        for function in self.scenario.functions_of(index) {
            unit.add_device(function.source);
            if let Some(manner) = function.device_tlb {
                unit.add_device_tlb(function.source, manner);
            }
        }
        self.flush(&mut unit, &mut buffer, index);
        self.leave(&mut unit, &mut buffer, description);
        unit.lock(description.lock);
        unit
    }

    fn set_device_table(&mut self, unit: &mut AmdViUnit, index: usize) {
        let size = (self.scenario.units[index].table_pages - 1) as u16;
        for (segment, table) in self.tables.devices[index].iter().enumerate() {
            let register = device_table_segment(segment).unwrap_or(DEVICE_TABLE);
            let base = DeviceTableBase::new().with_size(size).with_frame(table.pfn().get());
            unit.write64(register.offset, base.into_bits());
        }
    }

    /// Makes the command buffer and all logs.
    fn set_buffers(&mut self, unit: &mut AmdViUnit) -> Buffer {
        let start = self.pages(BUFFER_PAGES);
        let logs = [PPR_LOG, GA_LOG, EVENT_LOG].map(|register| (register, self.pages(BUFFER_PAGES)));
        for (register, pages) in logs.into_iter().chain([(COMMAND_BUFFER, start)]) {
            let base = BufferBase::new().with_length(LENGTH).with_frame(pages.pfn().get());
            unit.write64(register.offset, base.into_bits());
        }
        let tail = self.page();
        unit.write64(GA_LOG_TAIL_ADDRESS.offset, tail.get());
        Buffer { start, semaphore: self.page(), commands: 0 }
    }

    fn let_finish(&mut self, unit: &mut AmdViUnit) {
        for _ in 0..100 {
            unit.advance(&mut self.memory);
        }
    }

    /// Has the unit forget what it knows of each function, and waits.
    fn flush(&mut self, unit: &mut AmdViUnit, buffer: &mut Buffer, index: usize) {
        for function in self.scenario.functions_of(index) {
            let source = SourceId(function.source);
            self.submit(unit, buffer, Command::invalidate_device_table_entry(source));
        }
        for domain in &self.scenario.domains {
            self.submit(unit, buffer, PagesInvalidation::new().with_domain(domain.id).of_everything());
        }
        self.wait(unit, buffer);
        self.let_finish(unit);
    }

    /// Leaves command buffer and logs as the scenario says.
    fn leave(&mut self, unit: &mut AmdViUnit, buffer: &mut Buffer, description: &UnitScenario) {
        match description.commands {
            OldCommands::Off | OldCommands::Idle => (),
            OldCommands::Busy(waits) => (0..waits).for_each(|_| self.wait(unit, buffer)),
            OldCommands::Stopped => {
                self.submit(unit, buffer, ILLEGAL);
                self.wait(unit, buffer);
                self.let_finish(unit);
            }
        }
        if description.events == OldLog::Full {
            unit.fill_events(&mut self.memory);
        }
    }

    fn wait(&mut self, unit: &mut AmdViUnit, buffer: &mut Buffer) {
        let command = CompletionWait::new().storing(buffer.semaphore, buffer.commands);
        self.submit(unit, buffer, command);
    }

    /// Writes a command, and the new tail.
    fn submit(&mut self, unit: &mut AmdViUnit, buffer: &mut Buffer, command: Command) {
        let bytes = COMMAND_BYTES as u64;
        let slot = |number: u64| number % (1 << LENGTH) * bytes;
        self.write_words(buffer.start.saturating_add(slot(buffer.commands)), &command.0);
        buffer.commands += 1;
        unit.write64(COMMAND_TAIL.offset, slot(buffer.commands));
    }
}

/// Sets the exclusion range; where registers get locked, the range into which completion waits store.
fn set_exclusion(unit: &mut AmdViUnit, description: &UnitScenario, buffer: &Buffer) {
    let (range, enabled, all) = match (description.lock, description.exclusion) {
        (Lock::Locked, _) => (machine::Range::new(buffer.semaphore, buffer.semaphore), false, false),
        (Lock::Open, None) => return,
        (Lock::Open, Some(Exclusion { range, devices })) => (range, true, devices == ExcludedDevices::All),
    };
    let base = ExclusionBase::new().with_enabled(enabled).with_all(all).with_frame(range.start.pfn().get());
    let last = range.end.get().saturating_sub(1).max(range.start.get());
    let limit = ExclusionLimit::new().with_frame(PhysicalAddress::new(last).pfn().get());
    unit.write64(EXCLUSION_BASE.offset, base.into_bits());
    unit.write64(EXCLUSION_LIMIT.offset, limit.into_bits());
}

/// The control register of Linux: 0x3148f on a unit with guest translation and guest virtual APIC.
fn control(unit: &UnitScenario) -> Control {
    let feature = unit.traits.feature;
    let logs = unit.logs != OldLog::Off;
    Control::new()
        .with_enabled(unit.power == Power::On)
        .with_ht_tunnel(true)
        .with_event_log(unit.events != OldLog::Off)
        .with_event_interrupt(unit.events != OldLog::Off)
        .with_invalidation_timeout(InvalidationTimeout(unit.time_out))
        .with_coherent(true)
        .with_command_buffer(unit.commands != OldCommands::Off)
        .with_ppr(logs && feature.ppr())
        .with_ppr_log(logs && feature.ppr())
        .with_ppr_interrupt(logs && feature.ppr())
        .with_guest_translation(feature.gt() && unit.guest_tables == GuestTables::Used)
        .with_ga(feature.ga())
        .with_ga_log(logs && feature.ga())
        .with_ga_interrupt(logs && feature.ga())
        .with_device_table_segments(unit.segments)
        .with_xt(feature.xt())
        .with_xt_interrupt(feature.xt())
        .with_host_accessed_dirty(if feature.host_dirty() { 3 } else { 0 })
}
