//! Finds the domains of a unit from its contexts: one domain for each pair of domain-id and translation.

use alloc::vec::Vec;

use crate::found::{OldDomain, Translation};
use crate::hazard::{Danger, HazardPlace, Hazards, Outcome};
use crate::ids::DomainIds;
use machine::growth::{OutOfMemory, insert, push};

/// How many domains get another id because theirs was taken. Any further domain's devices are blocked.
const RENAMED: usize = 64;

/// The tag of cached translations in hardware (6.2.1): the domain-id alone for second-stage tables, domain-id and
/// PASID for first-stage tables.
type Tag = (u16, Option<u32>);

/// The domains found so far. All ids of the old kernel are marked as used before the first domain is entered.
pub(crate) struct Domains {
    pub(crate) ids: DomainIds,
    pub(crate) list: Vec<OldDomain>,
    /// Index of the domain that has each of the old kernel's tags; ascending by tag.
    by_tag: Vec<(Tag, usize)>,
    /// Indices of the domains that kept their id; ascending by id and translation.
    kept: Vec<(u16, Translation, usize)>,
    /// Old domain-ids and indices of the domains that got another id because a different translation had theirs.
    renamed: Vec<(u16, usize)>,
}

impl Domains {
    /// Makes an empty list for a unit with `ids` domain-ids.
    pub(super) fn new(ids: u32) -> Result<Self, OutOfMemory> {
        let ids = DomainIds::new(ids)?;
        Ok(Self { ids, list: Vec::new(), by_tag: Vec::new(), kept: Vec::new(), renamed: Vec::new() })
    }

    /// Finds or adds the domain with this id and this translation, whose requests hardware caches under `pasid`.
    pub(crate) fn enter(
        &mut self,
        domain: OldDomain,
        pasid: u32,
        place: HazardPlace,
        hazards: &mut Hazards,
    ) -> Result<Option<usize>, OutOfMemory> {
        let tag = (domain.id, Some(pasid).filter(|_| domain.layout.format.is_tagged_by_pasid()));
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

    /// The domain whose cached translations hardware would use for this tag. Second-stage tables share their
    /// domain-id with no other tables, first-stage tables only with those of other PASIDs (6.2.3.1).
    fn owner(&self, tag: Tag) -> Option<usize> {
        let at = |tag: Tag| {
            let known = self.by_tag.get(self.by_tag.partition_point(|known| known.0 < tag))?;
            Some(*known).filter(|known| known.0.0 == tag.0)
        };
        let exact = at(tag).filter(|known| tag.1.is_none() || known.0 == tag);
        let second_stage = at((tag.0, None)).filter(|known| known.0.1.is_none());
        exact.or(second_stage).map(|known| known.1)
    }

    /// The domain with this translation that kept this id. It may have been entered under another PASID.
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

    /// Enters a domain under an unused id. Hardware's caches would mix up two translations under one tag, so the
    /// later one gets another id.
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
        (known.translation, known.layout) == (domain.translation, domain.layout)
    }
}
