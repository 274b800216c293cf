//! Reads device table entries: the domain, the host tables and the rights that they give to a device (2.2.2.1).

use amdvi::device_table::DeviceTableEntry;
use machine::PhysicalAddress;
use vtd::address_reserved;

use super::Unit;
use crate::stage::Root;
use crate::{Binding, Obstacle, Rights, Route, Stages};

impl<M> Unit<'_, M> {
    /// What a valid entry says of requests that no guest tables translate; `None` if nothing passes. Where the exclusion range is
    /// for the device, that passes.
    pub(super) fn host(&self, entry: DeviceTableEntry) -> Result<Option<Binding>, Obstacle> {
        let host = entry.host;
        let [first, second, ..] = entry.reserved_bits();
        if first != 0 || second != 0 {
            return Err(Obstacle::ReservedBits);
        }
        let rights = Rights { read: host.read(), write: host.write(), user: true };
        let blocks = !host.translation_valid() || rights.is_none();
        let excluded = self.registers.excludes(entry);
        if blocks && !excluded {
            return Ok(None);
        }
        let stages = if blocks { Stages::Blocked } else { self.host_stages(entry)? };
        let route = Route { stages, rights, excluded };
        Ok(Some(Binding { domain: entry.guest.domain(), device_tlb: entry.guest.device_tlb(), route }))
    }

    fn host_stages(&self, entry: DeviceTableEntry) -> Result<Stages, Obstacle> {
        let mode = entry.host.mode();
        let Some(top) = mode.top() else {
            return if mode.0 == 0 { Ok(Stages::PassThrough) } else { Err(Obstacle::Width(mode.0)) };
        };
        if self.registers.features.host_levels().is_some_and(|most| top > most) {
            return Err(Obstacle::Width(mode.0));
        }
        self.address(entry.table()).map(|address| Stages::Second(Root { address, top }))
    }

    /// An address that an entry names, if the machine has that many bits.
    pub(super) fn address(&self, address: PhysicalAddress) -> Result<PhysicalAddress, Obstacle> {
        if address.get() & address_reserved(self.host_address_bits()) == 0 {
            Ok(address)
        } else {
            Err(Obstacle::ReservedBits)
        }
    }
}
