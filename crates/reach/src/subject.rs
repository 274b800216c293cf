//! Subjects: the requesters that an entry of the tables covers, one or many.

use machine::{Requester, SourceId};

use crate::{Binding, Obstacle};

/// The requesters that an entry covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// All devices of the unit.
    Unit,
    /// Devices of a bus, from this one to the end of its context table.
    Bus(SourceId),
    /// A device's PASIDs from this one on: 64 of them, or all that a page of the directory covers.
    Pasids(Requester),
    /// One requester.
    Requester(Requester),
}

/// A callback that receives the binding or the obstacle of each subject.
pub(crate) type Visit<'v> = dyn FnMut(Subject, Result<Binding, Obstacle>) + 'v;
