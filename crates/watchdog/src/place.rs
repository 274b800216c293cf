//! Where a machine's interface to its baseboard management controller is: in SMBIOS, in ACPI's table SPMI, or as a person writes it.

use core::fmt;

use crate::register::{ADDRESS_SIZE, GenericAddress, usable_port};

/// A KCS interface in I/O space, written `PORT/SPACING`, such as `0xca2/1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KcsPlace {
    data: u16,
    /// Ports from the data register to the status register.
    spacing: u8,
}

impl KcsPlace {
    /// The interface whose data register is at port `data`, its status register `spacing` ports further. `None` if these cannot
    /// be its ports.
    pub fn new(data: u64, spacing: u8) -> Option<Self> {
        let bytes = u64::from(spacing) + 1;
        let is_known = matches!(spacing, 1 | 4 | 16);
        is_known.then(|| usable_port(data, bytes))?.map(|data| Self { data, spacing })
    }

    /// Reads `PORT[/SPACING]`. Without a spacing the registers follow each other.
    pub fn parse(text: &str) -> Option<Self> {
        let (port, spacing) = text.split_once('/').unwrap_or((text, "1"));
        let port = u64::from_str_radix(port.strip_prefix("0x")?, 16).ok()?;
        Self::new(port, spacing.parse().ok()?)
    }

    /// Reads ACPI's table SPMI (IPMI 2.0, appendix C3); `None` if its interface is another one, or in memory.
    pub fn of_spmi(table: &[u8]) -> Option<Self> {
        const INTERFACE: usize = 36;
        const BASE: usize = 48;
        const KCS: u8 = 1;
        let place = GenericAddress::decode(table.get(BASE..)?.first_chunk::<ADDRESS_SIZE>()?);
        let is_kcs = *table.get(INTERFACE)? == KCS;
        is_kcs.then(|| Self::new(place.port()?.into(), place.spacing()))?
    }

    /// Reads SMBIOS' structure of type 38 (SMBIOS 3.7, section 7.39), strings excluded; `None` if its interface is another one,
    /// or in memory.
    pub fn of_smbios(structure: &[u8]) -> Option<Self> {
        const TYPE: usize = 0;
        const INTERFACE: usize = 4;
        const BASE: usize = 8;
        const MODIFIER: usize = 16;
        let base = u64::from_le_bytes(*structure.get(BASE..)?.first_chunk()?);
        let modifier = structure.get(MODIFIER).copied().unwrap_or(0);
        let spacing = *[1, 4, 16].get(usize::from(modifier >> 6))?;
        let is_kcs = (*structure.get(TYPE)?, *structure.get(INTERFACE)?) == (38, 1);
        let in_io_space = base & 1 != 0;
        (is_kcs && in_io_space).then(|| Self::new(base & !1 | u64::from(modifier >> 4 & 1), spacing))?
    }

    /// The ports of the data register and of the status register.
    pub(crate) fn ports(self) -> (u16, u16) {
        (self.data, self.data + u16::from(self.spacing))
    }
}

impl fmt::Display for KcsPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{}", self.data, self.spacing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smbios_names_the_ports_and_their_spacing() {
        // As QEMU writes it: KCS, IPMI 2.0, no I2C address, I/O port 0xCA2.
        let mut structure = [38, 18, 0, 0, 1, 0x20, 0x20, 0xFF, 0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 0x08, 0];
        let place = |structure: &[u8]| KcsPlace::of_smbios(structure).map(|place| place.to_string());
        assert_eq!(place(&structure).as_deref(), Some("0xca2/1"));
        structure[16] = 0x50;
        assert_eq!(place(&structure).as_deref(), Some("0xca3/4"), "32 bits apart, odd base");
        structure[16] = 0xC0;
        assert_eq!(place(&structure), None, "a spacing that does not exist");
        assert_eq!(place(&structure[..12]), None);
        structure[16] = 0;
        structure[8] = 0xA2;
        assert_eq!(place(&structure), None, "in memory");
    }

    #[test]
    fn spmi_names_the_ports_and_their_spacing() {
        let mut table = [0; 65];
        table[36] = 1;
        table[48..60].copy_from_slice(&[1, 8, 0, 1, 0xA2, 0x0C, 0, 0, 0, 0, 0, 0]);
        let place = |table: &[u8]| KcsPlace::of_spmi(table).map(|place| place.to_string());
        assert_eq!(place(&table).as_deref(), Some("0xca2/1"));
        table[49] = 32;
        assert_eq!(place(&table).as_deref(), Some("0xca2/4"));
        table[48] = 0;
        assert_eq!((place(&table), place(&table[..50])), (None, None));
    }

    #[test]
    fn a_place_is_read_as_it_is_written_and_only_devices_ports_are_places() {
        for text in ["0xca2/1", "0xca8/4", "0x2000/16"] {
            assert_eq!(KcsPlace::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(KcsPlace::parse("0xca2"), Some(KcsPlace { data: 0xCA2, spacing: 1 }));
        for text in ["", "ca2", "0x60/4", "0xcf8", "0xffff/1", "0xca2/3", "0xca2/1/1", "0x1ca200000"] {
            assert_eq!(KcsPlace::parse(text), None, "{text}");
        }
    }
}
