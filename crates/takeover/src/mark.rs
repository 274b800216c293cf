//! The takeover's mark on page-table entries that name a table which the domain uses but does not own.

use vtd::stage::PageEntry;

/// One of the bits 61:52, which hardware ignores in both formats at every level (9.7, 9.8).
const MARK: u64 = 1 << 55;

/// Marks page-table entries without changing what they translate.
pub(crate) trait Mark {
    /// The same entry with the mark.
    fn marked(self) -> Self;
    /// The same entry without the mark.
    fn unmarked(self) -> Self;
    /// Whether the entry has the mark.
    fn is_marked(&self) -> bool;
}

impl Mark for PageEntry {
    fn marked(self) -> Self {
        self.stage.entry(self.bits | MARK)
    }

    fn unmarked(self) -> Self {
        self.stage.entry(self.bits & !MARK)
    }

    fn is_marked(&self) -> bool {
        self.bits & MARK != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vtd::stage::Stage;

    /// Bits 61:52 are ignored by both formats (`VTD_FS_UPPER_IGNORED` and `VTD_SL_IGN_COM` of QEMU).
    #[test]
    fn the_mark_is_in_a_bit_that_hardware_ignores() {
        for stage in [Stage::First, Stage::Second] {
            let mark = stage.blocked().marked().bits;
            assert_eq!(mark & 0x3FF0_0000_0000_0000, mark);
            assert!(stage.entry(mark).is_marked() && !stage.entry(mark | 3).unmarked().is_marked());
            assert!(!stage.entry(mark).present());
        }
    }
}
