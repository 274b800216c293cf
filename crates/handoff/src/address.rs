//! Where on which disks the dump areas are, in the order in which they are tried.

use core::fmt;

use pci::Function;
use uuid::Uuid;

use crate::options::number;

/// A dump area on some disk, written `UUID[@OFFSET][/FUNCTION]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AreaAddress {
    /// The UUID of its label.
    pub uuid: Uuid,
    /// The offset of its label on the disk, in bytes.
    pub offset: u64,
    /// The PCI function of the disk, which is tried before others.
    pub disk: Option<Function>,
}

impl AreaAddress {
    /// Reads `UUID[@OFFSET][/FUNCTION]`. Without an offset the area begins at the start of the disk.
    ///
    /// An unreadable offset makes the whole text unreadable: the area must not become another part of the disk. An unreadable
    /// function is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (place, disk) = text.split_once('/').unwrap_or((text, ""));
        let (uuid, offset) = place.split_once('@').unwrap_or((place, "0"));
        Some(Self { uuid: Uuid::try_parse(uuid).ok()?, offset: number(offset)?, disk: disk.parse().ok() })
    }
}

impl fmt::Display for AreaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.uuid, self.offset)?;
        self.disk.map_or(Ok(()), |disk| write!(f, "/{disk}"))
    }
}

/// Dump areas in the order in which they are tried, written with commas between them. They are [`MOST`](Self::MOST) at most,
/// so that a command line has room for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Areas {
    /// The areas, then nothing.
    list: [Option<AreaAddress>; Areas::MOST],
}

impl Areas {
    /// Most areas.
    pub const MOST: usize = 4;

    /// Reads `AREA,AREA…`. Texts that are no areas, and areas beyond [`MOST`](Self::MOST), are left out.
    #[expect(clippy::disallowed_methods, reason = "the list has its memory in itself")]
    pub fn parse(text: &str) -> Self {
        text.split(',').filter_map(AreaAddress::parse).collect()
    }

    /// The areas in their order.
    pub fn iter(&self) -> impl Iterator<Item = AreaAddress> {
        self.list.into_iter().flatten()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// The first [`Areas::MOST`] of them.
impl FromIterator<AreaAddress> for Areas {
    fn from_iter<I: IntoIterator<Item = AreaAddress>>(areas: I) -> Self {
        let mut list = [None; Self::MOST];
        for (slot, area) in list.iter_mut().zip(areas) {
            *slot = Some(area);
        }
        Self { list }
    }
}

impl fmt::Display for Areas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, area) in self.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{area}")?;
        }
        Ok(())
    }
}

/// What becomes of a dump in an area that no host has collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uncollected {
    /// It stays, and the new dump goes to another area, or nowhere: of two crashes in a row the first is told.
    #[default]
    Keep,
    /// The new dump replaces it.
    Discard,
}

impl Uncollected {
    const DISCARD: &str = "discard";

    /// Reads a word; any other than `discard` keeps.
    pub(crate) fn parse(text: &str) -> Self {
        if text == Self::DISCARD { Self::Discard } else { Self::Keep }
    }
}

impl fmt::Display for Uncollected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keep => "keep",
            Self::Discard => Self::DISCARD,
        })
    }
}
