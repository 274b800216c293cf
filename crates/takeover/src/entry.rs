//! The entry that decides how a device's requests are translated, of either architecture; where it is; and what it is linked to.

use machine::{Frames, Level, Permission, PhysicalAddress};
use paging::{Format, PageEntry};

use crate::{amdvi, vtd};

/// An entry that decides how requests are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A context or PASID table entry of VT-d.
    Vtd(vtd::entry::Entry),
    /// A device table entry of AMD-Vi, or an entry of a guest's CR3 table.
    AmdVi(amdvi::entry::Entry),
}

impl Entry {
    /// Domain-id.
    pub const fn domain(&self) -> u16 {
        match self {
            Self::Vtd(entry) => entry.domain(),
            Self::AmdVi(entry) => entry.domain(),
        }
    }

    /// Whether the addresses of requests without PASID belong to a guest, whose tables come before those of ours.
    pub(crate) const fn is_of_guest(&self) -> bool {
        match self {
            Self::Vtd(entry) => entry.is_nested(),
            Self::AmdVi(entry) => entry.is_of_guest(),
        }
    }

    /// Whether the PASIDs of the device are known to its guest alone, whose tables for them are not read.
    pub(crate) const fn hides_pasids(&self) -> bool {
        match self {
            // A PASID directory is the host's (VT-d, 9.4).
            Self::Vtd(_) => false,
            Self::AmdVi(entry) => entry.is_nested(),
        }
    }

    /// Whether there are tables that belong to a guest: other tables, of ours, then translate the addresses of those and of all
    /// that they map.
    pub const fn is_nested(&self) -> bool {
        match self {
            Self::Vtd(entry) => entry.is_nested(),
            Self::AmdVi(entry) => entry.is_nested(),
        }
    }
}

/// What an entry lets its device do, whatever tables allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Rights {
    pub(crate) const ALL: Self = Self { read: true, write: true };

    /// An entry of a table that allows no more, below which nothing is.
    pub(crate) const fn entry(self, format: Format) -> PageEntry {
        let permission = match (self.read, self.write) {
            (true, true) => Permission::ReadWrite,
            (true, false) => Permission::Read,
            (false, true) => Permission::Write,
            (false, false) => return format.blocked(),
        };
        format.leaf(Level::ONE, PhysicalAddress::new(0), permission)
    }
}

/// Where an entry is in frames of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) table: PhysicalAddress,
    /// First word.
    pub(crate) word: usize,
}

/// Tables of our own that an entry can name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) format: Format,
    pub(crate) root: PhysicalAddress,
    /// Level of the root table.
    pub(crate) top: Level,
    /// Domain-id.
    pub(crate) id: u16,
}

impl Slot {
    /// Writes an entry that hardware does not use yet.
    pub(crate) fn fill(self, words: &[u64], frames: &mut impl Frames) {
        frames.table_mut(self.table)[self.word..self.word + words.len()].copy_from_slice(words);
    }

    /// Stores and publishes the words of an entry that hardware may be reading. The first word, which says whether the others
    /// count, comes last.
    pub(crate) fn store(self, words: &[u64], frames: &mut impl Frames) {
        for (offset, word) in words.iter().enumerate().rev() {
            let at = self.word + offset;
            if offset == 0 {
                frames.publish(self.table, at + 1..at + words.len());
            }
            frames.store(self.table, at, *word);
        }
        frames.publish(self.table, self.word..self.word + 1);
    }
}
