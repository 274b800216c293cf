//! The ACPI DMAR table: the remapping units, the devices behind them, and the memory that firmware reserved (chapter
//! 8).
//!
//! [`Dmar::parse`] checks the header; [`Dmar::structures`] then walks the rest without copying. The walk accepts any
//! bytes: a structure with an impossible length ends it with [`DmarError::BadStructure`], and a structure that is too
//! short for its type becomes [`Structure::Unknown`].

mod scope;
mod structure;

pub use scope::{DeviceScope, DeviceScopeIter, DeviceScopes, ScopeType};
pub use structure::{Andd, Drhd, Rhsa, Rmrr, Scoped, Structure};

use machine::bytes::u8_at;
use machine::unit_table::{BadStructure, UnitTable, UnitTableError};

/// The table's signature (8.1).
const SIGNATURE: [u8; 4] = *b"DMAR";

/// Why bytes are not a DMAR table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DmarError {
    /// The signature is wrong, or there are fewer bytes than a header has.
    #[error("not a DMAR table")]
    NotDmar,
    /// The table says that it is longer than the bytes at hand, or shorter than its header.
    #[error("the DMAR table's length {0:#x} is impossible")]
    BadLength(u32),
    /// The bytes do not sum up to zero, and the structures make no sense either.
    #[error(
        "the DMAR table's checksum is wrong, and the structure at offset {0:#x} has an impossible length"
    )]
    Damaged(usize),
    /// A structure, at this offset, ends outside the table or inside its own header.
    #[error("the DMAR structure at offset {0:#x} has an impossible length")]
    BadStructure(usize),
}

impl From<UnitTableError> for DmarError {
    fn from(error: UnitTableError) -> Self {
        match error {
            UnitTableError::Signature => Self::NotDmar,
            UnitTableError::Length(length) => Self::BadLength(length),
            UnitTableError::Damaged(offset) => Self::Damaged(offset),
        }
    }
}

impl From<BadStructure> for DmarError {
    fn from(BadStructure(offset): BadStructure) -> Self {
        Self::BadStructure(offset)
    }
}

/// A DMAR table whose header was checked.
#[derive(Clone, Copy, Debug)]
pub struct Dmar<'a> {
    table: UnitTable<'a>,
}

impl<'a> Dmar<'a> {
    /// Checks signature and length; `bytes` may be longer than the table. A wrong checksum alone is no error
    /// ([`UnitTable::parse`] says why).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DmarError> {
        Ok(Self { table: UnitTable::parse(bytes, SIGNATURE)? })
    }

    /// Reads what is left of a damaged table, whatever its length, checksum and structures say: for people who want
    /// to inspect it.
    pub fn salvage(bytes: &'a [u8]) -> Result<Self, DmarError> {
        Ok(Self { table: UnitTable::salvage(bytes, SIGNATURE)? })
    }

    /// Bytes of the table, as its header says.
    pub fn length(&self) -> u32 {
        self.table.length()
    }

    /// Whether the table's bytes sum up to zero, as they should.
    pub fn is_sound(&self) -> bool {
        self.table.is_sound()
    }

    /// HAW: physical address bits of the machine, 1 to 256.
    pub fn host_address_bits(&self) -> u32 {
        u32::from(u8_at(self.table.bytes(), 36).unwrap_or(0)) + 1
    }

    /// INTR_REMAP: the platform supports interrupt remapping.
    pub fn interrupt_remapping(&self) -> bool {
        u8_at(self.table.bytes(), 37).unwrap_or(0) & 1 != 0
    }

    /// The remapping structures, in the table's order; ends after the first error.
    pub fn structures(&self) -> impl Iterator<Item = Result<Structure<'a>, DmarError>> + Clone + use<'a> {
        self.table.structures().map(|structure| Ok(Structure::decode(structure?)))
    }

    /// The remapping units, in the table's order; stops where the table is malformed.
    pub fn units(&self) -> impl Iterator<Item = Drhd<'a>> + use<'a> {
        self.structures().filter_map(|structure| match structure {
            Ok(Structure::Drhd(drhd)) => Some(drhd),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use fixtures::acpi_table::fix_checksum;
    use machine::SourceId;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// A table with these structures, its length and checksum filled in.
    fn table(structures: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::from(SIGNATURE);
        bytes.resize(48, 0);
        bytes[36] = 38;
        bytes[37] = 1;
        bytes.extend(structures.concat());
        let length = bytes.len() as u32;
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        fix_checksum(&mut bytes);
        bytes
    }

    /// What QEMU's `build_dmar_q35` writes: flags 1, one scope for the I/O APIC at bus 0xFF device 0 function 0.
    const QEMU_DRHD: [u8; 24] =
        [0, 0, 24, 0, 1, 0, 0, 0, 0, 0, 0xD9, 0xFE, 0, 0, 0, 0, 3, 8, 0, 0, 0, 0xFF, 0, 0];
    const RMRR: [u8; 32] = [
        1, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0xFF, 0x0F, 0x11, 0, 0, 0, 0, 0, 1, 8, 0, 0, 0,
        2, 0x1F, 3,
    ];

    #[test]
    fn qemus_table_names_one_unit_that_serves_all() {
        let bytes = table(&[&QEMU_DRHD]);
        let dmar = Dmar::parse(&bytes).unwrap();
        assert_eq!(dmar.host_address_bits(), 39);
        assert!(dmar.interrupt_remapping());
        let unit = dmar.units().next().unwrap();
        assert!(unit.includes_all());
        assert_eq!((unit.base, unit.segment, unit.register_bytes()), (0xFED9_0000, 0, 4096));
        let scope = unit.scopes.iter().next().unwrap();
        assert_eq!((scope.kind, scope.bus), (ScopeType::IOAPIC, 0xFF));
        assert_eq!(scope.source(), Some(SourceId(0xFF00)));
    }

    #[test]
    fn a_reserved_region_has_its_limit_inside() {
        let bytes = table(&[&RMRR]);
        let Some(Ok(Structure::Rmrr(rmrr))) = Dmar::parse(&bytes).unwrap().structures().next() else {
            panic!("no RMRR");
        };
        assert_eq!((rmrr.base, rmrr.limit), (0x10_0000, 0x11_0FFF));
        assert_eq!(rmrr.scopes.iter().next().unwrap().source(), Some(SourceId::at(2, 0x1F, 3)));
    }

    #[test]
    fn an_acpi_device_has_a_name() {
        let bytes = table(&[&[4, 0, 12, 0, 0, 0, 0, 9, b'\\', b'_', b'S', 0]]);
        let Some(Ok(Structure::Andd(andd))) = Dmar::parse(&bytes).unwrap().structures().next() else {
            panic!("no ANDD");
        };
        assert_eq!(andd, Andd { device: 9, name: b"\\_S" });
    }

    #[test]
    fn properties_of_integrated_devices_name_them() {
        let bytes = table(&[&[6, 0, 16, 0, 0, 0, 3, 0, 1, 8, 0, 0, 0, 0, 2, 0]]);
        let Some(Ok(Structure::Sidp(sidp))) = Dmar::parse(&bytes).unwrap().structures().next() else {
            panic!("no SIDP");
        };
        assert_eq!(
            (sidp.segment, sidp.scopes.iter().next().unwrap().source()),
            (3, Some(SourceId::at(0, 2, 0)))
        );
    }

    #[test]
    fn a_structure_of_no_length_ends_the_walk_with_an_error() {
        let bytes = table(&[&QEMU_DRHD, &[0, 0, 0, 0], &QEMU_DRHD]);
        let mut structures = Dmar::parse(&bytes).unwrap().structures();
        assert!(matches!(structures.next(), Some(Ok(Structure::Drhd(_)))));
        assert_eq!(structures.next(), Some(Err(DmarError::BadStructure(72))));
        assert_eq!(structures.next(), None);
    }

    #[test]
    fn a_wrong_checksum_is_told_and_no_error_unless_structures_are_wrong_too() {
        let mut bytes = table(&[&QEMU_DRHD]);
        assert!(Dmar::parse(&bytes).unwrap().is_sound());
        bytes[9] ^= 1;
        let dmar = Dmar::parse(&bytes).unwrap();
        assert!(!dmar.is_sound());
        assert_eq!(dmar.units().next().unwrap().base, 0xFED9_0000);
        bytes[50] = 99;
        assert_eq!(Dmar::parse(&bytes).unwrap_err(), DmarError::Damaged(48));
    }

    #[test]
    fn what_is_left_of_a_cut_table_can_be_read() {
        let mut bytes = table(&[&QEMU_DRHD, &RMRR]);
        bytes.truncate(bytes.len() - 1);
        assert_eq!(Dmar::parse(&bytes).unwrap_err(), DmarError::BadLength(104));
        let dmar = Dmar::salvage(&bytes).unwrap();
        assert_eq!((dmar.length(), dmar.is_sound(), dmar.units().count()), (104, false, 1));
        assert_eq!(dmar.structures().last(), Some(Err(DmarError::BadStructure(72))));
        assert_eq!(Dmar::salvage(b"DMAR").unwrap_err(), DmarError::NotDmar);
    }

    #[test]
    fn a_scope_of_impossible_length_is_noticed() {
        let sound = |scopes: &[u8]| {
            let mut drhd = QEMU_DRHD[..16].to_vec();
            drhd[2] += scopes.len() as u8 - 8;
            drhd.extend(scopes);
            let bytes = table(&[&drhd]);
            Dmar::parse(&bytes).unwrap().units().next().unwrap().scopes.is_sound()
        };
        assert!(sound(&[3, 8, 0, 0, 0, 0xFF, 0, 0]));
        assert!(!sound(&[3, 9, 0, 0, 0, 0xFF, 0, 0]));
        assert!(!sound(&[3, 8, 0, 0, 0, 0xFF, 0, 0, 1]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(body in prop::collection::vec(any::<u8>(), 0..400), length in any::<Option<u32>>()) {
            let mut bytes = table(&[&body]);
            if let Some(length) = length {
                bytes[4..8].copy_from_slice(&length.to_le_bytes());
                fix_checksum(&mut bytes);
            }
            let Ok(dmar) = Dmar::parse(&bytes) else { return Ok(()) };
            for structure in dmar.structures().flatten() {
                if let Structure::Drhd(Drhd { scopes, .. }) | Structure::Rmrr(Rmrr { scopes, .. }) = structure {
                    prop_assert!(scopes.iter().map(|scope| scope.path().count()).sum::<usize>() <= body.len());
                }
            }
            prop_assert!(dmar.structures().count() <= body.len() / 4 + 1);
        }
    }
}
