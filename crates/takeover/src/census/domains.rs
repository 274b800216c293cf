//! Which domains there are.

use alloc::vec::Vec;

use super::Domain;
use crate::growth::{OutOfMemory, insert, push};
use crate::hazard::{Danger, Hazards, Outcome, Place};
use crate::ids::DomainIds;

/// How many domains whose id was taken get another; devices of more are blocked.
const RENAMED: usize = 64;

/// The domains met so far. All ids of the old kernel are marked before the first is entered.
pub(super) struct Domains {
    pub(super) ids: DomainIds,
    pub(super) list: Vec<Domain>,
    /// Old domain-id and index in the list; ascending.
    by_id: Vec<(u16, usize)>,
    /// The same for domains whose id was taken by another translation.
    renamed: Vec<(u16, usize)>,
}

impl Domains {
    /// For a unit with this many domain-ids.
    pub(super) fn new(ids: u32) -> Result<Self, OutOfMemory> {
        let ids = DomainIds::new(ids)?;
        Ok(Self { ids, list: Vec::new(), by_id: Vec::new(), renamed: Vec::new() })
    }

    /// Finds or makes the domain with this id and this translation.
    pub(super) fn enter(
        &mut self,
        domain: Domain,
        place: Place,
        hazards: &mut Hazards,
    ) -> Result<Option<usize>, OutOfMemory> {
        match self.by_id.binary_search_by_key(&domain.id, |known| known.0) {
            Ok(at) if self.is(self.by_id[at].1, &domain) => Ok(Some(self.by_id[at].1)),
            Ok(_) => self.enter_renamed(domain, place, hazards),
            Err(at) => {
                insert(&mut self.by_id, at, (domain.id, self.list.len()))?;
                self.append(domain).map(Some)
            }
        }
    }

    /// Cached translations are told apart by domain-id alone (6.2), so two translations under one id would be mixed
    /// up: the later one gets an id that nobody uses.
    fn enter_renamed(
        &mut self,
        domain: Domain,
        place: Place,
        hazards: &mut Hazards,
    ) -> Result<Option<usize>, OutOfMemory> {
        let shared = Danger::DomainIdShared(domain.id);
        if let Some(known) =
            self.renamed.iter().find(|known| known.0 == domain.id && self.is(known.1, &domain))
        {
            return Ok(Some(known.1));
        }
        let unused = if self.renamed.len() < RENAMED { self.ids.take_unused() } else { None };
        let Some(id) = unused else {
            hazards.note(place, shared, Outcome::Blocked);
            return Ok(None);
        };
        hazards.note(place, shared, Outcome::Duplicated);
        push(&mut self.renamed, (domain.id, self.list.len()))?;
        self.append(Domain { id, ..domain }).map(Some)
    }

    fn append(&mut self, domain: Domain) -> Result<usize, OutOfMemory> {
        push(&mut self.list, domain)?;
        Ok(self.list.len() - 1)
    }

    fn is(&self, index: usize, domain: &Domain) -> bool {
        let known = &self.list[index];
        known.translation == domain.translation && known.width == domain.width
    }
}
