//! Lists the requesters that root and context tables name (3.4).

use machine::{ENTRIES, OldMemory, Requester, SourceId};
use vtd::context::{ContextEntry, ScalableContextEntry};
use vtd::control::TableMode;
use vtd::root::ContextTablePointer;

use crate::binding::of_context;
use crate::budget::{Budget, Spent};
use crate::pasids::Device;
use crate::subject::{Subject, Visit};
use crate::{Obstacle, Tables, UnitSetup, VtdSetup};

impl<M: OldMemory> Tables<'_, M> {
    /// Reports every requester that has an entry, by source-id and PASID, and every place where entries cannot be
    /// read or make requests fault.
    pub fn each_requester(&self, budget: &mut Budget, visit: &mut Visit<'_>) -> Result<(), Spent> {
        match &self.unit {
            UnitSetup::Vtd(unit) => self.each_of_root(unit, budget, visit),
            UnitSetup::AmdVi(unit) => self.each_of_device_table(unit, budget, visit),
        }
    }

    fn each_of_root(&self, unit: &VtdSetup, budget: &mut Budget, visit: &mut Visit<'_>) -> Result<(), Spent> {
        budget.take()?;
        let step = match unit.root.mode() {
            TableMode::LEGACY => 2,
            TableMode::SCALABLE => 1,
            other => {
                visit(Subject::Unit, Err(Obstacle::Mode(other)));
                return Ok(());
            }
        };
        let root = match self.table(unit.root.address()) {
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
            let pointer = ContextTablePointer::from_bits(root[word]);
            self.each_of_table(unit, (pointer, reserved), first, budget, visit)?;
        }
        Ok(())
    }

    /// Reports the devices of one context table.
    fn each_of_table(
        &self,
        unit: &VtdSetup,
        (pointer, reserved): (ContextTablePointer, u64),
        first: SourceId,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        if !pointer.present() {
            return Ok(());
        }
        if pointer.reserved_bits(unit.host_address_bits) != 0 || reserved != 0 {
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
        match unit.root.mode() {
            TableMode::LEGACY => each_legacy(unit, &table, first, visit),
            _ => return self.each_scalable(unit, &table, first, budget, visit),
        }
        Ok(())
    }

    fn each_scalable(
        &self,
        unit: &VtdSetup,
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
            let device = Device { source: SourceId(source), context, unit: *unit };
            if context.reserved_bits(unit.host_address_bits) == [0; 4] {
                self.each_pasid(&device, budget, visit)?;
            } else {
                visit(device.without_pasid(), Err(Obstacle::ReservedBits));
            }
        }
        Ok(())
    }
}

fn each_legacy(unit: &VtdSetup, table: &machine::Table, first: SourceId, visit: &mut Visit<'_>) {
    for (source, &[low, high]) in (first.0..=u16::MAX).zip(table.as_chunks().0) {
        let entry = ContextEntry::from_words(low, high);
        if entry.low.present() {
            let requester = Requester { source: SourceId(source), pasid: None };
            visit(Subject::Requester(requester), of_context(entry, *unit));
        }
    }
}
