//! Subjects: the requesters that an entry of the tables covers, one or many.

use core::ops::RangeInclusive;

use machine::{Requester, SourceId};

use crate::{Binding, Obstacle};

/// The requesters that an entry covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Devices with consecutive source-ids.
    Devices {
        /// The first of them.
        first: SourceId,
        /// The last of them.
        last: SourceId,
    },
    /// A device's PASIDs from this one on: all that an entry, or a page, of a directory covers.
    Pasids(Requester),
    /// One requester.
    Requester(Requester),
}

impl Subject {
    /// All devices of the unit.
    pub const ALL: Self = Self::Devices { first: SourceId(0), last: SourceId(u16::MAX) };

    pub(crate) const fn devices(sources: &RangeInclusive<SourceId>) -> Self {
        Self::Devices { first: *sources.start(), last: *sources.end() }
    }
}

/// A callback that receives the binding or the obstacle of each subject.
pub(crate) type Visit<'v> = dyn FnMut(Subject, Result<Binding, Obstacle>) + 'v;
