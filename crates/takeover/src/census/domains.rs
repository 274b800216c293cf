//! The domains of a unit, found from its contexts: one for each domain-id and translation.

use alloc::vec::Vec;

use vtd::stage::Stage;

use crate::found::{OldDomain, Translation};
use crate::hazard::{Danger, HazardPlace, Hazards, Outcome};
use crate::ids::DomainIds;
use machine::growth::{OutOfMemory, insert, push};

/// How many domains whose id was taken get another; devices of more are blocked.
const RENAMED: usize = 64;

/// What hardware tells cached translations apart by (6.2.1): the domain-id alone for second-stage tables, the PASID too
/// for first-stage tables.
type Tag = (u16, Option<u32>);

/// The domains met so far. All ids of the old kernel are marked before the first is entered.
pub(super) struct Domains {
    pub(super) ids: DomainIds,
    pub(super) list: Vec<OldDomain>,
    /// Which domain of the list has a tag of the old kernel's; ascending.
    by_tag: Vec<(Tag, usize)>,
    /// Domains of the list that kept their id; ascending by id and translation.
    kept: Vec<(u16, Translation, usize)>,
    /// Old domain-id and index of domains whose id was taken by another translation.
    renamed: Vec<(u16, usize)>,
}

impl Domains {
    /// For a unit with this many domain-ids.
    pub(super) fn new(ids: u32) -> Result<Self, OutOfMemory> {
        let ids = DomainIds::new(ids)?;
        Ok(Self { ids, list: Vec::new(), by_tag: Vec::new(), kept: Vec::new(), renamed: Vec::new() })
    }

    /// Finds or makes the domain with this id and this translation, whose requests hardware caches under `pasid`.
    pub(super) fn enter(
        &mut self,
        domain: OldDomain,
        pasid: u32,
        place: HazardPlace,
        hazards: &mut Hazards,
    ) -> Result<Option<usize>, OutOfMemory> {
        let tag = (domain.id, Some(pasid).filter(|_| domain.format.stage == Stage::First));
        match self.owner(tag) {
            Some(index) if self.is(index, &domain) => Ok(Some(index)),
            Some(_) => self.enter_renamed(domain, place, hazards),
            None => {
                let index = self.find_or_append(domain)?;
                let at = self.by_tag.partition_point(|known| known.0 < tag);
                insert(&mut self.by_tag, at, (tag, index))?;
                Ok(Some(index))
            }
        }
    }

    /// The domain whose cached translations would be taken for those with this tag. Second-stage tables share their
    /// domain-id with no other, first-stage tables with those of other PASIDs (6.2.3.1).
    fn owner(&self, tag: Tag) -> Option<usize> {
        let at = |tag: Tag| {
            let known = self.by_tag.get(self.by_tag.partition_point(|known| known.0 < tag))?;
            Some(*known).filter(|known| known.0.0 == tag.0)
        };
        let exact = at(tag).filter(|known| tag.1.is_none() || known.0 == tag);
        let second_stage = at((tag.0, None)).filter(|known| known.0.1.is_none());
        exact.or(second_stage).map(|known| known.1)
    }

    /// The domain with this translation that kept this id, which may be known under another PASID.
    fn find_or_append(&mut self, domain: OldDomain) -> Result<usize, OutOfMemory> {
        let key = (domain.id, domain.translation);
        let at = self.kept.partition_point(|known| (known.0, known.1) < key);
        let same =
            |known: &&(u16, Translation, usize)| (known.0, known.1) == key && self.is(known.2, &domain);
        if let Some(known) = self.kept.get(at).filter(same) {
            return Ok(known.2);
        }
        insert(&mut self.kept, at, (key.0, key.1, self.list.len()))?;
        self.append(domain)
    }

    /// Two translations under one tag would be mixed up by hardware's caches: the later one gets an id that nobody
    /// uses.
    fn enter_renamed(
        &mut self,
        domain: OldDomain,
        place: HazardPlace,
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
        self.append(OldDomain { id, ..domain }).map(Some)
    }

    fn append(&mut self, domain: OldDomain) -> Result<usize, OutOfMemory> {
        push(&mut self.list, domain)?;
        Ok(self.list.len() - 1)
    }

    fn is(&self, index: usize, domain: &OldDomain) -> bool {
        let known = &self.list[index];
        (known.translation, known.format) == (domain.translation, domain.format)
    }
}
