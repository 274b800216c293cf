//! ACPI's static tables: where the IOMMUs are (DMAR, IVRS), where PCI's configuration space is (MCFG), how to reset and
//! which timer there is (FADT), which watchdog (WDAT), and where the baseboard management controller is (SPMI).
//!
//! The firmware wrote these tables, but the dead kernel could have overwritten them, so every value is checked before
//! it is used. A wrong checksum alone does not make this kernel discard a table: some firmware gets checksums wrong,
//! and Linux also goes on. (ACPI specification 6.5, chapter 5.)

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use machine::Unreadable;
use machine::growth::filled;
use pci::Ecam;

/// Bytes in the header of every table (section 5.2.6).
const HEADER: usize = 36;
/// Longest table that is accepted, in bytes.
const LONGEST: usize = 1 << 20;
/// Most entries of a root table that are read.
const MOST_TABLES: usize = 256;
/// Most groups of buses that are searched; large machines have some tens.
const MOST_ECAMS: usize = 256;

/// Gives access to the physical memory that the firmware filled.
pub trait Firmware {
    /// Copies memory from `address` into `into`.
    fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), Unreadable>;
}

/// Why there are no ACPI tables, or not all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcpiError {
    /// Neither the boot loader nor the command line says where the root pointer is.
    #[error("no address of the ACPI root pointer")]
    NoPointer,
    /// Memory of the tables could not be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The root pointer's signature or checksum is wrong.
    #[error("no ACPI root pointer at {0:#x}")]
    NoRoot(u64),
    /// A table's length is impossible.
    #[error("the ACPI table at {0:#x} has an impossible length")]
    Length(u64),
    /// There is no memory for a copy of the table.
    #[error("no memory for the ACPI table at {0:#x}")]
    OutOfMemory(u64),
    /// The root table lists more tables than are read.
    #[error("more than {MOST_TABLES} ACPI tables")]
    TooMany,
}

/// Copies of the tables that the capture kernel needs.
#[derive(Debug, Default)]
pub struct Tables {
    /// DMA remapping reporting.
    pub dmar: Option<Table>,
    /// Memory-mapped configuration space.
    pub mcfg: Option<Table>,
    /// Fixed ACPI description.
    pub fadt: Option<Table>,
    /// The IOMMUs of AMD's machines (I/O virtualization reporting structure).
    pub ivrs: Option<Table>,
    /// System resource affinity: which memory there is, or may be added.
    pub srat: Option<Table>,
    /// CXL early discovery.
    pub cedt: Option<Table>,
    /// NVDIMMs.
    pub nfit: Option<Table>,
    /// Why there may be a DMAR or an IVRS that was not found; `None` if all tables were looked at.
    pub hidden: Option<AcpiError>,
    /// Watchdog actions.
    pub wdat: Option<Table>,
    /// Where the baseboard management controller is.
    pub spmi: Option<Table>,
}

/// The register that resets the machine (section 4.8.3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetRegister {
    /// Where it is.
    pub place: RegisterPlace,
    /// The value that resets.
    pub value: u8,
}

/// The place of a register of one byte (section 5.2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterPlace {
    /// An I/O port.
    Port(u16),
    /// A physical address.
    Memory(u64),
    /// A byte of the configuration space of a function on bus 0 of segment group 0.
    Configuration {
        /// The function's device number, below 32.
        device: u8,
        /// Its function number, below 8.
        function: u8,
        /// The byte.
        offset: u8,
    },
}

/// A copy of one table.
#[derive(Debug)]
pub struct Table {
    bytes: Vec<u8>,
}

impl Tables {
    /// Finds the tables from ACPI's root pointer at `rsdp`. A table that cannot be read counts as absent; `hidden` says if
    /// it may be one of those that list IOMMUs.
    pub fn find(firmware: &mut impl Firmware, rsdp: u64) -> Result<Self, AcpiError> {
        let mut tables = Self::default();
        let (listed, is_whole) = listed_tables(firmware, rsdp)?;
        for address in listed {
            tables.take(firmware, address);
        }
        if !is_whole {
            tables.hidden.get_or_insert(AcpiError::TooMany);
        }
        Ok(tables)
    }

    /// No tables, though there may be some.
    pub fn all_hidden(error: AcpiError) -> Self {
        Self { hidden: Some(error), ..Self::default() }
    }

    /// Reads the table at `address` if it is one of those that are needed; of two with one signature the first counts.
    fn take(&mut self, firmware: &mut impl Firmware, address: u64) {
        let mut signature = [0; 4];
        if let Err(unreadable) = firmware.read(address, &mut signature) {
            self.hidden.get_or_insert(unreadable.into());
            return;
        }
        let place = match &signature {
            b"DMAR" => &mut self.dmar,
            b"IVRS" => &mut self.ivrs,
            b"MCFG" => &mut self.mcfg,
            b"FACP" => &mut self.fadt,
            b"WDAT" => &mut self.wdat,
            b"SPMI" => &mut self.spmi,
            b"SRAT" => &mut self.srat,
            b"CEDT" => &mut self.cedt,
            b"NFIT" => &mut self.nfit,
            _ => return,
        };
        match Table::read(firmware, address) {
            Ok(table) => _ = place.get_or_insert(table),
            Err(error) if matches!(&signature, b"DMAR" | b"IVRS") => _ = self.hidden.get_or_insert(error),
            Err(_) => {}
        }
    }

    /// The groups of buses that MCFG lists. If several groups share a bus, only the first counts.
    pub fn ecams(&self) -> impl Iterator<Item = Ecam> {
        const ENTRIES: usize = 44;
        let entries = self.mcfg.as_ref().and_then(|table| table.bytes.get(ENTRIES..)).unwrap_or_default();
        let mut ecams = ArrayVec::<Ecam, MOST_ECAMS>::new();
        for ecam in entries.as_chunks().0.iter().filter_map(Ecam::decode) {
            if !ecams.is_full() && !ecams.iter().any(|known| known.shares_bus(ecam)) {
                ecams.push(ecam);
            }
        }
        ecams.into_iter()
    }

    /// The reset register (section 4.8.3.6), if the machine has one in a place that a register can be in.
    pub fn reset_register(&self) -> Option<ResetRegister> {
        const FLAGS: usize = 112;
        const RESET_REG_SUP: u32 = 1 << 10;
        const RESET_REG: usize = 116;
        const RESET_VALUE: usize = 128;
        let fadt = self.fadt.as_ref()?;
        let supported = u32::from_le_bytes(fadt.field(FLAGS)?) & RESET_REG_SUP != 0;
        let [value] = fadt.field(RESET_VALUE)?;
        let place = RegisterPlace::decode(fadt.field(RESET_REG)?)?;
        supported.then_some(ResetRegister { place, value })
    }

    /// The power-management timer's I/O port (section 4.8.3.3).
    pub fn pm_timer(&self) -> Option<u16> {
        const PM_TMR_BLK: usize = 76;
        const X_PM_TMR_BLK: usize = 208;
        let fadt = self.fadt.as_ref()?;
        let old = u32::from_le_bytes(fadt.field(PM_TMR_BLK)?);
        fadt.io_port(X_PM_TMR_BLK).or(u16::try_from(old).ok().filter(|&port| port != 0))
    }
}

impl Table {
    fn read(firmware: &mut impl Firmware, address: u64) -> Result<Self, AcpiError> {
        let mut header = [0; HEADER];
        firmware.read(address, &mut header)?;
        let [.., l0, l1, l2, l3] = *header.first_chunk::<8>().unwrap_or(&[0; 8]);
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if !(HEADER..=LONGEST).contains(&length) {
            return Err(AcpiError::Length(address));
        }
        let mut bytes = filled(0, length).map_err(|_| AcpiError::OutOfMemory(address))?;
        firmware.read(address, &mut bytes)?;
        Ok(Self { bytes })
    }

    /// A table of these bytes, as tests make them.
    #[cfg(test)]
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// The whole table, header included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn field<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.get(offset..)?.first_chunk().copied()
    }

    /// The port that a generic address structure names, if it names one.
    fn io_port(&self, offset: usize) -> Option<u16> {
        match RegisterPlace::decode(self.field(offset)?)? {
            RegisterPlace::Port(port) => Some(port),
            RegisterPlace::Memory(_) | RegisterPlace::Configuration { .. } => None,
        }
    }
}

impl RegisterPlace {
    /// Decodes a generic address structure (section 5.2.3.2); `None` for no address, an impossible one, or another space.
    ///
    /// Firmware often gets the width of ports wrong, so it is heeded in the other spaces only.
    fn decode(structure: [u8; 12]) -> Option<Self> {
        const SYSTEM_MEMORY: u8 = 0;
        const SYSTEM_IO: u8 = 1;
        const PCI_CONFIGURATION: u8 = 2;
        let [space, bit_width, bit_offset, _access_size, address @ ..] = structure;
        let is_byte = bit_width <= 8 && bit_offset == 0;
        match space {
            SYSTEM_IO => {
                u16::try_from(u64::from_le_bytes(address)).ok().filter(|&port| port != 0).map(Self::Port)
            }
            SYSTEM_MEMORY if is_byte => {
                Some(u64::from_le_bytes(address)).filter(|&at| at != 0).map(Self::Memory)
            }
            PCI_CONFIGURATION if is_byte => Self::configuration(address),
            _ => None,
        }
    }

    /// Offset, function and device, in two bytes each; the bus is 0.
    fn configuration(address: [u8; 8]) -> Option<Self> {
        match address {
            [offset, 0, function @ 0..8, 0, device @ 0..32, 0, 0, 0] => {
                Some(Self::Configuration { device, function, offset })
            }
            _ => None,
        }
    }
}

/// The addresses of tables that the root pointer's extended table lists, or else its old one (sections 5.2.5, 5.2.7,
/// 5.2.8), and whether these are all that it lists. Linux passes over empty entries too.
fn listed_tables(
    firmware: &mut impl Firmware,
    rsdp: u64,
) -> Result<(ArrayVec<u64, MOST_TABLES>, bool), AcpiError> {
    let mut root = [0; 36];
    firmware.read(rsdp, &mut root)?;
    if &root[..8] != b"RSD PTR " || checksum(&root[..20]) != 0 {
        return Err(AcpiError::NoRoot(rsdp));
    }
    let mut table = |name, address| match Table::read(firmware, little_endian(address)) {
        Ok(table) if !table.bytes.starts_with(name) => Err(AcpiError::NoRoot(rsdp)),
        read => read,
    };
    let extended = (root[15] >= 2 && checksum(&root) == 0).then(|| table(b"XSDT", &root[24..32]));
    let (table, size) = match extended {
        Some(Ok(extended)) => (extended, 8),
        Some(Err(error)) => (table(b"RSDT", &root[16..20]).map_err(|_| error)?, 4),
        None => (table(b"RSDT", &root[16..20])?, 4),
    };
    let addresses =
        table.bytes[HEADER..].chunks_exact(size).map(little_endian).filter(|&address| address != 0);
    let is_whole = addresses.clone().count() <= MOST_TABLES;
    #[expect(clippy::disallowed_methods, reason = "the list has its memory in itself")]
    let addresses = addresses.take(MOST_TABLES).collect();
    Ok((addresses, is_whole))
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::Range;

    struct Rom(Vec<u8>);

    impl Firmware for Rom {
        fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), Unreadable> {
            let bytes = self.0.get(address as usize..).and_then(|rest| rest.get(..into.len()));
            into.copy_from_slice(
                bytes.ok_or(Unreadable { address: address.into(), len: into.len() as u64 })?,
            );
            Ok(())
        }
    }

    /// The same, with the root pointer elsewhere.
    struct NothingAtZero(Rom);

    impl NothingAtZero {
        const ROOT: u64 = 0x10_0000;
    }

    impl Firmware for NothingAtZero {
        fn read(&mut self, address: u64, into: &mut [u8]) -> Result<(), Unreadable> {
            match address {
                0 => Err(Unreadable { address: address.into(), len: into.len() as u64 }),
                Self::ROOT => self.0.read(0, into),
                _ => self.0.read(address, into),
            }
        }
    }

    impl Rom {
        fn put(&mut self, address: usize, bytes: &[u8]) {
            self.0[address..][..bytes.len()].copy_from_slice(bytes);
        }

        /// Writes a table with this signature; zeros fill its body up to `length`.
        fn put_table(
            &mut self,
            address: usize,
            signature: [u8; 4],
            length: usize,
            fields: &[(usize, &[u8])],
        ) {
            self.put(address, &signature);
            self.put(address + 4, &(length as u32).to_le_bytes());
            for (offset, bytes) in fields {
                self.put(address + offset, bytes);
            }
            self.0[address + 9] = checksum(&self.0[address..][..length]).wrapping_neg();
        }
    }

    /// A root pointer of revision 0 at 0, its root table at 0x100, MCFG at 0x200, FADT at 0x300.
    fn rom() -> Rom {
        let mut rom = Rom(vec![0; 0x1000]);
        rom.put(0, b"RSD PTR ");
        rom.put(16, &0x100u32.to_le_bytes());
        rom.0[8] = checksum(&rom.0[..20]).wrapping_neg();
        rom.put_table(0x100, *b"RSDT", 48, &[(36, &[0, 2]), (40, &[0, 3]), (44, &[0xFF; 4])]);
        rom.put_table(0x200, *b"MCFG", 60, &[(44, &[0, 0, 0, 0xB0]), (55, &[0xFF])]);
        rom.put_table(
            0x300,
            *b"FACP",
            244,
            &[(76, &[8, 6]), (112, &[0, 4]), (116, &[1]), (120, &[0xF9, 0xC]), (128, &[0xF])],
        );
        rom
    }

    #[test]
    fn tables_are_found_from_the_root_pointer() {
        let tables = Tables::find(&mut rom(), 0).unwrap();
        assert!(tables.dmar.is_none());
        let ecam = tables.ecams().next().unwrap();
        assert_eq!((ecam.range(), ecam.buses()), (Range::from(0xB000_0000..0xC000_0000), 0..=255));
        let reset = ResetRegister { place: RegisterPlace::Port(0xCF9), value: 0xF };
        assert_eq!(tables.reset_register(), Some(reset));
        assert_eq!(tables.pm_timer(), Some(0x608));
    }

    #[test]
    fn a_reset_register_can_be_in_memory_or_in_configuration_space() {
        let place = |space, width, bit, address: u64| {
            let mut structure = [space, width, bit, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            structure[4..].copy_from_slice(&address.to_le_bytes());
            RegisterPlace::decode(structure)
        };
        let function = |device, function, offset| RegisterPlace::Configuration { device, function, offset };
        assert_eq!(place(0, 8, 0, 0xFED0_0010), Some(RegisterPlace::Memory(0xFED0_0010)));
        assert_eq!(place(2, 8, 0, 0x001F_0000_0044), Some(function(0x1F, 0, 0x44)));
        assert_eq!(place(2, 8, 0, 0x0002_0007_00FF), Some(function(2, 7, 0xFF)));
        assert_eq!(place(1, 32, 0, 0xCF9), Some(RegisterPlace::Port(0xCF9)));

        let none = [
            (0, 8, 0, 0),
            (0, 32, 0, 0xFED0_0010),
            (0, 8, 3, 0xFED0_0010),
            (1, 8, 0, 0x1_0000),
            (3, 8, 0, 1),
        ];
        let nowhere = [0x20_0000_0000, 8 << 16, 0x100, 1 << 48].map(|address| (2, 8, 0, address));
        for (space, width, bit, address) in none.into_iter().chain(nowhere) {
            assert_eq!(place(space, width, bit, address), None, "{space} {width} {bit} {address:#x}");
        }
    }

    /// An entry of MCFG for buses of a segment group.
    fn entry(base: u64, segment: u16, buses: [u8; 2]) -> [u8; 16] {
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&base.to_le_bytes());
        entry[8..10].copy_from_slice(&segment.to_le_bytes());
        entry[10..12].copy_from_slice(&buses);
        entry
    }

    /// Segment group and buses of each group that is taken from these entries of MCFG.
    fn taken(entries: &[[u8; 16]]) -> Vec<(u16, core::ops::RangeInclusive<u8>)> {
        let bytes = [&[0; 44], entries.as_flattened()].concat();
        let tables = Tables { mcfg: Some(Table { bytes }), ..Tables::default() };
        tables.ecams().map(|ecam| (ecam.segment, ecam.buses())).collect()
    }

    /// Mapping a group takes page tables, and searching it takes time.
    #[test]
    fn groups_of_buses_that_cannot_be_are_passed_over_and_their_number_is_bounded() {
        let wrong = [entry(0xB000_1000, 0, [0, 255]), entry(0, 0, [0, 1]), entry(0xB000_0000, 0, [2, 1])];
        assert_eq!(taken(&[&wrong[..], &[entry(0xB000_0000, 0, [0, 0])]].concat()), [(0, 0..=0)]);
        assert_eq!(taken(&[entry(u64::MAX << 20, 0, [0, 255])]), []);
        let many: Vec<_> = (0..9000).map(|segment| entry(0xB000_0000, segment, [0, 255])).collect();
        assert_eq!(taken(&many).len(), MOST_ECAMS);
    }

    /// Otherwise its functions would be found, and their windows kept free, once per listing.
    #[test]
    fn a_bus_that_is_listed_twice_is_looked_at_once() {
        let (one, other) = (0xB000_0000, 0xC000_0000);
        let twice = [entry(one, 0, [0, 255]), entry(other, 0, [255, 255]), entry(other, 1, [0, 255])];
        assert_eq!(taken(&twice), [(0, 0..=255), (1, 0..=255)]);
        let apart = [entry(one, 0, [0, 127]), entry(other, 0, [128, 255])];
        assert_eq!(taken(&apart), [(0, 0..=127), (0, 128..=255)]);
    }

    #[test]
    fn a_root_pointer_with_a_wrong_checksum_is_none() {
        let mut rom = rom();
        rom.0[9] ^= 1;
        assert_eq!(Tables::find(&mut rom, 0).err(), Some(AcpiError::NoRoot(0)));
    }

    /// A pointer that another kernel has overwritten in part may still have the right sum.
    #[test]
    fn a_root_table_of_another_name_is_none() {
        let mut rom = rom();
        rom.put(0x100, b"SSDT");
        assert_eq!(Tables::find(&mut rom, 0).err(), Some(AcpiError::NoRoot(0)));
    }

    #[test]
    fn the_old_root_table_is_used_where_the_extended_one_is_none() {
        let mut rom = rom();
        rom.0[15] = 2;
        rom.put(24, &0x800_u64.to_le_bytes());
        rom.0[8] = 0;
        rom.0[8] = checksum(&rom.0[..20]).wrapping_neg();
        rom.0[32] = checksum(&rom.0[..36]).wrapping_neg();
        assert!(Tables::find(&mut rom, 0).unwrap().mcfg.is_some());
    }

    #[test]
    fn a_table_of_impossible_length_is_refused() {
        let mut rom = rom();
        rom.put(0x104, &35u32.to_le_bytes());
        assert_eq!(Tables::find(&mut rom, 0).err(), Some(AcpiError::Length(0x100)));
        rom.put(0x104, &u32::MAX.to_le_bytes());
        assert_eq!(Tables::find(&mut rom, 0).err(), Some(AcpiError::Length(0x100)));
    }

    /// Who takes it for absent gives a disk physical addresses that a unit translates.
    #[test]
    fn a_table_of_iommus_that_cannot_be_read_is_not_taken_for_absent() {
        for signature in [*b"DMAR", *b"IVRS"] {
            let mut rom = rom();
            rom.put(0x10C + 32, &0x500u32.to_le_bytes());
            rom.put_table(0x500, signature, 64, &[]);
            rom.put(0x504, &7u32.to_le_bytes());
            let tables = Tables::find(&mut rom, 0).unwrap();
            assert_eq!(tables.hidden, Some(AcpiError::Length(0x500)));
            assert!(tables.dmar.is_none() && tables.ivrs.is_none());
        }
    }

    #[test]
    fn a_table_that_nobody_can_read_may_be_one_of_iommus_and_an_empty_entry_is_none() {
        let mut rom = rom();
        assert!(matches!(Tables::find(&mut rom, 0).unwrap().hidden, Some(AcpiError::Unreadable(_))));
        rom.put(0x12C, &[0; 4]);
        assert_eq!(Tables::find(&mut NothingAtZero(rom), NothingAtZero::ROOT).unwrap().hidden, None);
    }

    #[test]
    fn without_a_root_pointer_all_tables_are_hidden() {
        let hidden = Tables::all_hidden(AcpiError::NoPointer);
        assert_eq!((hidden.hidden, hidden.dmar.is_none()), (Some(AcpiError::NoPointer), true));
    }

    /// Linux looks at the first one, too.
    #[test]
    fn of_two_tables_with_one_signature_the_first_counts() {
        let mut rom = rom();
        rom.put_table(0x500, *b"DMAR", 64, &[(40, &[1])]);
        rom.put_table(0x600, *b"DMAR", 64, &[(40, &[2])]);
        rom.put_table(0x100, *b"RSDT", 44, &[(36, &[0, 5, 0, 0]), (40, &[0, 6, 0, 0])]);
        assert_eq!(Tables::find(&mut rom, 0).unwrap().dmar.unwrap().bytes()[40], 1);
    }

    #[test]
    fn more_tables_than_are_read_may_hide_one() {
        let mut rom = Rom(vec![0; 0x3000]);
        rom.put(0, b"RSD PTR ");
        rom.put(16, &0x100u32.to_le_bytes());
        rom.0[8] = checksum(&rom.0[..20]).wrapping_neg();
        let listed = |rom: &mut Rom, count: usize| {
            let entries = [0, 0x10, 0, 0].repeat(count);
            rom.put_table(0x100, *b"RSDT", 36 + entries.len(), &[(36, &entries)]);
            Tables::find(rom, 0).unwrap().hidden
        };
        assert_eq!((listed(&mut rom, 256), listed(&mut rom, 257)), (None, Some(AcpiError::TooMany)));
    }

    proptest::proptest! {
        #[test]
        fn no_memory_makes_the_parser_panic(noise: Vec<(u16, u8)>) {
            let mut rom = rom();
            for (address, byte) in noise {
                let address = usize::from(address) % rom.0.len();
                rom.0[address] = byte;
            }
            rom.0[8] = 0;
            rom.0[8] = checksum(&rom.0[..20]).wrapping_neg();
            if let Ok(tables) = Tables::find(&mut rom, 0) {
                tables.ecams().for_each(|ecam| assert!(!ecam.range().is_empty()));
                tables.reset_register();
                tables.pm_timer();
            }
        }
    }
}
