//! The blocks, one Rust type for each kind (5.2.2).

use bitfield_struct::bitfield;
use machine::bytes::{u8_at, u16_at, u32_at, u64_at};
use machine::{PAGE_SIZE, PhysicalAddress, Range, SourceId};

use super::device::DeviceEntries;
use super::scope::DeviceScopes;
use crate::feature::{ExtendedFeature, ExtendedFeature2};

/// One block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block<'a> {
    /// A unit and its devices.
    Ivhd(Ivhd<'a>),
    /// Memory that devices use without the operating system.
    Ivmd(Ivmd),
    /// A type that is not listed here, or a block too short for its type.
    Unknown {
        /// The type.
        kind: u8,
        /// All its bytes, type and length included.
        bytes: &'a [u8],
    },
}

impl<'a> Block<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Self {
        let kind = u8_at(bytes, 0).unwrap_or(u8::MAX);
        Self::known(kind, bytes).unwrap_or(Self::Unknown { kind, bytes })
    }

    fn known(kind: u8, bytes: &'a [u8]) -> Option<Self> {
        match kind {
            0x10 | 0x11 | 0x40 => Ivhd::decode(IvhdType(kind), bytes).map(Self::Ivhd),
            0x20..=0x22 => Ivmd::decode(kind, bytes).map(Self::Ivmd),
            _ => None,
        }
    }
}

/// The type of a block that describes a unit; software uses the newest that it knows (5.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IvhdType(pub u8);

impl IvhdType {
    /// 10h: the first kind.
    pub const LEGACY: Self = Self(0x10);
    /// 11h: with images of the extended features.
    pub const FEATURES: Self = Self(0x11);
    /// 40h: the same, and devices that ACPI names.
    pub const ACPI: Self = Self(0x40);
}

/// Flags of a unit; its driver copies the first six to the control register or to the capability (5.2.2).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct IvhdFlags {
    /// HtTunEn: to be copied to the control register.
    pub ht_tunnel: bool,
    /// PassPW: likewise.
    pub pass_posted: bool,
    /// ResPassPW: likewise.
    pub response_pass_posted: bool,
    /// Isoc: likewise.
    pub isochronous: bool,
    /// IotlbSup: devices may have a device-TLB.
    pub device_tlbs: bool,
    /// Coherent: to be copied to the control register.
    pub coherent: bool,
    /// PreFSup: prefetching; reserved after type 10h.
    pub prefetch: bool,
    /// PPRSup: page requests; reserved after type 10h.
    pub page_requests: bool,
}

/// IVHD: a unit, its registers and its devices (5.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ivhd<'a> {
    /// The type of the block.
    pub kind: IvhdType,
    /// Flags.
    pub flags: IvhdFlags,
    /// The unit's own source-id, as a PCI function.
    pub source: SourceId,
    /// Where its capability is in its configuration space.
    pub capability: u16,
    /// Physical address of the registers.
    pub base: u64,
    /// PCI segment.
    pub segment: u16,
    /// IOMMU info: number of its MSI, and its unit id.
    pub info: u16,
    /// Of type 10h, features, laid out otherwise than in EFR; of the others, attributes.
    pub attributes: u32,
    /// Image of the extended features; `None` in blocks of type 10h.
    pub features: Option<(ExtendedFeature, ExtendedFeature2)>,
    /// The devices behind the unit, as firmware lists them.
    pub entries: DeviceEntries<'a>,
}

impl<'a> Ivhd<'a> {
    fn decode(kind: IvhdType, bytes: &'a [u8]) -> Option<Self> {
        let images = || Some((u64_at(bytes, 24)?, u64_at(bytes, 32)?));
        let (features, entries) = if kind == IvhdType::LEGACY {
            (None, 24)
        } else {
            let (first, second) = images()?;
            (Some((ExtendedFeature::from_bits(first), ExtendedFeature2::from_bits(second))), 40)
        };
        Some(Self {
            kind,
            flags: IvhdFlags::from_bits(u8_at(bytes, 1)?),
            source: SourceId(u16_at(bytes, 4)?),
            capability: u16_at(bytes, 6)?,
            base: u64_at(bytes, 8)?,
            segment: u16_at(bytes, 16)?,
            info: u16_at(bytes, 18)?,
            attributes: u32_at(bytes, 20)?,
            features,
            entries: DeviceEntries::of(bytes.get(entries..)?),
        })
    }

    /// Whether both describe one unit: they name the same PCI function.
    pub const fn is_of_same_unit(&self, other: &Ivhd<'_>) -> bool {
        self.segment == other.segment && self.source.0 == other.source.0
    }

    /// The devices behind the unit, as ranges.
    pub fn scopes(&self) -> DeviceScopes<'a> {
        DeviceScopes::of(self.entries)
    }
}

/// Flags of a memory block (5.2.2.2).
#[bitfield(u8)]
#[derive(PartialEq, Eq)]
pub struct IvmdFlags {
    /// Unity: the memory stays mapped to itself.
    pub unity: bool,
    /// IR: devices may read it.
    pub read: bool,
    /// IW: devices may write it.
    pub write: bool,
    /// ExclusionRange: it is for the exclusion range of the unit; then `read` and `write` do not count.
    pub exclusion: bool,
    #[bits(4)]
    __: u8,
}

/// The devices that use a memory block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IvmdScope {
    /// 20h: all devices.
    All,
    /// 21h: one device.
    One(SourceId),
    /// 22h: the devices from the first to the last.
    Between(SourceId, SourceId),
}

impl IvmdScope {
    /// Whether a device is one of them.
    pub fn contains(self, source: SourceId) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == source,
            Self::Between(first, last) => (first..=last).contains(&source),
        }
    }
}

/// IVMD: memory that firmware's devices use; it stays mapped to itself, or excluded from translation (5.2.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ivmd {
    /// Flags.
    pub flags: IvmdFlags,
    /// PCI segment; zero in tables of older firmware, which reserve the field.
    pub segment: u16,
    /// The devices.
    pub scope: IvmdScope,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

impl Ivmd {
    fn decode(kind: u8, bytes: &[u8]) -> Option<Self> {
        let (first, last) = (SourceId(u16_at(bytes, 4)?), SourceId(u16_at(bytes, 6)?));
        let scope = match kind {
            0x20 => IvmdScope::All,
            0x21 => IvmdScope::One(first),
            _ => IvmdScope::Between(first, last),
        };
        let flags = IvmdFlags::from_bits(u8_at(bytes, 1)?);
        let segment = u16_at(bytes, 8)?;
        Some(Self { flags, segment, scope, start: u64_at(bytes, 16)?, length: u64_at(bytes, 24)? })
    }

    /// The memory, as whole pages: no less can be excluded or mapped. `None` if it would end beyond all addresses.
    pub fn memory(&self) -> Option<Range<PhysicalAddress>> {
        let memory = Range::sized(PhysicalAddress::new(self.start), self.length)?;
        let end = memory.end.get().checked_next_multiple_of(PAGE_SIZE)?;
        Some(Range::new(memory.start.align_down(PAGE_SIZE), PhysicalAddress::new(end)))
    }
}
