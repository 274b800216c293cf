//! What entries of first and second stage have in common, and the widths of their tables (3.6, 3.7).

use machine::Level;

use crate::address_reserved;

/// PS, in entries of either stage above level 1: the entry maps a page and names no table.
pub(crate) const PAGE_SIZE: u64 = 1 << 7;
/// The address field of entries of either stage, as wide as any host's address can be.
pub(crate) const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// Whether an entry of either stage maps memory, at this level, rather than naming a table.
pub(crate) const fn is_leaf(entry: u64, level: Level) -> bool {
    level.number() == 1 || entry & PAGE_SIZE != 0
}

/// Address bits beyond the `haw` physical address bits of the machine: in entries of either stage that name tables,
/// these are the only reserved bits.
pub(crate) const fn beyond(haw: u32) -> u64 {
    address_reserved(haw) & ADDRESS
}

/// AW: width code of second-stage tables in context and PASID entries (9.3, 9.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressWidth(pub u8);

impl AddressWidth {
    /// Three levels.
    pub const BITS_39: Self = Self(1);
    /// Four levels.
    pub const BITS_48: Self = Self(2);
    /// Five levels.
    pub const BITS_57: Self = Self(3);

    /// Level of the root table; `None` for codes that no current unit supports (30 and 64 bits are obsolete).
    pub const fn top(self) -> Option<Level> {
        match self {
            Self::BITS_39 => Some(Level::THREE),
            Self::BITS_48 => Some(Level::FOUR),
            Self::BITS_57 => Some(Level::FIVE),
            _ => None,
        }
    }

    /// The width of tables whose root is of this level; the default, which no unit supports, for levels that have none.
    pub const fn of(top: Level) -> Self {
        match top {
            Level::THREE => Self::BITS_39,
            Level::FOUR => Self::BITS_48,
            Level::FIVE => Self::BITS_57,
            _ => Self(0),
        }
    }

    /// Bits of an address that these tables translate.
    pub const fn bits(self) -> Option<u32> {
        match self.top() {
            Some(level) => Some(level.width()),
            None => None,
        }
    }
}

machine::code!(AddressWidth);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_name_the_levels_of_the_specification() {
        assert_eq!(AddressWidth::BITS_39.bits(), Some(39));
        assert_eq!(AddressWidth::BITS_48.bits(), Some(48));
        assert_eq!(AddressWidth::BITS_57.bits(), Some(57));
        assert_eq!(AddressWidth(0).top(), None);
        assert_eq!(AddressWidth(7).top(), None);
        for width in [AddressWidth::BITS_39, AddressWidth::BITS_48, AddressWidth::BITS_57] {
            assert_eq!(width.top().map(AddressWidth::of), Some(width));
        }
        assert_eq!(AddressWidth::of(Level::SIX).top(), None);
    }
}
