//! How a function's requests are translated: root and context tables, and in scalable mode PASID directories and tables.

use super::format::Format;
use super::stage::Stage;
use super::{ADDRESS, Layout, PRESENT, READ, Tables, WRITE, device};

/// How the requests of a function are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By these page tables.
    Stage(Stage),
    /// Not at all: pass-through.
    Untranslated,
}

impl Tables<'_> {
    /// How requests of the function `source` without a PASID are translated; `None` if the unit refuses them all.
    pub(crate) fn way(&self, source: u16) -> Option<Way> {
        let at = match (self.context_entry(source), self.root.layout) {
            (None, Layout::Devices { .. }) => return Some(Way::Untranslated),
            (entry, _) => entry?,
        };
        match self.root.layout {
            Layout::Legacy => legacy_way(self.word(at)?, self.word(at + 8)?),
            Layout::Scalable => self.way_of_pasid(at),
            Layout::Devices { .. } => device::way(self.word(at)?),
        }
    }

    /// The domain of a function that AMD's unit translates for (section 2.2.2.1).
    pub(crate) fn domain(&self, source: u16) -> Option<u16> {
        let is_translated = matches!(self.way(source), Some(Way::Stage(_)));
        let entry = self.context_entry(source).filter(|_| is_translated)?;
        Some(self.word(entry + 8)? as u16)
    }

    /// Whether the tables speak of a function. Those that have no valid entry in a device table pass untranslated.
    pub(crate) fn names(&self, source: u16) -> bool {
        let entry = self.context_entry(source).and_then(|at| self.word(at));
        !self.is_of_amd() || entry.is_some_and(device::is_valid)
    }

    /// Whether a device table has an entry for a function; other tables may have one for each.
    pub(crate) fn has_place_for(&self, source: u16) -> bool {
        !self.is_of_amd() || self.context_entry(source).is_some()
    }

    /// The functions for which there are entries, and whose requests are not all refused.
    pub(crate) fn functions(&self) -> Vec<u16> {
        let buses = (0..=u16::MAX).step_by(0x100).filter(|&bus| {
            // In scalable mode, the other half of a bus has a table of its own.
            [bus, bus | 0x80].into_iter().any(|source| self.context_entry(source).is_some())
        });
        let functions = buses.flat_map(|bus| bus..=bus | 0xff);
        functions
            .filter(|&source| self.context_entry(source).is_some() && self.way(source).is_some())
            .collect()
    }

    /// Addresses of the page tables' entries on the way from a function's I/O address to its page.
    pub(crate) fn path(&self, source: u16, iova: u64) -> Vec<u64> {
        match self.way(source) {
            Some(Way::Stage(stage)) => self.path_of(stage, iova),
            _ => Vec::new(),
        }
    }

    /// How many I/O addresses go through each entry of [`Tables::path`].
    pub(crate) fn covered(&self, source: u16, iova: u64) -> Vec<u64> {
        match self.way(source) {
            Some(Way::Stage(stage)) => self.covered_by(stage, iova),
            _ => Vec::new(),
        }
    }

    /// Address of the function's context entry (root entries: sections 9.1 and 9.2 of the VT-d specification), or of its device table
    /// entry.
    pub(crate) fn context_entry(&self, source: u16) -> Option<u64> {
        if let Layout::Devices { frames } = self.root.layout {
            return device::entry(self.root.address, frames, source);
        }
        let (bus, function) = (u64::from(source >> 8), u64::from(source & 0xff));
        let root_entry = self.root.address + bus * 16;
        let (half, index, size) = if self.root.layout == Layout::Scalable {
            (function / 128, function % 128, 32)
        } else {
            (0, function, 16)
        };
        let entry = self.word(root_entry + half * 8)?;
        (entry & PRESENT != 0).then_some((entry & ADDRESS) + index * size)
    }

    /// A scalable-mode context entry and the PASID entry of its RID_PASID (sections 9.4 to 9.6).
    fn way_of_pasid(&self, context: u64) -> Option<Way> {
        let (directory, rid) = (self.word(context)?, self.word(context + 8)?);
        if directory & PRESENT == 0 {
            return None;
        }
        let pasid = rid & 0xf_ffff;
        // PDTS, bits 11:9: the directory has 2^(PDTS + 7) entries, each for 64 PASIDs.
        if pasid >> 6 >= 1 << ((directory >> 9 & 7) + 7) {
            return None;
        }
        let table = self.word((directory & ADDRESS) + (pasid >> 6) * 8)?;
        if table & PRESENT == 0 {
            return None;
        }
        let entry = (table & ADDRESS) + (pasid & 63) * 64;
        pasid_way(self.word(entry)?, self.word(entry + 16)?)
    }
}

/// A legacy-mode context entry (section 9.3): translation type in bits 3:2, width in bits 66:64.
fn legacy_way(low: u64, high: u64) -> Option<Way> {
    if low & PRESENT == 0 {
        return None;
    }
    match low >> 2 & 3 {
        0 | 1 => Some(Way::Stage(Stage::second(low & ADDRESS, high & 7))),
        2 => Some(Way::Untranslated),
        _ => None,
    }
}

/// The first and the third word of a PASID entry (section 9.6): translation type in bits 8:6, the second stage's width in
/// bits 4:2, the first stage's in bits 131:130.
fn pasid_way(low: u64, first_stage: u64) -> Option<Way> {
    if low & PRESENT == 0 {
        return None;
    }
    match low >> 6 & 7 {
        1 => {
            let levels = 4 + (first_stage >> 2 & 3) as u32;
            let (address, rights) = (first_stage & ADDRESS, READ | WRITE);
            Some(Way::Stage(Stage { address, levels, format: Format::First, rights }))
        }
        2 => Some(Way::Stage(Stage::second(low & ADDRESS, low >> 2 & 7))),
        4 => Some(Way::Untranslated),
        // Nested translation (3) is what no Linux of the bench makes.
        _ => None,
    }
}
