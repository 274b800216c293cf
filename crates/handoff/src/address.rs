//! Where on a disk the dump area is.

use core::fmt;

use uuid::Uuid;

use crate::options::number;

/// A dump area on some disk, written `UUID[@OFFSET]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AreaAddress {
    /// The UUID of its label.
    pub uuid: Uuid,
    /// The offset of its label on the disk, in bytes.
    pub offset: u64,
}

impl AreaAddress {
    /// Reads `UUID[@OFFSET]`. Without an offset the area begins at the start of the disk.
    ///
    /// An unreadable offset makes the whole text unreadable: the area must not become another part of the disk.
    pub fn parse(text: &str) -> Option<Self> {
        let (uuid, offset) = text.split_once('@').unwrap_or((text, "0"));
        Some(Self { uuid: Uuid::try_parse(uuid).ok()?, offset: number(offset)? })
    }
}

impl fmt::Display for AreaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.uuid, self.offset)
    }
}
