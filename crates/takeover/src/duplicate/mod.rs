//! Copies page tables: each table is copied into a frame of our own, checked there, and linked to the copies of the
//! tables below it.
//!
//! A table that one domain uses twice is copied once. Two domains never share a copy, even if the old kernel's did: a
//! later mapping for a device of one domain must not appear in the other.
//!
//! A copy equals the original bit for bit, but for the addresses of tables and these exceptions, each noted as a
//! hazard: entries with reserved bits (their requests faulted), tables that cannot be read or lie in our memory, and
//! mappings that reach our memory. A large page that only touches our memory is split, and only the part inside is
//! cut out.

mod compact;
mod copier;
mod keep;
mod leaves;
mod memory;
mod outline;
mod survey;

use alloc::vec::Vec;

use machine::{Frames, OldMemory};
use paging::Rules;

use crate::census::Census;
use crate::copies::Copies;
use crate::domain::Domain;
use crate::found::Context;
use crate::hazard::{HazardPlace, Hazards, Outcome};
use crate::identity::{Identity, IdentityMap};
use crate::ids::DomainIds;
use crate::plan::{Plan, Treatment};
use crate::resources::Resources;
use crate::sources::Sources;
use crate::surroundings::Limits;
use crate::table::new_table;
use copier::Copier;
use machine::growth::{OutOfMemory, push};
use survey::Block;

/// A second set of tables that translates as the old one does.
#[derive(Debug)]
pub(crate) struct Duplicate {
    /// Present entries, by source-id.
    pub(crate) contexts: Vec<Context>,
    /// Domains, in the census's order.
    pub(crate) domains: Vec<Domain>,
    /// Hazards that were found.
    pub(crate) hazards: Hazards,
    /// The domain of devices that are in no list of contexts, if there are any.
    pub(crate) of_unlisted: Option<usize>,
    pub(crate) ids: DomainIds,
    /// Devices whose requests without PASID were translated, nobody knows how.
    pub(crate) unknown: Sources,
    /// Maps that replace pass-through, which other units may use too.
    pub(crate) maps: Vec<IdentityMap>,
}

/// Copies the tables of each domain as the plan says and publishes the copies; the unit does not know of them yet.
pub(crate) fn duplicate<M: OldMemory, F: Frames>(
    census: Census,
    plan: &Plan,
    resources: &mut Resources<'_, M, F>,
) -> Result<Duplicate, OutOfMemory> {
    let Resources { old, ref mut frames, surroundings, limits } = *resources;
    let architecture = census.architecture;
    let own = surroundings.own_memory();
    let mut hazards = census.hazards;
    let mut domains: Vec<Domain> = Vec::new();
    let mut looks_left = limits.looks;
    let mut maps = Vec::new();
    let shares = plan.treatments.contains(&Treatment::Share);
    let empty_table = if shares { new_table(*frames) } else { None };
    let mut for_later = plan.frames(&census.domains);
    for (found, treatment) in census.domains.iter().zip(&plan.treatments) {
        for_later = for_later.saturating_sub(treatment.frames(found));
        let spare = spare(*treatment, *frames, limits);
        let mut copier = Copier {
            old,
            frames: *frames,
            own,
            own_block: Block::around(own.hull()),
            hazards: &mut hazards,
            rules: Rules::new(found.layout.format, surroundings.host_address_bits, architecture),
            spare,
            spare_for_cuts: spare.min(limits.spare_frames.saturating_add(for_later)),
            treatment: *treatment,
            looks_left: &mut looks_left,
            known_maps: surroundings.maps,
            new_maps: &mut maps,
            empty_table,
            copies: Copies::default(),
            kept: Copies::default(),
            lost: Copies::default(),
            domain: Domain::empty(found.id, found.layout, architecture, limits.reserved_ranges)?,
        };
        copier.carry_over_domain(
            found.translation,
            &Identity::new(surroundings, found.layout.format, architecture),
        );
        copier.note_inheritance();
        push(&mut domains, copier.domain)?;
    }
    let Census { contexts, of_unlisted, ids, unknown, .. } = census;
    if let Some(domain) = of_unlisted.and_then(|index| domains.get_mut(index)) {
        domain.has_unlisted = true;
    }
    let mut copy = Duplicate { contexts, domains, hazards, of_unlisted, ids, unknown, maps };
    copy.name_lost_devices();
    Ok(copy)
}

/// How many frames a domain must leave unused.
fn spare(treatment: Treatment, frames: &impl Frames, limits: &Limits) -> usize {
    match treatment {
        Treatment::Compact { frames: share } | Treatment::Keep { frames: share } => {
            frames.available().saturating_sub(share)
        }
        _ => limits.spare_frames,
    }
}

impl Duplicate {
    /// Names each device whose domain is blocked under another id than its entry had: by the id alone, nobody would know that a
    /// hazard of the domain's is the device's.
    fn name_lost_devices(&mut self) {
        for context in &self.contexts {
            let domain = context.domain.and_then(|index| self.domains.get(index));
            let lost = domain.filter(|domain| domain.root.is_none() && domain.id != context.entry.domain());
            let Some(danger) = lost.and_then(|domain| self.hazards.danger_of_domain(domain.id)) else {
                continue;
            };
            self.hazards.note(HazardPlace::Device(context.source), danger, Outcome::Blocked);
        }
    }

    /// How many page tables were copied.
    pub(crate) fn page_tables(&self) -> u64 {
        self.domains.iter().map(|domain| domain.tables).sum()
    }
}
