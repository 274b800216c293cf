//! The tables of a unit of either architecture, as one reads them without caches.

use crate::amdvi::walk::Bases;
use crate::answer::{Access, Answer, Requester};
use crate::reached::{Reached, Rights};
use crate::{amdvi, vtd};
use ::vtd::control::RootTableAddress;
use machine::{Level, PhysicalAddress};

/// Where the tables of a unit are, and what else decides how it translates.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Base {
    Vtd(RootTableAddress),
    AmdVi(Bases),
}

impl Base {
    /// The root table, or the device table.
    pub(crate) fn address(self) -> PhysicalAddress {
        match self {
            Self::Vtd(root) => root.address(),
            Self::AmdVi(bases) => bases.address(),
        }
    }
}

/// The tables of a unit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tables<'a> {
    Vtd(vtd::walk::Walker<'a>),
    AmdVi(amdvi::walk::Walker<'a>),
}

/// What tells translations apart: the domain-id, the tables of both stages, and what the entry that names them allows.
pub(crate) type Identity = (u16, [Option<(PhysicalAddress, Level)>; 2], Rights);

impl Tables<'_> {
    /// The cold answer to an access.
    pub(crate) fn answer(&self, access: Access) -> Answer {
        match self {
            Self::Vtd(walker) => walker.answer(access),
            Self::AmdVi(walker) => walker.answer(access),
        }
    }

    /// All requesters that have a well-formed entry.
    pub(crate) fn requesters(&self) -> Vec<Requester> {
        match self {
            Self::Vtd(walker) => walker.requesters(),
            Self::AmdVi(walker) => walker.requesters(),
        }
    }

    /// All memory that a requester reaches.
    pub(crate) fn reach(&self, requester: Requester) -> Vec<Reached> {
        match self {
            Self::Vtd(walker) => walker.reach(requester),
            Self::AmdVi(walker) => walker.reach(requester),
        }
    }

    /// Everything that any requester reaches and `is_wanted` selects.
    pub(crate) fn reach_of_all(&self, is_wanted: impl Fn(&Reached) -> bool) -> Vec<Reached> {
        match self {
            Self::Vtd(walker) => walker.reach_of_all(is_wanted),
            Self::AmdVi(walker) => walker.reach_of_all(is_wanted),
        }
    }

    /// What tells the requester's translations from others'; `None` if it has none.
    pub(crate) fn identity(&self, requester: Requester) -> Option<Identity> {
        match self {
            Self::Vtd(walker) => walker.identity(requester),
            Self::AmdVi(walker) => walker.identity(requester),
        }
    }
}
