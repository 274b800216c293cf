//! The two moments that are drawn, and what of a domain is to be seen at each.

use crate::values::{Domain, Mapping};

/// Most of the old kernel's mappings of a domain that are shown.
pub(super) const MOST: usize = 6;

/// A moment that is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// The kernel has just died.
    Before,
    /// The takeover is done.
    After,
}

/// A mapping as it is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) mapping: &'a Mapping,
    pub(super) state: RowState,
}

/// What a mapping is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowState {
    /// The driver's.
    New,
    /// The old kernel's, and leads where it led.
    InForce,
    /// The old kernel's, and does not.
    Broken,
}

impl Moment {
    /// Whether one of the old kernel's mappings leads where it is said to.
    pub(super) fn is_in_force(self, mapping: &Mapping) -> bool {
        match self {
            Self::Before => mapping.before,
            Self::After => mapping.after,
        }
    }

    /// Mappings by address: new ones stand where they are in the address space.
    pub(super) fn rows(self, domain: &Domain) -> Vec<Row<'_>> {
        let old = domain.old.iter().take(MOST).map(|mapping| {
            let state = if self.is_in_force(mapping) { RowState::InForce } else { RowState::Broken };
            Row { mapping, state }
        });
        let new = domain.new.iter().filter(|_| self == Self::After);
        let mut rows: Vec<_> = old.chain(new.map(|mapping| Row { mapping, state: RowState::New })).collect();
        rows.sort_by_key(|row| row.mapping.iova.start);
        rows
    }
}
