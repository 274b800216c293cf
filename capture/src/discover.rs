//! Discovers what the dead kernel left, and which hardware the machine has.

use alloc::vec::Vec;

use handoff::Options;
use machine::growth::{OutOfMemory, collected};
use machine::{PAGE_SIZE, PhysicalAddress, Position, Range, Unreadable};
use vmcore::{CoreHeader, HeaderError, Ram};

use crate::acpi::{self, AcpiError, Firmware};
use crate::boot::{self, Booted};
use crate::hand_over;
use crate::platform::boot_params::BootParams;
use crate::platform::config::{Config, ConfigPorts};
use crate::platform::entry::Image;
use crate::platform::frames::FramePool;
use crate::platform::free_parts::for_each_free_part;
use crate::platform::heap::Pages;
use crate::platform::memory::{Mapped, OldRam, Pieces, pages_around};
use crate::platform::mmio::Mmio;
use crate::platform::paging::{Access, AddressSpace, Features, MapError};
use crate::platform::{clock, copy, reset};
use crate::root_pointer::{self, Place};
use crate::vmds;
use handoff::Share;
use pci::{CONFIG_SIZE, Device, Ecam, VirtualFunction};

/// Bytes that are mapped to read the core header: more than the longest header needs.
const CORE_HEADER: u64 = 1 << 20;

/// The machine as the dead kernel left it.
pub(crate) struct Machine {
    /// The page tables in use.
    pub(crate) space: AddressSpace,
    /// Our own memory.
    pub(crate) own: Pieces,
    /// Bytes of it that this kernel works with: all, unless some is left to a fallback kernel.
    pub(crate) working: u64,
    /// Pages of it below 4 GiB that are kept for device tables, where the reservation is above.
    pub(crate) low: Option<Pages>,
    /// The ranges that the loader filled in the reservation: the core header, and copies of the dead kernel's memory.
    pub(crate) loaded: Vec<Range<PhysicalAddress>>,
    /// What the boot loader handed over.
    pub(crate) params: &'static BootParams,
    /// The dead kernel's memory.
    pub(crate) old: OldRam,
    /// The loader's description of the dead kernel.
    pub(crate) header: CoreHeader,
    /// Where ACPI's root pointer is, or why there are no tables.
    pub(crate) root_pointer: Result<Place, AcpiError>,
    /// The firmware's tables; empty if there are none.
    pub(crate) tables: acpi::Tables,
    /// Every PCI function that answers for itself.
    pub(crate) devices: Vec<Device<Config>>,
    /// Functions that look absent. They have no drivers here, but may keep translations.
    pub(crate) virtual_functions: Vec<VirtualFunction>,
}

/// Why there is nothing to capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DiscoverError {
    /// No kernel has crashed.
    #[error("no elfcorehdr= on the command line: this is no crash kernel")]
    NotACrash,
    /// The list of the dead kernel's memory cannot be used.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// There is not enough memory for page tables.
    #[error("own page tables: {0}")]
    PageTables(#[from] MapError),
    /// There is no memory for a list of what the loader put into the reservation.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Finds the dead kernel's memory and the machine's devices.
///
/// Firmware tables that are missing or damaged are no error here: each costs what it describes.
pub(crate) fn discover(booted: Booted, options: &Options) -> Result<Machine, DiscoverError> {
    let Booted { params, own, working, low, space: first } = booted;
    let header = read_core_header(first, &own, options.elfcorehdr.ok_or(DiscoverError::NotACrash)?)?;
    let (mut space, old) = final_tables(&own, working, &header)?;
    map_core_header(&mut space, &own, &header);
    let (root_pointer, tables) = find_tables(&mut space, &own, options, params);
    if let Ok(place) = &root_pointer {
        hand_over::know_root_pointer(place.address);
    }
    clock::calibrate(tables.pm_timer());
    if let Some(register) = tables.reset_register() {
        reset::use_acpi(&mut space, register);
    }
    let (devices, virtual_functions) = find_devices(&mut space, &tables);
    let loaded = loaded(&header, &own)?;
    Ok(Machine {
        space,
        own,
        working,
        low,
        loaded,
        params,
        old,
        header,
        root_pointer,
        tables,
        devices,
        virtual_functions,
    })
}

impl Machine {
    /// How much memory was reserved for this kernel, in bytes.
    pub(crate) fn reserved(&self) -> u64 {
        self.own.iter().map(|range| range.len()).sum()
    }

    /// Whether there can be memory at some of these addresses.
    pub(crate) fn may_be_memory(&self, range: Range<PhysicalAddress>) -> bool {
        let firmware = self.params.usable().chain(self.params.acpi());
        let mut memory = firmware.chain(self.old.ranges().iter().copied()).chain(self.own.iter().copied());
        memory.any(|memory| memory.overlaps(range))
    }
}

/// The ranges that the loader filled in the crash region, in whole pages: the core header, and copies of the first 640 KiB
/// of the dead kernel's memory.
fn loaded(
    header: &CoreHeader,
    own: &[Range<PhysicalAddress>],
) -> Result<Vec<Range<PhysicalAddress>>, OutOfMemory> {
    let copies = header.segments().iter().filter(|segment| segment.stored_at != segment.physical.start.get());
    let copies = copies.filter_map(|segment| Range::sized(segment.stored_at.into(), segment.physical.len()));
    let place = header.place();
    let place = Range::from(place.start..place.end);
    let filled = collected(copies.chain([place]).map(pages_around))?;
    let ours = collected(own.iter().chain(&filled).copied())?;
    collected(filled.into_iter().map(|range| with_padding(range, &ours)))
}

/// A loaded range, extended to the start of our next range: loaders set more aside than they fill.
fn with_padding(loaded: Range<PhysicalAddress>, ours: &[Range<PhysicalAddress>]) -> Range<PhysicalAddress> {
    const MOST: u64 = 1 << 20;
    let next = ours.iter().map(|range| range.start).filter(|start| *start >= loaded.end).min();
    let end = next.filter(|next| next.count_since(loaded.end) < MOST).unwrap_or(loaded.end);
    Range::new(loaded.start, end)
}

fn read_core_header(
    mut space: AddressSpace,
    own: &[Range<PhysicalAddress>],
    address: u64,
) -> Result<CoreHeader, DiscoverError> {
    map_foreign(&mut space, own, Range::from(address..address.saturating_add(CORE_HEADER)));
    Ok(CoreHeader::read(&Mapped, address)?)
}

/// Maps the core header in the final tables too: a fallback kernel gets a copy. No more is mapped than was to read it, whatever the
/// header says of its length, and nothing behind it, which may be registers.
fn map_core_header(space: &mut AddressSpace, own: &[Range<PhysicalAddress>], header: &CoreHeader) {
    let Range { start, end } = header.place();
    map_foreign(space, own, Range::from(start..end.min(start.saturating_add(CORE_HEADER))));
}

/// Maps read-only the parts of `range` that are not our own. If a part cannot be mapped, reading it fails later.
fn map_foreign(space: &mut AddressSpace, own: &[Range<PhysicalAddress>], range: Range<PhysicalAddress>) {
    for_each_free_part(range, own, &mut |part| {
        let _ = space.map(part, Access::ReadOnly);
    });
}

/// The final tables: they map the dead kernel's memory too.
fn final_tables(own: &Pieces, working: u64, header: &CoreHeader) -> Result<(AddressSpace, OldRam), MapError> {
    let features = Features::of_this_processor();
    let frames = FramePool::new(tables_needed(working, header.ram(), features)).ok_or(MapError::NoFrame)?;
    let image = Image::running();
    #[expect(clippy::disallowed_methods, reason = "the list has its memory in itself")]
    let free: Pieces = own.iter().copied().filter(|piece| !piece.overlaps(image.whole())).collect();
    let mut space = boot::own_tables(frames, &image, &free)?;
    let old = OldRam::map(&mut space, header.ram().ranges(), own);
    // SAFETY: it maps the image and the heap, as the first tables did.
    unsafe { space.activate() };
    Ok((space, old))
}

/// Frames that the tables need: for our own memory and for registers, for the ends of each range of RAM at each level, and
/// for the middle of each range if pages are no larger than the span of one table. Only a false memory map asks for more
/// than the tables' share; in that case a part of the dead kernel's memory is not mapped.
fn tables_needed(working: u64, ram: &Ram, features: Features) -> usize {
    // The largest machines have some forty remapping units, each in a corner of its own.
    const OWN_AND_REGISTERS: usize = 192;
    let ranges = ram.ranges().count();
    let gibibytes = ram.ranges().map(|range| range.len() >> 30).sum::<u64>() as usize;
    let middle = if features.largest < 3 { gibibytes } else { gibibytes >> 9 };
    let most = Share::PAGE_TABLES.of(working) / PAGE_SIZE;
    (OWN_AND_REGISTERS + ranges * 6 + middle).min(most as usize)
}

/// The firmware's memory, mapped as it is read.
struct Mapping<'a> {
    space: &'a mut AddressSpace,
    own: &'a [Range<PhysicalAddress>],
}

impl Firmware for Mapping<'_> {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        let range = Range::sized(address.into(), into.len() as u64);
        let range = range.ok_or(Unreadable { address: address.into(), len: into.len() as u64 })?;
        map_foreign(self.space, self.own, range);
        copy::read_physical(address.into(), into)
    }
}

/// Where the root pointer is, and the firmware's tables. What could not be found is told apart from what is not there.
fn find_tables(
    space: &mut AddressSpace,
    own: &[Range<PhysicalAddress>],
    options: &Options,
    params: &BootParams,
) -> (Result<Place, AcpiError>, acpi::Tables) {
    let mut firmware = Mapping { space, own };
    match root_pointer::find(&mut firmware, options.acpi_rsdp, params) {
        Ok((place, tables)) => (Ok(place), tables),
        Err(error) => (Err(error), acpi::Tables::all_hidden(error)),
    }
}

/// What a scan of the PCI buses finds: functions that answer for themselves, and virtual ones.
type FoundDevices = (Vec<Device<Config>>, Vec<VirtualFunction>);

/// All PCI functions: those in mapped configuration space, or if there is none, those that the ports show.
fn find_devices(space: &mut AddressSpace, tables: &acpi::Tables) -> FoundDevices {
    let mut found = FoundDevices::default();
    tables.ecams().for_each(|ecam| find_mapped_devices(space, ecam, &mut found));
    let (devices, _) = &mut found;
    if devices.is_empty() && ConfigPorts::are_present() {
        let config = |function| ConfigPorts::of(function).map(Config::Ports);
        pci::scan(0, 0..=u8::MAX, config, devices);
    }
    vmds::find_behind(space, devices);
    found
}

fn find_mapped_devices(space: &mut AddressSpace, ecam: Ecam, found: &mut FoundDevices) {
    let Ok(all) = Mmio::map(space, ecam.range()) else { return };
    let config = |function| all.part(ecam.offset_of(function)?, CONFIG_SIZE).map(Config::Mapped);
    let (devices, virtual_functions) = found;
    let known = devices.len();
    pci::scan(ecam.segment.into(), ecam.buses(), config, devices);
    pci::virtual_functions(&devices[known..], config, virtual_functions);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_tables_take_what_the_machine_needs_and_no_more_than_their_share() {
        let tables = |gibibytes: u64, largest| {
            let ram = Ram::from_ranges([Range::from(0..gibibytes << 30)].into_iter()).unwrap();
            tables_needed(16 << 20, &ram, Features { levels: 4, largest, limit: 1 << 46 })
        };
        assert_eq!((tables(1, 3), tables(512, 3), tables(512, 2)), (198, 199, 710));
        assert_eq!((tables(1 << 16, 2), tables(1 << 22, 3)), (1024, 1024));
    }

    #[test]
    fn padding_behind_what_was_loaded_belongs_to_it() {
        let loaded = Range::from(0x5000..0x6000);
        let own = [Range::from(0x1000..0x5000), Range::from(0x9000..0xA000)];
        assert_eq!(with_padding(loaded, &own), Range::from(0x5000..0x9000));
        assert_eq!(with_padding(loaded, &own[..1]), loaded);
        assert_eq!(with_padding(loaded, &[Range::from(0x1000_0000..0x2000_0000)]), loaded, "far away");
    }
}
