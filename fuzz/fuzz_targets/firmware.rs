//! What the capture kernel gets when it starts: `boot_params`, the command line, set-up data, EFI's tables and ACPI's. The fuzzer's
//! bytes are the memory that contains them.

#![no_main]

use capture::acpi::Firmware;
use capture::platform::boot_params::BootParams;
use capture::root_pointer;
use handoff::Options;
use holdover_fuzz::Memory;
use libfuzzer_sys::fuzz_target;
use machine::{OldMemory, Unreadable};
use vtd::dmar::Dmar;

/// Most entries of the memory map that are read (`E820_MAX_ENTRIES_ZEROPAGE`).
const MAP_ENTRIES: usize = 128;

struct Rom<'a>(Memory<'a>);

impl Firmware for Rom<'_> {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        self.0.read(address.into(), into)
    }
}

fuzz_target!(|bytes: &[u8]| {
    let memory = Memory::new(bytes);
    let params = BootParams::copy(0, |address, into| memory.read(address.into(), into).is_ok());
    assert!(params.command_line().len() <= bytes.len());
    let options = Options::parse(params.command_line());
    assert_eq!(Options::parse(&options.to_string()), options);
    assert!(params.usable().count() <= MAP_ENTRIES);
    let Ok((_, tables)) = root_pointer::find(&mut Rom(memory), options.acpi_rsdp, &params) else { return };
    assert!(capture::other_memory::ranges(&tables, (1 << 46).into()).all(|range| !range.is_empty()));
    assert!(tables.ecams().all(|group| group.range().len() == group.buses().count() as u64 * (1 << 20)));
    let _ = (tables.reset_register(), tables.pm_timer());
    let dmar = tables.dmar.as_ref().map(|table| Dmar::parse(table.bytes()));
    let _ = dmar.map(|dmar| dmar.map(|dmar| dmar.units().count()));
});
