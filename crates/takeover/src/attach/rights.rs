//! Gives a driver's device all rights, and no more rights to what the old kernel mapped.
//!
//! An entry of AMD-Vi's device table may let its device only read, or only write, whatever its tables allow (IR, IW; 2.2.2.1). A
//! driver needs both, while its device keeps its domain with all translations in force. So the restriction moves from the device's
//! entry into the root table of its domain, which is the device's own by then: hardware combines the rights of all levels (2.2.3).
//! First both restrict, which changes no answer; when nothing of before is cached, the entry restricts no more. The driver's
//! mappings go below entries of the root table that were absent.

use machine::{Clock, Frames, Registers, SourceId};
use paging::Format;

use super::Takeover;
use crate::command::Scope;
use crate::entry::Rights;
use crate::failure::AttachError;
use crate::found::Context;

impl<R: Registers, C: Clock> Takeover<'_, R, C> {
    /// Moves what restricts the devices of a domain, `source` and its aliases, from their entries into the domain's root table.
    ///
    /// Fails where tables cannot say it: the devices' rights differ; guest tables have no right to read that could be taken away; or
    /// a device has guest tables besides, whose walks a restriction of the host's tables would hinder.
    pub(super) fn lift_restriction(
        &mut self,
        source: SourceId,
        domain: usize,
        frames: &mut impl Frames,
    ) -> Result<(), AttachError> {
        let is_member = |context: &&Context| context.domain == Some(domain);
        let mut found = self.contexts.iter().filter(is_member).map(|it| self.unit.rights(it.source, frames));
        let rights = found.next().unwrap_or(Rights::ALL);
        let is_alike = found.all(|other| other == rights);
        if is_alike && rights == Rights::ALL {
            return Ok(());
        }
        let has_guests = |context: &Context| context.pasid.is_some() || context.entry.is_nested();
        let is_simple = self.domains[domain].format == Format::AmdV1
            && !self.contexts.iter().filter(is_member).any(has_guests);
        if !is_alike || !is_simple {
            return Err(AttachError::Restricted(source));
        }
        self.domains[domain].restrict(rights, frames);
        self.unit.entries_changed(Scope::Domain(self.domains[domain].id), frames)?;
        for context in self.contexts.iter().filter(is_member) {
            self.unit.allow_all(context.source, frames)?;
        }
        Ok(())
    }
}
