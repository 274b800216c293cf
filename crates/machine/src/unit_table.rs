//! The shape that the ACPI tables of remapping units share, DMAR (VT-d, chapter 8) and IVRS (AMD-Vi, 5.2): a header of 48 bytes,
//! then structures, each of which says in its bytes 2 and 3 how long it is.
//!
//! Firmware wrote the table, and the dead kernel could have overwritten it: any bytes are accepted. A structure with an impossible
//! length ends the walk.

use crate::bytes::{u16_at, u32_at};

/// Bytes before the first structure.
const HEADER: usize = 48;
/// Bytes of a structure's type and length, the least that it has.
const STRUCTURE_HEADER: usize = 4;

/// Why bytes are not such a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitTableError {
    /// The signature is wrong, or there are fewer bytes than a header has.
    Signature,
    /// The table says that it is longer than the bytes at hand, or shorter than its header.
    Length(u32),
    /// The bytes do not sum up to zero, and the structure at this offset makes no sense either.
    Damaged(usize),
}

/// A structure, at this offset, that ends outside the table or inside its own header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadStructure(pub usize);

/// A table whose header was checked.
#[derive(Clone, Copy, Debug)]
pub struct UnitTable<'a> {
    bytes: &'a [u8],
}

impl<'a> UnitTable<'a> {
    /// Checks signature and length; `bytes` may be longer than the table.
    ///
    /// Firmware sometimes gets the checksum wrong, and without the table there is no DMA on a machine whose
    /// translation is on. So a wrong checksum alone is no error ([`is_sound`](Self::is_sound) reports it), but then
    /// every structure must be well-formed.
    pub fn parse(bytes: &'a [u8], signature: [u8; 4]) -> Result<Self, UnitTableError> {
        let found = Self::signed(bytes, signature)?;
        let table = found.cut().ok_or(UnitTableError::Length(found.length()))?;
        match table.structures().find_map(Result::err) {
            Some(BadStructure(offset)) if !table.is_sound() => Err(UnitTableError::Damaged(offset)),
            _ => Ok(table),
        }
    }

    /// What is left of a damaged table, whatever its length, checksum and structures say.
    pub fn salvage(bytes: &'a [u8], signature: [u8; 4]) -> Result<Self, UnitTableError> {
        let found = Self::signed(bytes, signature)?;
        Ok(found.cut().unwrap_or(found))
    }

    /// Bytes that begin with a header of this signature.
    fn signed(bytes: &'a [u8], signature: [u8; 4]) -> Result<Self, UnitTableError> {
        let is_signed = bytes.len() >= HEADER && bytes.starts_with(&signature);
        is_signed.then_some(Self { bytes }).ok_or(UnitTableError::Signature)
    }

    /// The table without what follows it; `None` if its length is impossible.
    fn cut(&self) -> Option<Self> {
        let table = self.bytes.get(..self.length() as usize).filter(|table| table.len() >= HEADER);
        table.map(|bytes| Self { bytes })
    }

    /// The whole table, header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of the table, as its header says.
    pub fn length(&self) -> u32 {
        u32_at(self.bytes, 4).unwrap_or(0)
    }

    /// Whether the table's bytes sum up to zero, as they should.
    pub fn is_sound(&self) -> bool {
        self.bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0
    }

    /// The structures, in the table's order, each with its header; ends after the first error.
    pub fn structures(&self) -> impl Iterator<Item = Result<&'a [u8], BadStructure>> + Clone + use<'a> {
        Structures { bytes: self.bytes, offset: HEADER }
    }
}

/// Walks the structures of a table.
#[derive(Clone, Debug)]
struct Structures<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Structures<'a> {
    type Item = Result<&'a [u8], BadStructure>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.offset..).filter(|rest| !rest.is_empty())?;
        let length = usize::from(u16_at(rest, 2).unwrap_or(0));
        let Some(structure) = rest.get(..length).filter(|structure| structure.len() >= STRUCTURE_HEADER)
        else {
            let bad = BadStructure(self.offset);
            self.offset = self.bytes.len();
            return Some(Err(bad));
        };
        self.offset += length;
        Some(Ok(structure))
    }
}
