//! The ACPI IVRS table: the units, the devices behind them, and the memory that firmware reserved (5.2).
//!
//! [`Ivrs::parse`] checks the header; [`Ivrs::blocks`] then walks the rest without copying. The walk accepts any bytes: a
//! block with an impossible length ends it with [`IvrsError::BadBlock`], and a block that is too short for its type becomes
//! [`Block::Unknown`].

mod block;
mod device;
mod scope;

pub use block::{Block, Ivhd, IvhdFlags, IvhdType, Ivmd, IvmdFlags, IvmdScope};
pub use device::{
    AcpiDevice, DeviceEntries, DeviceEntry, DeviceEntryIter, DteSetting, SpecialDevice, Uid, Variety,
};
pub use scope::{DeviceScope, DeviceScopes};

use bitfield_struct::bitfield;
use machine::bytes::{u8_at, u32_at};
use machine::unit_table::{BadStructure, UnitTable, UnitTableError};

/// The table's signature (5.2.1).
const SIGNATURE: [u8; 4] = *b"IVRS";
/// Most blocks of units among which [`Ivrs::units`] looks for the newest of each: three for each of more units than machines have. Each
/// is compared with all others, and a damaged table can list tens of thousands.
pub const MOST_IVHDS: usize = 1024;

/// Why bytes are not an IVRS table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IvrsError {
    /// The signature is wrong, or there are fewer bytes than a header has.
    #[error("not an IVRS table")]
    NotIvrs,
    /// The table says that it is longer than the bytes at hand, or shorter than its header.
    #[error("the IVRS table's length {0:#x} is impossible")]
    BadLength(u32),
    /// The bytes do not sum up to zero, and the blocks make no sense either.
    #[error("the IVRS table's checksum is wrong, and the block at offset {0:#x} has an impossible length")]
    Damaged(usize),
    /// A block, at this offset, ends outside the table or inside its own header.
    #[error("the IVRS block at offset {0:#x} has an impossible length")]
    BadBlock(usize),
}

impl From<UnitTableError> for IvrsError {
    fn from(error: UnitTableError) -> Self {
        match error {
            UnitTableError::Signature => Self::NotIvrs,
            UnitTableError::Length(length) => Self::BadLength(length),
            UnitTableError::Damaged(offset) => Self::Damaged(offset),
        }
    }
}

impl From<BadStructure> for IvrsError {
    fn from(BadStructure(offset): BadStructure) -> Self {
        Self::BadBlock(offset)
    }
}

/// IVinfo: what holds for all units (5.2.1).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct IvInfo {
    /// EFRSup: the blocks of types 11h and 40h hold the units' extended features.
    pub efr: bool,
    /// DmaGuardOptIn: firmware protects memory from devices before the operating system starts.
    pub dma_guard: bool,
    #[bits(3)]
    __: u8,
    /// GVASize: bits of a guest's virtual address, as a code.
    #[bits(3)]
    pub guest_virtual_size: u8,
    /// PASize: bits of a physical address.
    #[bits(7)]
    pub physical_bits: u8,
    /// VASize: bits of an I/O address.
    #[bits(7)]
    pub virtual_bits: u8,
    /// HtAtsResv: the addresses of ATS responses on HyperTransport are reserved.
    pub ht_ats_reserved: bool,
    #[bits(9)]
    __: u16,
}

/// An IVRS table whose header was checked.
#[derive(Clone, Copy, Debug)]
pub struct Ivrs<'a> {
    table: UnitTable<'a>,
}

impl<'a> Ivrs<'a> {
    /// Checks signature and length; `bytes` may be longer than the table. A wrong checksum alone is no error
    /// ([`UnitTable::parse`] says why).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, IvrsError> {
        Ok(Self { table: UnitTable::parse(bytes, SIGNATURE)? })
    }

    /// Reads what is left of a damaged table, whatever its length, checksum and blocks say: for people who want to
    /// inspect it.
    pub fn salvage(bytes: &'a [u8]) -> Result<Self, IvrsError> {
        Ok(Self { table: UnitTable::salvage(bytes, SIGNATURE)? })
    }

    /// Bytes of the table, as its header says.
    pub fn length(&self) -> u32 {
        self.table.length()
    }

    /// Revision: 1 for blocks of fixed length alone, 2 where blocks of type 40h may be there.
    pub fn revision(&self) -> u8 {
        u8_at(self.table.bytes(), 8).unwrap_or(0)
    }

    /// Whether the table's bytes sum up to zero, as they should.
    pub fn is_sound(&self) -> bool {
        self.table.is_sound()
    }

    /// What holds for all units.
    pub fn info(&self) -> IvInfo {
        IvInfo::from_bits(u32_at(self.table.bytes(), 36).unwrap_or(0))
    }

    /// The blocks, in the table's order; ends after the first error.
    pub fn blocks(&self) -> impl Iterator<Item = Result<Block<'a>, IvrsError>> + Clone + use<'a> {
        self.table.structures().map(|block| Ok(Block::decode(block?)))
    }

    /// All blocks that describe units, in the table's order; stops where the table is malformed.
    ///
    /// Up to three blocks describe one unit, for software of three ages: [`units`](Self::units) leaves all but one out.
    pub fn ivhds(&self) -> impl Iterator<Item = Ivhd<'a>> + use<'a> {
        self.blocks().filter_map(|block| match block {
            Ok(Block::Ivhd(ivhd)) => Some(ivhd),
            _ => None,
        })
    }

    /// The units, each by the newest kind of block that describes it (5.2.2), in the table's order; blocks past the first
    /// [`MOST_IVHDS`] are left out.
    pub fn units(&self) -> impl Iterator<Item = Ivhd<'a>> + use<'a> {
        let table = *self;
        let is_best = move |index: usize, ivhd: &Ivhd<'_>| {
            let mut others =
                table.ivhds().take(MOST_IVHDS).enumerate().filter(|(_, other)| other.is_of_same_unit(ivhd));
            // Of two of the same kind, the first.
            !others.any(|(other_index, other)| (other.kind, index) > (ivhd.kind, other_index))
        };
        let all = self.ivhds().take(MOST_IVHDS).enumerate();
        all.filter(move |(index, ivhd)| is_best(*index, ivhd)).map(|(_, ivhd)| ivhd)
    }

    /// The memory that firmware reserved, in the table's order; stops where the table is malformed.
    pub fn memory(&self) -> impl Iterator<Item = Ivmd> + use<'a> {
        self.blocks().filter_map(|block| match block {
            Ok(Block::Ivmd(ivmd)) => Some(ivmd),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
