//! Lists the requesters that root and context tables name (3.4).

use core::ops::RangeInclusive;

use machine::{ENTRIES, OldMemory, Requester, SourceId};
use vtd::context::{ContextEntry, ScalableContextEntry};
use vtd::control::TableMode;
use vtd::root::ContextTablePointer;

use super::Unit;
use super::binding::of_context;
use super::pasids::Device;
use crate::Obstacle;
use crate::budget::{Budget, Spent};
use crate::subject::{Subject, Visit};

impl<M: OldMemory> Unit<'_, M> {
    /// Reports every requester that has an entry, by source-id and PASID, and every place where entries cannot be
    /// read or make requests fault.
    pub(crate) fn each_requester(&self, budget: &mut Budget, visit: &mut Visit<'_>) -> Result<(), Spent> {
        budget.take()?;
        let step = match self.registers.root.mode() {
            TableMode::LEGACY => 2,
            TableMode::SCALABLE => 1,
            other => {
                visit(Subject::ALL, Err(Obstacle::Mode(other)));
                return Ok(());
            }
        };
        let root = match self.tables.table(self.registers.root.address()) {
            Ok(root) => root,
            Err(obstacle) => {
                visit(Subject::ALL, Err(obstacle));
                return Ok(());
            }
        };
        for word in (0..ENTRIES).step_by(step) {
            // A word of the root table covers half a bus; in legacy mode every other word covers a whole bus.
            let first = SourceId((word * 128) as u16);
            let last = SourceId(first.0 | if step == 2 { 0xFF } else { 0x7F });
            let reserved = if step == 2 { root[word | 1] } else { 0 };
            self.each_of_table(
                ContextTablePointer::from_bits(root[word]),
                reserved,
                first..=last,
                budget,
                visit,
            )?;
        }
        Ok(())
    }

    /// Reports the devices of one context table.
    fn each_of_table(
        &self,
        pointer: ContextTablePointer,
        reserved: u64,
        sources: RangeInclusive<SourceId>,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        if !pointer.present() {
            return Ok(());
        }
        if pointer.reserved_bits(self.host_address_bits()) != 0 || reserved != 0 {
            visit(Subject::devices(&sources), Err(Obstacle::ReservedBits));
            return Ok(());
        }
        budget.take()?;
        let table = match self.tables.table(pointer.address()) {
            Ok(table) => table,
            Err(obstacle) => {
                visit(Subject::devices(&sources), Err(obstacle));
                return Ok(());
            }
        };
        match self.registers.root.mode() {
            TableMode::LEGACY => self.each_legacy(&table, *sources.start(), visit),
            _ => return self.each_scalable(&table, *sources.start(), budget, visit),
        }
        Ok(())
    }

    fn each_legacy(&self, table: &machine::Table, first: SourceId, visit: &mut Visit<'_>) {
        for (source, &[low, high]) in (first.0..=u16::MAX).zip(table.as_chunks().0) {
            let entry = ContextEntry::from_words(low, high);
            if entry.low.present() {
                let requester = Requester { source: SourceId(source), pasid: None };
                visit(Subject::Requester(requester), of_context(entry, self));
            }
        }
    }

    fn each_scalable(
        &self,
        table: &machine::Table,
        first: SourceId,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        for (source, words) in (first.0..=u16::MAX).zip(table.as_chunks().0) {
            let context = ScalableContextEntry::from_words(*words);
            if !context.low.present() {
                continue;
            }
            let device = Device { source: SourceId(source), context };
            if context.reserved_bits(self.host_address_bits()) == [0; 4] {
                self.each_pasid(&device, budget, visit)?;
            } else {
                visit(device.without_pasid(), Err(Obstacle::ReservedBits));
            }
        }
        Ok(())
    }
}
