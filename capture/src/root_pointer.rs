//! Finds ACPI's root pointer, which a kernel that was started by UEFI is often not told: where the loader says, in EFI's
//! configuration tables, or where a BIOS puts it.
//!
//! Each address is only a guess until the tables behind it were read. A wrong one leads to the next.

use core::fmt;

use machine::{PhysicalAddress, Range};

use crate::acpi::{AcpiError, Firmware, Tables};
use crate::platform::boot_params::BootParams;

/// Most entries of EFI's configuration tables that are looked at; firmware has some ten.
const MOST_EFI_TABLES: u64 = 128;
/// Most root pointers that are tried in the memory of a BIOS, which has one.
const MOST_IN_BIOS: usize = 4;

/// What names a root pointer, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `acpi_rsdp=`: what `holdover load` read, or what a user wants instead. Linux prefers it too.
    CommandLine,
    /// `acpi_rsdp_addr` of the boot parameters.
    BootParams,
    /// EFI's configuration tables, by the address that the loader copied: SETUP_EFI.
    SetupEfi,
    /// EFI's configuration tables, by the address in EFI's system table. It is a virtual one once a kernel has chosen
    /// virtual addresses for the firmware (UEFI specification 2.10, section 8.4).
    SystemTable,
    /// The memory of a BIOS (ACPI specification 6.5, section 5.2.5.1).
    Bios,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CommandLine => "command line",
            Self::BootParams => "boot parameters",
            Self::SetupEfi => "SETUP_EFI",
            Self::SystemTable => "EFI system table",
            Self::Bios => "BIOS",
        })
    }
}

/// Where a root pointer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What named it.
    pub source: Source,
    /// Its physical address.
    pub address: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {:#x}", self.source, self.address)
    }
}

/// Finds the root pointer, and the tables to which it leads. `named` is the address on the command line.
///
/// # Errors
///
/// Why the first address that was tried leads to no tables; [`AcpiError::NoPointer`] if there is no address. A lack of memory
/// ends the search: the next address would lead to other tables, or to none.
pub fn find(
    firmware: &mut impl Firmware,
    named: Option<u64>,
    params: &BootParams,
) -> Result<(Place, Tables), AcpiError> {
    let mut search = Search { firmware, failure: None };
    let found = search
        .at(Source::CommandLine, named)
        .or_else(|| search.at(Source::BootParams, params.rsdp()))
        .or_else(|| search.in_efi(params))
        .or_else(|| search.in_bios());
    found.ok_or(search.failure.unwrap_or(AcpiError::NoPointer))
}

/// A place that leads to tables.
type Found = (Place, Tables);

struct Search<'a, F> {
    firmware: &'a mut F,
    /// Why the first address leads to no tables, or that there is no memory for some.
    failure: Option<AcpiError>,
}

impl<F: Firmware> Search<'_, F> {
    /// Tries an address. Zero is none.
    fn at(&mut self, source: Source, address: Option<u64>) -> Option<Found> {
        let address = address.filter(|&address| address != 0)?;
        if matches!(self.failure, Some(AcpiError::OutOfMemory(_))) {
            return None;
        }
        match Tables::find(self.firmware, address) {
            Ok(tables) => Some((Place { source, address }, tables)),
            Err(failure) => {
                let lacks_memory = matches!(failure, AcpiError::OutOfMemory(_));
                self.failure = self.failure.filter(|_| !lacks_memory).or(Some(failure));
                None
            }
        }
    }

    /// Tries what EFI's configuration tables name.
    fn in_efi(&mut self, params: &BootParams) -> Option<Found> {
        let system = params.efi_system_table().and_then(|at| SystemTable::read(self.firmware, at));
        let count = system.as_ref().map_or(MOST_EFI_TABLES, |system| system.count.min(MOST_EFI_TABLES));
        self.in_configuration(Source::SetupEfi, params.efi_tables(), count)
            .or_else(|| self.in_configuration(Source::SystemTable, system.map(|system| system.tables), count))
    }

    /// Tries what `count` configuration tables at this address name. The newer GUID names the newer tables.
    fn in_configuration(&mut self, source: Source, tables: Option<u64>, count: u64) -> Option<Found> {
        let tables = tables?;
        [ACPI_20, ACPI_10].into_iter().find_map(|guid| {
            let named = configuration_table(self.firmware, tables, count, guid);
            self.at(source, named)
        })
    }

    /// Tries each root pointer in the memory of a BIOS: the first KiB of its data area, and its read-only memory.
    fn in_bios(&mut self) -> Option<Found> {
        const ROM: Range<PhysicalAddress> =
            Range::new(PhysicalAddress::new(0xE_0000), PhysicalAddress::new(0x10_0000));
        let mut left = MOST_IN_BIOS;
        data_area(self.firmware).into_iter().chain([ROM]).find_map(|area| self.in_area(area, &mut left))
    }

    fn in_area(&mut self, area: Range<PhysicalAddress>, left: &mut usize) -> Option<Found> {
        /// Root pointers begin at multiples of this.
        const STEP: usize = 16;
        (area.start.get()..area.end.get()).step_by(STEP).find_map(|address| {
            let mut signature = [0; 8];
            self.firmware.read(address, &mut signature).ok()?;
            if *left == 0 || signature != *b"RSD PTR " {
                return None;
            }
            *left -= 1;
            self.at(Source::Bios, Some(address))
        })
    }
}

/// The first KiB of the extended data area of a BIOS. The word at 0x40E has its segment, where there is a BIOS.
fn data_area(firmware: &mut impl Firmware) -> Option<Range<PhysicalAddress>> {
    const SEGMENT: u64 = 0x40E;
    const LOW_MEMORY: core::ops::Range<u64> = 0x500..0xA_0000;
    let mut segment = [0; 2];
    firmware.read(SEGMENT, &mut segment).ok()?;
    let start = u64::from(u16::from_le_bytes(segment)) << 4;
    LOW_MEMORY.contains(&start).then(|| Range::from(start..(start + 1024).min(LOW_MEMORY.end)))
}

// GUIDs of configuration tables (UEFI specification 2.10, section 4.6.1.1), as they are in memory (appendix A).
const ACPI_20: [u8; 16] =
    [0x71, 0xE8, 0x68, 0x88, 0xF1, 0xE4, 0xD3, 0x11, 0xBC, 0x22, 0x00, 0x80, 0xC7, 0x3C, 0x88, 0x81];
const ACPI_10: [u8; 16] =
    [0x30, 0x2D, 0x9D, 0xEB, 0x88, 0x2D, 0xD3, 0x11, 0x9A, 0x16, 0x00, 0x90, 0x27, 0x3F, 0xC1, 0x4D];

/// What EFI's system table says of the configuration tables (section 4.3).
struct SystemTable {
    count: u64,
    tables: u64,
}

impl SystemTable {
    fn read(firmware: &mut impl Firmware, address: u64) -> Option<Self> {
        const SIGNATURE: &[u8] = b"IBI SYST";
        const NUMBER_OF_TABLE_ENTRIES: usize = 104;
        const CONFIGURATION_TABLE: usize = 112;
        let mut table = [0; 120];
        firmware.read(address, &mut table).ok()?;
        let field = |offset: usize| table[offset..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let (count, tables) = (field(NUMBER_OF_TABLE_ENTRIES)?, field(CONFIGURATION_TABLE)?);
        table.starts_with(SIGNATURE).then_some(Self { count, tables })
    }
}

/// The address behind this GUID in `count` configuration tables (section 4.6).
fn configuration_table(firmware: &mut impl Firmware, tables: u64, count: u64, guid: [u8; 16]) -> Option<u64> {
    const SIZE: u64 = 24;
    (0..count).find_map(|index| {
        let mut entry = [0; SIZE as usize];
        firmware.read(tables.checked_add(index * SIZE)?, &mut entry).ok()?;
        let (name, address) = entry.split_first_chunk()?;
        let address = address.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        address.filter(|_| *name == guid)
    })
}

#[cfg(test)]
mod tests {
    use machine::Unreadable;

    use super::*;

    // Where things are.
    const SETUP_EFI: usize = 0x2000;
    const SYSTEM_TABLE: usize = 0x3000;
    const CONFIGURATION: usize = 0x4000;
    const POINTER: usize = 0x5004;
    const DATA_AREA: usize = 0x9_FC00;

    /// The first MiB, with `boot_params` at 0x1000.
    struct Memory(Vec<u8>);

    impl Firmware for Memory {
        fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), Unreadable> {
            self.copy(address, into).ok_or(Unreadable { address: address.into(), len: into.len() as u64 })
        }
    }

    impl Memory {
        /// All of it is given to this kernel, and nothing else is there.
        fn new() -> Self {
            let mut memory = Self(vec![0; 1 << 20]);
            memory.put(0x1000 + 0x1e8, &[1]);
            memory.put(0x1000 + 0x2d0, &[0, 1_u64 << 20].map(u64::to_le_bytes).concat());
            memory.put(0x1000 + 0x2e0, &[1]);
            memory
        }

        /// With EFI: its system table, and its configuration tables, which name the pointer by this GUID.
        fn with_efi(guid: [u8; 16]) -> Self {
            let mut memory = Self::new();
            memory.put(0x1000 + 0x1c0, b"EL64");
            memory.put(0x1000 + 0x1c4, &(SYSTEM_TABLE as u32).to_le_bytes());
            memory.put(SYSTEM_TABLE, b"IBI SYST");
            memory.put(SYSTEM_TABLE + 104, &[2]);
            memory.put(SYSTEM_TABLE + 112, &0xFFFF_FFFE_0000_4000_u64.to_le_bytes());
            memory.put(CONFIGURATION + 24, &guid);
            memory.put(CONFIGURATION + 40, &(POINTER as u64).to_le_bytes());
            memory.put_pointer(POINTER);
            memory
        }

        /// Also with the address of the configuration tables, in a list of set-up data.
        fn with_setup_efi(mut self) -> Self {
            self.put(0x1000 + 0x250, &(SETUP_EFI as u64 + 0x100).to_le_bytes());
            self.put(SETUP_EFI + 0x100, &(SETUP_EFI as u64).to_le_bytes());
            self.put(SETUP_EFI + 0x108, &[9, 0, 0, 0, 32]);
            self.put(SETUP_EFI + 8, &[4, 0, 0, 0, 96]);
            self.put(SETUP_EFI + 32, &(CONFIGURATION as u64).to_le_bytes());
            self
        }

        /// Writes a root pointer of revision 0, with an empty root table behind it.
        fn put_pointer(&mut self, at: usize) {
            self.put(at, b"RSD PTR ");
            self.put(at + 16, &(at as u32 + 0x100).to_le_bytes());
            let sum = self.0[at..at + 20].iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte));
            self.0[at + 8] = sum.wrapping_neg();
            self.put(at + 0x100, b"RSDT\x24");
        }

        fn put(&mut self, at: usize, bytes: &[u8]) {
            self.0[at..at + bytes.len()].copy_from_slice(bytes);
        }

        fn copy(&self, address: u64, into: &mut [u8]) -> Option<()> {
            into.copy_from_slice(self.0.get(usize::try_from(address).ok()?..)?.get(..into.len())?);
            Some(())
        }

        fn find(&mut self, named: Option<u64>) -> Result<Place, AcpiError> {
            let params = BootParams::copy(0x1000, |address, into| self.copy(address, into).is_some());
            find(self, named, &params).map(|(place, _)| place)
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is compared with results")]
    fn place(source: Source, address: usize) -> Result<Place, AcpiError> {
        Ok(Place { source, address: address as u64 })
    }

    #[test]
    fn without_an_address_the_copied_configuration_tables_of_efi_name_it() {
        for guid in [ACPI_20, ACPI_10] {
            let mut memory = Memory::with_efi(guid).with_setup_efi();
            assert_eq!(memory.find(None), place(Source::SetupEfi, POINTER));
        }
    }

    #[test]
    fn the_system_table_names_it_until_a_kernel_has_chosen_virtual_addresses() {
        let mut memory = Memory::with_efi(ACPI_20);
        assert_eq!(memory.find(None), Err(AcpiError::NoPointer));
        memory.put(SYSTEM_TABLE + 112, &(CONFIGURATION as u64).to_le_bytes());
        assert_eq!(memory.find(None), place(Source::SystemTable, POINTER));
        memory.put(0x1000 + 0x1c0, b"EL32");
        assert_eq!(memory.find(None), Err(AcpiError::NoPointer));
    }

    /// The system table only says how many there are.
    #[test]
    fn the_copied_address_is_used_without_a_system_table_too() {
        let mut memory = Memory::with_efi(ACPI_20).with_setup_efi();
        memory.put(SYSTEM_TABLE, b"nothing!");
        assert_eq!(memory.find(None), place(Source::SetupEfi, POINTER));
    }

    #[test]
    fn the_command_line_comes_first_and_each_wrong_address_leads_to_the_next() {
        let mut memory = Memory::with_efi(ACPI_20).with_setup_efi();
        memory.put(0x1000 + 0x70, &0x6000_u64.to_le_bytes());
        memory.put_pointer(0x6000);
        memory.put_pointer(0x7000);
        memory.put_pointer(0xF_5000);
        assert_eq!(memory.find(Some(0x7000)), place(Source::CommandLine, 0x7000));
        memory.0[0x7009] = 1;
        assert_eq!(memory.find(Some(0x7000)), place(Source::BootParams, 0x6000));
        memory.put(0x6104, &[0]);
        assert_eq!(memory.find(Some(0x7000)), place(Source::SetupEfi, POINTER));
        memory.put(POINTER, b"?");
        assert_eq!(memory.find(Some(u64::MAX)), place(Source::Bios, 0xF_5000));
    }

    #[test]
    fn a_bios_has_it_in_its_data_area_or_in_its_rom() {
        let mut memory = Memory::new();
        memory.put_pointer(0xE_0010);
        assert_eq!(memory.find(Some(0)), place(Source::Bios, 0xE_0010));
        memory.put(0x40E, &((DATA_AREA >> 4) as u16).to_le_bytes());
        memory.put_pointer(DATA_AREA + 0x3F0);
        assert_eq!(memory.find(None), place(Source::Bios, DATA_AREA + 0x3F0));
    }

    #[test]
    fn if_there_is_none_the_first_address_says_why() {
        let mut memory = Memory::new();
        assert_eq!(memory.find(None), Err(AcpiError::NoPointer));
        memory.put(0xF_5000, b"RSD PTR ?");
        assert_eq!(memory.find(Some(0x7000)), Err(AcpiError::NoRoot(0x7000)));
    }

    #[test]
    fn set_up_data_outside_of_our_memory_is_not_read() {
        let mut memory = Memory::with_efi(ACPI_20).with_setup_efi();
        memory.put(0x1000 + 0x2d0, &[0x2100, 1_u64 << 19].map(u64::to_le_bytes).concat());
        assert_eq!(memory.find(None), Err(AcpiError::NoPointer), "its second node is below");
    }

    proptest::proptest! {
        /// Addresses, rings and endless lists included.
        #[test]
        fn no_memory_makes_the_search_panic(noise: Vec<(u16, u64)>, named: Option<u32>) {
            let mut memory = Memory::with_efi(ACPI_20).with_setup_efi();
            for (at, word) in noise {
                memory.put(0x1000 + usize::from(at) % 0x4200, &(word % (1 << 20)).to_le_bytes());
            }
            let _ = memory.find(named.map(u64::from));
        }
    }

    #[test]
    fn a_ring_of_set_up_data_is_left() {
        let mut memory = Memory::with_efi(ACPI_20).with_setup_efi();
        memory.put(SETUP_EFI, &(SETUP_EFI as u64 + 0x100).to_le_bytes());
        memory.put(SETUP_EFI + 8, &[7]);
        assert_eq!(memory.find(None), Err(AcpiError::NoPointer));
    }
}
