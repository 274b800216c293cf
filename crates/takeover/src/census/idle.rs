//! Domains that map nothing: Linux gives one to each device, and devices without a driver, such as most virtual
//! functions, leave theirs empty. One empty table serves all of them.

use machine::{Frames, Level, OldMemory, PhysicalAddress};
use paging::{Format, Step};

use super::Roll;
use crate::found::{OldDomain, Translation};
use crate::table::copy_table;

/// How many tables of a domain are searched for a mapping: devices that once worked leave empty tables of all levels.
const LOOKS: u32 = 64;

impl<M: OldMemory, F: Frames> Roll<'_, M, F> {
    /// Whether a domain, as far as can be seen, maps nothing. What cannot be read counts as a mapping.
    pub(crate) fn maps_nothing(&mut self, domain: &OldDomain) -> bool {
        match domain.translation {
            Translation::Tables(root) => {
                self.is_empty(root, domain.layout.format, domain.layout.top, &mut { LOOKS })
            }
            Translation::Identity => false,
        }
    }

    /// Whether a table, and all below it, map nothing; `left` more tables may be looked at.
    fn is_empty(&mut self, table: PhysicalAddress, format: Format, level: Level, left: &mut u32) -> bool {
        if *left == 0 {
            return false;
        }
        *left -= 1;
        let Ok(copy) = copy_table(table, self.old, self.frames, self.surroundings.own_memory()) else {
            return false;
        };
        let empty = self.has_empty_entries(copy, format, level, left);
        self.frames.release(copy);
        empty
    }

    fn has_empty_entries(
        &mut self,
        copy: PhysicalAddress,
        format: Format,
        level: Level,
        left: &mut u32,
    ) -> bool {
        let mut next = 0;
        while let Some(index) = format.next_present(self.frames.table(copy), next) {
            let entry = format.entry(self.frames.table(copy)[index]);
            let Step::Table { table, level: below } = entry.step(level) else { return false };
            if !self.is_empty(table, format, below, left) {
                return false;
            }
            next = index + 1;
        }
        true
    }
}
