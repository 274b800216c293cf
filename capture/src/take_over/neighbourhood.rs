//! Collects what the takeover of every unit must know of the rest of the machine: which memory belongs to whom, and
//! which I/O addresses must stay free.

use alloc::vec::Vec;
use core::iter;

use machine::growth::collected;
use machine::{IoAddress, OutOfMemory, PhysicalAddress, Range};
use takeover::{DeviceTlb, IdentityMap, SourceId, Surroundings, Takeover};

use crate::acpi::Tables;
use crate::discover::Machine;
use crate::listing::Listing;
use crate::other_memory;
use crate::platform::paging::physical_address_bits;
use crate::remapping::RemappingUnit;
use crate::units::source_of;
use handoff::Areas;
use pci::Device;

/// What takeovers of units leave for those of others.
pub(super) struct Legacy {
    /// The maps that were made in place of pass-through: units of the same format share them.
    maps: Vec<IdentityMap>,
    /// The dead kernel's memory that they use on.
    in_use: Vec<Range<PhysicalAddress>>,
}

impl Legacy {
    /// What these units left, where all units use this memory on whatever happens.
    pub(super) fn of(
        units: &[RemappingUnit],
        locked: &[Range<PhysicalAddress>],
    ) -> Result<Self, OutOfMemory> {
        let taken = || units.iter().filter_map(RemappingUnit::taken_over);
        let maps = collected(taken().flat_map(Takeover::identity_maps).copied())?;
        let others = taken().flat_map(Takeover::in_use).filter(|memory| !locked.contains(memory));
        Ok(Self { maps, in_use: collected(locked.iter().chain(others).copied())? })
    }
}

/// The machine around its units.
pub(super) struct Neighbourhood {
    /// Physical address bits of the machine.
    pub(super) host_address_bits: u32,
    /// The machine's RAM.
    memory: Vec<Range<PhysicalAddress>>,
    /// What else devices may reach.
    other_memory: Vec<Range<PhysicalAddress>>,
    /// The parts of RAM that are ours.
    own: Vec<Range<PhysicalAddress>>,
    /// I/O addresses that no driver may get.
    kept_free: Vec<Range<IoAddress>>,
    /// The disks that will be tried first, and their aliases.
    wanted: Vec<SourceId>,
}

impl Neighbourhood {
    /// Collects this from the machine and the firmware's table.
    pub(super) fn of(
        machine: &Machine,
        tables: &Tables,
        listing: &Listing<'_>,
        areas: Areas,
    ) -> Result<Self, OutOfMemory> {
        // Linux lends some memory to the crash kernel (crashkernel=…,cma), and lists it nowhere else.
        let ram = machine.old.ranges().iter().chain(&machine.own).copied();
        let ram = ram.chain(machine.params.acpi()).chain(machine.params.usable());
        let host_address_bits = listing.host_address_bits().max(physical_address_bits());
        let limit = 1u64.checked_shl(host_address_bits).unwrap_or(u64::MAX);
        let others = other_memory::ranges(tables, limit.into());
        Ok(Self {
            host_address_bits,
            memory: collected(ram)?,
            other_memory: collected(others)?,
            own: collected(machine.own.iter().chain(&machine.loaded).copied())?,
            kept_free: kept_free(listing, machine)?,
            wanted: wanted(machine, areas)?,
        })
    }

    /// The same in the form that a takeover needs; `device_tlbs` says which devices cache translations, and `legacy` is of the units
    /// before.
    pub(super) fn surroundings<'a>(
        &'a self,
        device_tlbs: &'a [DeviceTlb],
        legacy: &'a Legacy,
    ) -> Surroundings<'a> {
        let Self { host_address_bits, memory, other_memory, own, kept_free, wanted } = self;
        let (host_address_bits, Legacy { maps, in_use }) = (*host_address_bits, legacy);
        Surroundings {
            host_address_bits,
            memory,
            other_memory,
            own,
            kept_free,
            in_use,
            device_tlbs,
            wanted,
            maps,
        }
    }
}

/// The source-ids of the requests of the areas' disks.
fn wanted(machine: &Machine, areas: Areas) -> Result<Vec<SourceId>, OutOfMemory> {
    let disks = areas.iter().filter_map(|area| area.disk);
    let disks = disks.map(|disk| pci::vmd::requester(&machine.devices, disk));
    let with_aliases = disks.flat_map(|disk| iter::once(disk).chain(pci::aliases(&machine.devices, disk)));
    collected(with_aliases.map(source_of))
}

/// The I/O addresses equal to these physical addresses, which PCI claims or firmware maps to themselves.
fn same_io_addresses(range: Range<PhysicalAddress>) -> Range<IoAddress> {
    Range::from(range.start.get()..range.end.get())
}

/// I/O addresses that no driver may get: reserved memory regions, ranges that firmware keeps, and ranges that PCI claims on
/// the way to memory.
///
/// The host bridge's windows, which only ACPI's interpreted tables name, are between the end of low memory and 4 GiB.
fn kept_free(listing: &Listing<'_>, machine: &Machine) -> Result<Vec<Range<IoAddress>>, OutOfMemory> {
    const FOUR_GIB: PhysicalAddress = PhysicalAddress::new(4 << 30);
    let windows = machine.devices.iter().filter_map(Device::bridge).flat_map(|bridge| bridge.windows);
    let claimed = machine.devices.iter().flat_map(Device::claimed);
    let memory = machine.old.ranges().iter().chain(&machine.own);
    let low_end = memory.map(|range| range.end).filter(|&end| end <= FOUR_GIB).max().unwrap_or_default();
    let hole = same_io_addresses(Range::new(low_end, FOUR_GIB));
    let firmware = machine.params.kept_by_firmware().map(same_io_addresses);
    let all = listing.reserved().chain(firmware).chain(windows).chain(claimed).chain([hole]);
    collected(all.filter(|range| !range.is_empty()))
}
