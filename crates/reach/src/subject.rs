//! What an entry of the tables is about: a requester, or many of them.

use vtd::source::{Requester, SourceId};

use crate::{Binding, Obstacle};

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// All devices of the unit.
    Unit,
    /// Devices of a bus, from this one up to the end of its context table.
    Bus(SourceId),
    /// A device's PASIDs from this one on, 64 of them or those that a page of the directory speaks for.
    Pasids(Requester),
    /// One requester.
    Requester(Requester),
}

/// Takes what is said of each place.
pub(crate) type Visit<'v> = dyn FnMut(Subject, Result<Binding, Obstacle>) + 'v;
