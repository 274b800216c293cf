//! Lists the requesters that root and context tables name (3.4).

use machine::{ENTRIES, OldMemory, Requester, SourceId};
use vtd::context::{ContextEntry, ScalableContextEntry};
use vtd::control::TableMode;
use vtd::root::ContextTablePointer;

use crate::binding::of_context;
use crate::budget::{Budget, Spent};
use crate::pasids::Device;
use crate::subject::{Subject, Visit};
use crate::{Obstacle, Tables};

impl<M: OldMemory> Tables<'_, M> {
    /// Reports every requester that has an entry, by source-id and PASID, and every place where entries cannot be
    /// read or make requests fault.
    pub fn each_requester(&self, budget: &mut Budget, visit: &mut Visit<'_>) -> Result<(), Spent> {
        budget.take()?;
        let step = match self.unit.root.mode() {
            TableMode::LEGACY => 2,
            TableMode::SCALABLE => 1,
            other => {
                visit(Subject::Unit, Err(Obstacle::Mode(other)));
                return Ok(());
            }
        };
        let root = match self.table(self.unit.root.address()) {
            Ok(root) => root,
            Err(obstacle) => {
                visit(Subject::Unit, Err(obstacle));
                return Ok(());
            }
        };
        for word in (0..ENTRIES).step_by(step) {
            // A word of the root table covers half a bus; in legacy mode every other word covers a whole bus.
            let first = SourceId((word * 128) as u16);
            let reserved = if step == 2 { root[word | 1] } else { 0 };
            self.each_of_table(ContextTablePointer::from_bits(root[word]), reserved, first, budget, visit)?;
        }
        Ok(())
    }

    /// Reports the devices of one context table.
    fn each_of_table(
        &self,
        pointer: ContextTablePointer,
        reserved: u64,
        first: SourceId,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        if !pointer.present() {
            return Ok(());
        }
        if pointer.reserved_bits(self.unit.host_address_bits) != 0 || reserved != 0 {
            visit(Subject::Bus(first), Err(Obstacle::ReservedBits));
            return Ok(());
        }
        budget.take()?;
        let table = match self.table(pointer.address()) {
            Ok(table) => table,
            Err(obstacle) => {
                visit(Subject::Bus(first), Err(obstacle));
                return Ok(());
            }
        };
        match self.unit.root.mode() {
            TableMode::LEGACY => self.each_legacy(&table, first, visit),
            _ => return self.each_scalable(&table, first, budget, visit),
        }
        Ok(())
    }

    fn each_legacy(&self, table: &machine::Table, first: SourceId, visit: &mut Visit<'_>) {
        for (source, &[low, high]) in (first.0..=u16::MAX).zip(table.as_chunks().0) {
            let entry = ContextEntry::from_words(low, high);
            if entry.low.present() {
                let requester = Requester { source: SourceId(source), pasid: None };
                visit(Subject::Requester(requester), of_context(entry, self.unit));
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
            if context.reserved_bits(self.unit.host_address_bits) == [0; 4] {
                self.each_pasid(&device, budget, visit)?;
            } else {
                visit(device.without_pasid(), Err(Obstacle::ReservedBits));
            }
        }
        Ok(())
    }
}
