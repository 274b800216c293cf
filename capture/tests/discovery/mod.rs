//! A machine made by hand, and what the capture kernel's library part finds of it before the takeover.

use capture::acpi::{Firmware, RegisterPlace, ResetRegister, Tables};
use capture::platform::boot_params::BootParams;
use capture::root_pointer;
use capture::units::{Serves, device_tlb, unit_of};
use fixtures::ConfigSpace;
use handoff::Options;
use machine::growth::{collected, push};
use machine::{OldMemory, Unreadable};
use pci::{Device, Function};
use vmcore::CoreHeader;
use vtd::dmar::Dmar;

use crate::NoDump;

// Where things are in memory.
const BOOT_PARAMS: u64 = 0;
const COMMAND_LINE: u64 = 0x1000;
const RSDP: u64 = 0x1100;
const XSDT: u64 = 0x1200;
const MCFG: u64 = 0x1300;
const FADT: u64 = 0x1400;
const DMAR: u64 = 0x1600;
const CORE_HEADER: u64 = 0x2000;
const END: u64 = 0x3000;

/// Devices 0 to 15 of bus 0: endpoints with ATS. The first half is named by a unit.
const ENDPOINTS: u8 = 16;
const NAMED: u8 = ENDPOINTS / 2;
/// The device of bus 0 that is a bridge, which the same unit names, and the bus behind it.
const BRIDGE: u8 = 0x1C;
const BEHIND: u8 = 5;

/// What lies in the memory, and which PCI functions there are.
pub(crate) struct Machine {
    memory: fixtures::Memory,
    functions: Vec<(Function, ConfigSpace)>,
}

/// What is known of the machine before any of it is changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Ranges of RAM and places of notes in the core header.
    ranges: [usize; 2],
    /// The I/O ports that reset the machine and tell the time.
    ports: [Option<u16>; 2],
    functions: usize,
    device_tlbs: usize,
    /// The units of a function that is named, of one that is not, and of the one behind the bridge.
    units: [Option<usize>; 3],
    /// In whose name the requests of the function behind the bridge come.
    alias: Option<Function>,
}

impl Found {
    /// What is found where nothing lacks memory.
    pub(crate) fn everything() -> Self {
        Self {
            ranges: [6, 2],
            ports: [Some(0xCF9), Some(0x608)],
            functions: usize::from(ENDPOINTS) + 2,
            device_tlbs: usize::from(ENDPOINTS),
            units: [Some(0), Some(1), Some(0)],
            alias: Some(function(0, BRIDGE)),
        }
    }
}

/// Reads what the boot loader, the firmware and the dead kernel's loader wrote, and looks for devices and units, in the order of
/// the capture kernel.
pub(crate) fn discover(machine: &Machine) -> Result<Found, NoDump> {
    let Machine { memory, functions } = machine;
    let params = BootParams::copy(BOOT_PARAMS, |address, into| memory.read(address.into(), into).is_ok());
    let options = Options::parse(params.command_line());
    let header = CoreHeader::read(memory, options.elfcorehdr.unwrap())?;
    let tables = root_pointer::find(&mut Rom(memory), options.acpi_rsdp, &params)?.1;
    let open = |at| functions.iter().find(|(function, _)| *function == at).map(|(_, config)| config.clone());
    let mut devices = Vec::new();
    tables.ecams().for_each(|ecam| pci::scan(ecam.segment.into(), ecam.buses(), open, &mut devices));
    let serves = served(&tables, &devices)?;
    let unit_of = |function| unit_of(&serves.iter(), function);
    let behind = function(BEHIND, 0);
    Ok(Found {
        ranges: [header.segments().len(), header.notes().len()],
        ports: [tables.reset_register().and_then(port), tables.pm_timer()],
        functions: devices.len(),
        device_tlbs: collected(devices.iter().map(device_tlb).filter(|tlb| tlb.enabled))?.len(),
        units: [function(0, NAMED - 1), function(0, NAMED), behind].map(unit_of),
        alias: pci::aliases(&devices, behind).last(),
    })
}

fn port(register: ResetRegister) -> Option<u16> {
    match register.place {
        RegisterPlace::Port(port) => Some(port),
        RegisterPlace::Memory(_) | RegisterPlace::Configuration { .. } => None,
    }
}

/// Whose requests each unit translates; a table that there was no memory for lists none.
fn served(tables: &Tables, devices: &[Device<ConfigSpace>]) -> Result<Vec<Serves>, NoDump> {
    let mut served = Vec::new();
    let Some(table) = &tables.dmar else { return Ok(served) };
    for drhd in Dmar::parse(table.bytes())?.units() {
        push(&mut served, Serves::new(&drhd, devices)?)?;
    }
    Ok(served)
}

/// The memory, as that of the firmware.
struct Rom<'a>(&'a fixtures::Memory);

impl Firmware for Rom<'_> {
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), Unreadable> {
        self.0.read(address.into(), into)
    }
}

fn function(bus: u8, device: u8) -> Function {
    Function { segment: 0, bus, devfn: device << 3 }
}

impl Machine {
    pub(crate) fn new() -> Self {
        let mut memory = fixtures::Memory::new(END);
        put_boot_params(&mut memory);
        put_core_header(&mut memory);
        put_root_pointer(&mut memory);
        put_table(&mut memory, XSDT, *b"XSDT", [MCFG, FADT, DMAR].map(u64::to_le_bytes).as_flattened());
        let buses = [&[0; 8][..], &0xB000_0000_u64.to_le_bytes(), &[0, 0, 0, BEHIND, 0, 0, 0, 0]].concat();
        put_table(&mut memory, MCFG, *b"MCFG", &buses);
        put_table(&mut memory, FADT, *b"FACP", &fadt());
        put_table(&mut memory, DMAR, *b"DMAR", &dmar());
        Self { memory, functions: functions() }
    }
}

/// The functions and their configuration spaces.
fn functions() -> Vec<(Function, ConfigSpace)> {
    let vendor: (usize, &[u8]) = (0, &[0x86, 0x80]);
    let ats: (usize, &[u8]) = (0x100, &[0x0F, 0, 0x01, 0, 0x24, 0, 0, 0x80]);
    let bridge: [(usize, &[u8]); 2] = [(0x0E, &[1]), (0x19, &[BEHIND, BEHIND])];
    let endpoints = (0..ENDPOINTS).map(|device| (function(0, device), ConfigSpace::new(&[vendor, ats])));
    let others = [
        (function(0, BRIDGE), ConfigSpace::new(&[&[vendor][..], &bridge].concat())),
        (function(BEHIND, 0), ConfigSpace::new(&[vendor])),
    ];
    endpoints.chain(others).collect()
}

/// Offsets: Documentation/arch/x86/zero-page.rst.
fn put_boot_params(memory: &mut fixtures::Memory) {
    memory.write_u64(BOOT_PARAMS + 0x070, RSDP);
    memory.write(BOOT_PARAMS + 0x228, &(COMMAND_LINE as u32).to_le_bytes());
    let words = "holdover.area=01234567-89ab-cdef-0123-456789abcdef@1M holdover.disk=0000:00:04.0 \
                 holdover.level=31 holdover.codec=lzo console=ttyS0,115200";
    memory.write(COMMAND_LINE, format!("elfcorehdr={CORE_HEADER:#x} {words}").as_bytes());
}

/// An `Elf64_Ehdr` with two places of notes and six ranges of RAM (System V ABI, chapters 4 and 5).
fn put_core_header(memory: &mut fixtures::Memory) {
    const NOTE: u64 = 4;
    const LOAD: u64 = 1;
    let program_header =
        |kind, index: u64| [kind, index << 20, 0, index << 20, 0x1000, 0x1000, 0].map(u64::to_le_bytes);
    let notes = (1..3).map(|index| program_header(NOTE, index));
    let ram = (3..9).map(|index| program_header(LOAD, index));
    let program_headers: Vec<_> = notes.chain(ram).collect();
    let count = program_headers.len() as u64;
    let header = [0x0001_0102_464C_457F, 0, 0x0000_0001_003E_0004, 0, 0x40, 0, 0x0038_0040_0000_0000, count];
    memory.write(CORE_HEADER, header.map(u64::to_le_bytes).as_flattened());
    memory.write(CORE_HEADER + 0x40, program_headers.as_flattened().as_flattened());
}

/// A root pointer of revision 2 (ACPI specification 6.5, section 5.2.5.3).
fn put_root_pointer(memory: &mut fixtures::Memory) {
    let mut pointer = [0; 36];
    pointer[..8].copy_from_slice(b"RSD PTR ");
    pointer[15] = 2;
    pointer[20] = 36;
    pointer[24..32].copy_from_slice(&XSDT.to_le_bytes());
    pointer[8] = checksum(&pointer[..20]);
    pointer[32] = checksum(&pointer);
    memory.write(RSDP, &pointer);
}

/// A table with this body (section 5.2.6).
fn put_table(memory: &mut fixtures::Memory, address: u64, signature: [u8; 4], body: &[u8]) {
    let mut table = [&signature[..], &[0; 32], body].concat();
    let length = table.len() as u32;
    table[4..8].copy_from_slice(&length.to_le_bytes());
    table[9] = checksum(&table);
    memory.write(address, &table);
}

/// The byte that makes the sum of all zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_sub(*byte))
}

/// A FADT's body, with PM_TMR_BLK and RESET_REG (section 5.2.9).
fn fadt() -> [u8; 208] {
    let mut body = [0; 208];
    for (offset, field) in [(76, &[8, 6][..]), (112, &[0, 4]), (116, &[1]), (120, &[0xF9, 0xC])] {
        body[offset - 36..][..field.len()].copy_from_slice(field);
    }
    body
}

/// A DMAR's body (VT-d specification, chapter 8): a unit that names functions, and a unit that takes the rest.
fn dmar() -> Vec<u8> {
    let endpoints = (0..NAMED).map(|device| [1, 8, 0, 0, 0, 0, device, 0]);
    let scopes: Vec<_> = endpoints.chain([[2, 8, 0, 0, 0, 0, BRIDGE, 0]]).collect();
    let drhd = |flags, scopes: &[u8]| {
        [&[0, 0, 16 + scopes.len() as u8, 0, flags, 0, 0, 0], &0xFED9_0000_u64.to_le_bytes()[..], scopes]
            .concat()
    };
    [&[38, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &drhd(0, scopes.as_flattened()), &drhd(1, &[])].concat()
}
