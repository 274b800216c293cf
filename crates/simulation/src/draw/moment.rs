//! The two moments that are drawn, and what is drawn of a domain at each.

use crate::values::{Domain, Mapping};

/// The most old mappings of a domain that are drawn.
pub(super) const MOST: usize = 6;

/// A moment that is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// The kernel has just died.
    Before,
    /// The takeover is done.
    After,
}

/// A mapping as a line of a picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) mapping: &'a Mapping,
    pub(super) state: RowState,
}

/// The state of a mapping at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowState {
    /// The driver's mapping.
    New,
    /// The old kernel's mapping, which leads where it led.
    InForce,
    /// The old kernel's mapping, which no longer does.
    Broken,
}

impl Moment {
    /// Whether one of the old kernel's mappings leads where the old kernel pointed it.
    pub(super) fn is_in_force(self, mapping: &Mapping) -> bool {
        match self {
            Self::Before => mapping.before,
            Self::After => mapping.after,
        }
    }

    /// Sorts mappings by address: new ones appear at their place in the address space.
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
