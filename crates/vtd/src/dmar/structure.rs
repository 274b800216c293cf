//! The remapping structures, one Rust type for each (8.2).

use super::scope::DeviceScopes;
use machine::bytes::{u8_at, u16_at, u32_at, u64_at};

/// One remapping structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure<'a> {
    /// A remapping unit (8.3).
    Drhd(Drhd<'a>),
    /// Memory that devices use without the operating system (8.4).
    Rmrr(Rmrr<'a>),
    /// Root ports whose devices may cache translations (8.5).
    Atsr(Scoped<'a>),
    /// The proximity domain of a unit (8.6).
    Rhsa(Rhsa),
    /// A device that ACPI names (8.7).
    Andd(Andd<'a>),
    /// Integrated devices that cache translations (8.8).
    Satc(Scoped<'a>),
    /// Properties of integrated devices (8.9).
    Sidp(Scoped<'a>),
    /// A type that is not listed here, or a structure too short for its type.
    Unknown {
        /// The type.
        kind: u16,
        /// All its bytes, type and length included.
        bytes: &'a [u8],
    },
}

impl<'a> Structure<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Self {
        let kind = u16_at(bytes, 0).unwrap_or(u16::MAX);
        Self::known(kind, bytes).unwrap_or(Self::Unknown { kind, bytes })
    }

    fn known(kind: u16, bytes: &'a [u8]) -> Option<Self> {
        Some(match kind {
            0 => Self::Drhd(Drhd {
                flags: u8_at(bytes, 4)?,
                size: u8_at(bytes, 5)?,
                segment: u16_at(bytes, 6)?,
                base: u64_at(bytes, 8)?,
                scopes: DeviceScopes::at(bytes, 16)?,
            }),
            1 => Self::Rmrr(Rmrr {
                segment: u16_at(bytes, 6)?,
                base: u64_at(bytes, 8)?,
                limit: u64_at(bytes, 16)?,
                scopes: DeviceScopes::at(bytes, 24)?,
            }),
            2 => Self::Atsr(Scoped::decode(bytes)?),
            3 => Self::Rhsa(Rhsa { base: u64_at(bytes, 8)?, proximity: u32_at(bytes, 16)? }),
            4 => Self::Andd(Andd { device: u8_at(bytes, 7)?, name: name(bytes.get(8..)?) }),
            5 => Self::Satc(Scoped::decode(bytes)?),
            6 => Self::Sidp(Scoped::decode(bytes)?),
            _ => return None,
        })
    }
}

/// DRHD: a remapping unit, its registers and its devices (8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drhd<'a> {
    /// Bit 0: INCLUDE_PCI_ALL.
    pub flags: u8,
    /// SIZE: the registers occupy `2^SIZE` pages, in the low four bits.
    pub size: u8,
    /// PCI segment.
    pub segment: u16,
    /// Physical address of the registers.
    pub base: u64,
    /// The devices behind it; with INCLUDE_PCI_ALL, also all devices that no other unit names.
    pub scopes: DeviceScopes<'a>,
}

impl Drhd<'_> {
    /// INCLUDE_PCI_ALL: whether it covers all devices of the segment that no other unit names.
    pub const fn includes_all(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Bytes that the registers occupy.
    pub const fn register_bytes(&self) -> u64 {
        4096 << (self.size & 0xF)
    }
}

/// RMRR: memory that firmware's devices use; it stays mapped to itself (8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rmrr<'a> {
    /// PCI segment.
    pub segment: u16,
    /// First byte.
    pub base: u64,
    /// Last byte.
    pub limit: u64,
    /// The devices that use it.
    pub scopes: DeviceScopes<'a>,
}

/// ATSR, SATC and SIDP: flags, segment and devices (8.5, 8.8, 8.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scoped<'a> {
    /// ATSR: bit 0 is ALL_PORTS. SATC: bit 0 is ATC_REQUIRED. SIDP has none.
    pub flags: u8,
    /// PCI segment.
    pub segment: u16,
    /// The devices.
    pub scopes: DeviceScopes<'a>,
}

impl<'a> Scoped<'a> {
    fn decode(bytes: &'a [u8]) -> Option<Self> {
        Some(Self {
            flags: u8_at(bytes, 4)?,
            segment: u16_at(bytes, 6)?,
            scopes: DeviceScopes::at(bytes, 8)?,
        })
    }
}

/// RHSA: proximity domain of a unit (8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhsa {
    /// Physical address of the unit's registers.
    pub base: u64,
    /// Proximity domain.
    pub proximity: u32,
}

/// ANDD: a device in the ACPI namespace (8.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Andd<'a> {
    /// Number that device scopes refer to.
    pub device: u8,
    /// Its ACPI path, without the closing zero.
    pub name: &'a [u8],
}

fn name(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or(bytes)
}
