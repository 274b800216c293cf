//! Lists the pages of old memory that may change while Holdover runs: those into which devices write, and those that
//! the unit itself writes.

use std::collections::HashSet;

use super::tables::Tables;
use crate::machines::ram::Page;

/// Accessed and dirty, which the unit sets in first-stage entries (VT-d specification, section 9.7).
const NOTES: u64 = 1 << 5 | 1 << 6;

/// Pages that may change, by address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writable {
    /// By devices, and in any way.
    by_devices: HashSet<u64>,
    /// First-stage tables, in which the unit notes what is used.
    by_unit: HashSet<u64>,
}

impl Writable {
    /// The pages that the dead kernel's tables let devices write. Untranslated requests may go anywhere, so for them only
    /// the pages count that the trace shows in use: their I/O addresses are physical ones.
    pub(crate) fn of(dead: &Tables, used: &HashSet<u64>) -> Self {
        let by_devices = &dead.writable_pages() | used;
        Self { by_devices, by_unit: dead.noted_pages() }
    }

    /// The same, and these pages, which Holdover has to change where they are.
    pub(crate) fn and_pages(mut self, pages: impl Iterator<Item = u64>) -> Self {
        self.by_devices.extend(pages);
        self
    }

    /// Whether a device may write into a page.
    pub(crate) fn by_devices(&self, address: u64) -> bool {
        self.by_devices.contains(&address)
    }

    /// Whether a page may have become `after`.
    pub(crate) fn explains(&self, address: u64, before: &Page, after: &Page) -> bool {
        self.by_devices(address) || self.by_unit.contains(&address) && same_but_for_notes(before, after)
    }
}

fn same_but_for_notes(before: &Page, after: &Page) -> bool {
    let entries = |page: &Page| {
        page.as_chunks::<8>().0.iter().map(|entry| u64::from_le_bytes(*entry) | NOTES).collect::<Vec<_>>()
    };
    entries(before) == entries(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_stage_table_may_get_used_bits_and_nothing_else() {
        let writable = Writable { by_unit: HashSet::from([0x1000]), ..Writable::default() };
        let before = [0; 4096];
        let with = |byte| {
            let mut after = before;
            after[8] = byte;
            after
        };
        assert!(writable.explains(0x1000, &before, &with(0x60)));
        assert!(!writable.explains(0x1000, &before, &with(0x61)));
        assert!(!writable.explains(0x2000, &before, &with(0x60)));
    }

    #[test]
    fn a_page_of_a_device_may_change_in_any_way() {
        let writable = Writable { by_devices: HashSet::from([0x1000]), ..Writable::default() };
        assert!(writable.explains(0x1000, &[0; 4096], &[7; 4096]));
    }
}
