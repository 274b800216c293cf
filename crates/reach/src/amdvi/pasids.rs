//! Lists the PASIDs that a guest's CR3 table names (2.2.6.3).

use amdvi::device_table::{Cr3Entry, DeviceTableEntry};
use machine::{ENTRIES, IoAddress, OldMemory, PhysicalAddress, Requester, SourceId};

use super::Unit;
use crate::budget::{Budget, Spent};
use crate::stage::Root;
use crate::subject::{Subject, Visit};
use crate::{Binding, FirstStage, Obstacle, Privilege, Route, Stages};

/// Most PASIDs: they have 20 bits.
const PASIDS: usize = 1 << 20;

/// A device with guest tables.
struct Device {
    source: SourceId,
    /// The level of the guest tables' roots, or what is in the way.
    top: Result<machine::Level, Obstacle>,
    /// What its requests have in common: the domain, the host tables, and the rights.
    host: Binding,
    /// Whether its requests without PASID go through the tables of PASID 0 (GIoV).
    without_pasid: bool,
}

/// A table of the CR3 table's tree.
#[derive(Clone, Copy)]
struct Node {
    /// Physical, or a guest address.
    address: PhysicalAddress,
    /// Levels below, this one included: 1 to 4.
    levels: u32,
    /// The first PASID that it is for.
    first: usize,
}

impl Device {
    fn requester(&self, pasid: usize) -> Requester {
        let without = pasid == 0 && self.without_pasid;
        Requester { source: self.source, pasid: (!without).then_some(pasid as u32) }
    }

    /// Its PASIDs from this one on.
    fn subject(&self, pasid: usize) -> Subject {
        Subject::Pasids(Requester { source: self.source, pasid: Some(pasid as u32) })
    }

    /// What an entry of the last level gives to the requests of a PASID. The exclusion range is for those without one.
    fn binding<M>(
        &self,
        unit: &Unit<'_, M>,
        pasid: Option<u32>,
        entry: Cr3Entry,
    ) -> Result<Binding, Obstacle> {
        let top = self.top?;
        let first = |address| FirstStage { root: Root { address, top }, privilege: Privilege::User };
        let stages = match self.host.route.stages {
            Stages::Second(second) => Stages::Nested { first: first(entry.table()), second },
            _ => Stages::First(first(unit.address(entry.table())?)),
        };
        let excluded = self.host.route.excluded && pasid.is_none();
        Ok(Binding { route: Route { stages, excluded, ..self.host.route }, ..self.host })
    }
}

impl<M: OldMemory> Unit<'_, M> {
    /// Reports a device's requests without PASID, unless they go through the tables of PASID 0, and those with each PASID.
    pub(super) fn each_pasid(
        &self,
        source: SourceId,
        entry: DeviceTableEntry,
        host: Binding,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        let mode = entry.interrupts.guest_mode();
        let most = self.registers.features.guest_levels();
        let top = mode.top().filter(|top| most.is_some_and(|most| *top <= most));
        let without_pasid = entry.host.guest_without_pasid();
        let device = Device { source, top: top.ok_or(Obstacle::Width(mode.0)), host, without_pasid };
        let levels = entry.host.cr3_levels();
        let too_many = (levels > self.registers.features.glx()).then_some(Obstacle::Width(levels));
        if !without_pasid {
            // An entry that the unit does not understand is malformed for all requests of its device.
            let malformed = too_many.or(device.top.err());
            visit(Subject::Requester(Requester { source, pasid: None }), malformed.map_or(Ok(host), Err));
        }
        if let Some(obstacle) = too_many {
            visit(device.subject(0), Err(obstacle));
            return Ok(());
        }
        let levels = u32::from(levels) + 1;
        self.each_of_cr3(&device, Node { address: entry.cr3_table(), levels, first: 0 }, budget, visit)
    }

    /// Reports the PASIDs of a table and of those below it; goes down by one level each time, whatever entries say.
    fn each_of_cr3(
        &self,
        device: &Device,
        node: Node,
        budget: &mut Budget,
        visit: &mut Visit<'_>,
    ) -> Result<(), Spent> {
        budget.take()?;
        let table = match self.cr3_page(device, node.address, budget)? {
            Ok(table) => table,
            Err(obstacle) => {
                visit(device.subject(node.first), Err(obstacle));
                return Ok(());
            }
        };
        let below = node.levels - 1;
        let step = ENTRIES.pow(below);
        for (index, word) in table.iter().enumerate() {
            let (entry, first) = (Cr3Entry::from_bits(*word), node.first + index * step);
            if !entry.valid() || first >= PASIDS {
                continue;
            }
            if *word & Cr3Entry::RESERVED != 0 {
                let faults = if below == 0 {
                    Subject::Requester(device.requester(first))
                } else {
                    device.subject(first)
                };
                visit(faults, Err(Obstacle::ReservedBits));
            } else if below == 0 {
                let requester = device.requester(first);
                visit(Subject::Requester(requester), device.binding(self, requester.pasid, entry));
            } else {
                let node = Node { address: entry.table(), levels: below, first };
                self.each_of_cr3(device, node, budget, visit)?;
            }
        }
        Ok(())
    }

    /// Reads a table of the tree. Host tables translate its address if there are any and the unit is told so (GCR3TRPMode);
    /// otherwise it is physical (2.2.6.3).
    fn cr3_page(
        &self,
        device: &Device,
        address: PhysicalAddress,
        budget: &mut Budget,
    ) -> Result<Result<machine::Table, Obstacle>, Spent> {
        let address = match device.host.route.stages {
            Stages::Second(second) if self.registers.control.guest_cr3_address() => {
                self.tables.host_page(second, IoAddress::new(address.get()), budget)?
            }
            _ => self.address(address),
        };
        Ok(address.and_then(|address| self.tables.table(address)))
    }
}
