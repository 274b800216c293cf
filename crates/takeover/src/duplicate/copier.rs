//! Copying the tables of one domain.

use alloc::vec::Vec;

use machine::{ENTRIES, Frames, IoAddress, Level, OldMemory, PhysicalAddress, Range};
use paging::{Page, PageEntry, Rules, Step};

use super::survey::Block;
use crate::attach::Inherited;
use crate::copies::Copies;
use crate::domain::Domain;
use crate::found::Translation;
use crate::hazard::{Danger, HazardPlace, Hazards, Outcome};
use crate::identity::{Identity, IdentityMap};
use crate::own::OwnMemory;
use crate::plan::Treatment;
use crate::table::copy_table;

/// Copies the tables of one domain.
pub(super) struct Copier<'a, M, F> {
    pub(super) old: &'a M,
    pub(super) frames: &'a mut F,
    pub(super) hazards: &'a mut Hazards,
    pub(super) own: OwnMemory<'a>,
    /// The smallest aligned block around the capture kernel's memory.
    pub(super) own_block: Block,
    pub(super) rules: Rules,
    /// How many frames this domain must leave unused.
    pub(super) spare: usize,
    /// How many frames it must leave unused even where a table more is what it takes to cut something out of its tables
    /// and keep the rest.
    pub(super) spare_for_cuts: usize,
    pub(super) treatment: Treatment,
    /// How many more tables may be checked without being copied, over all domains.
    pub(super) looks_left: &'a mut u32,
    /// Maps that replace pass-through: of other units, and of domains before this one.
    pub(super) known_maps: &'a [IdentityMap],
    pub(super) new_maps: &'a mut Vec<IdentityMap>,
    /// The table of all domains that map nothing.
    pub(super) empty_table: Option<PhysicalAddress>,
    pub(super) copies: Copies,
    /// Tables that were checked in place.
    pub(super) kept: Copies,
    /// Tables that there was no frame for, in which something must be cut out.
    pub(super) lost: Copies,
    pub(super) domain: Domain,
}

/// A well-formed entry that names a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Branch {
    pub(super) entry: PageEntry,
    pub(super) table: PhysicalAddress,
    /// Level of the table that the entry is in.
    pub(super) above: Level,
    /// Level of the table that it names.
    pub(super) level: Level,
    /// The first address that both translate.
    pub(super) iova: IoAddress,
}

impl<M: OldMemory, F: Frames> Copier<'_, M, F> {
    /// Carries the domain over as the plan says.
    pub(super) fn carry_over_domain(&mut self, translation: Translation, identity: &Identity<'_>) {
        match (self.treatment, translation) {
            (Treatment::Share, _) => self.share_empty_table(),
            (Treatment::Block, Translation::Tables(root)) => self.block(root),
            (Treatment::Block, Translation::Identity) => self.block_memory(identity),
            (_, Translation::Tables(root)) => self.copy_from(root),
            (_, Translation::Identity) => self.map_memory(identity),
        }
    }

    fn share_empty_table(&mut self) {
        (self.domain.root, self.domain.root_is_shared) = (self.empty_table, true);
        if self.empty_table.is_none() {
            self.note(self.whole(), Danger::OverBudget, Outcome::Blocked);
        }
    }

    /// Notes what the domain takes over, for the device that is attached to it.
    pub(super) fn note_inheritance(&mut self) {
        let translates = self.domain.root.is_some();
        self.domain.inherited = if translates { Inherited::Tables } else { Inherited::Addresses };
    }

    fn copy_from(&mut self, root: PhysicalAddress) {
        match self.copy(root, self.domain.top, IoAddress::new(0)) {
            Ok(frame) => self.domain.root = Some(frame),
            Err(Danger::OverBudget) => self.block(root),
            Err(danger) => self.note(self.whole(), danger, Outcome::Blocked),
        }
    }

    /// All I/O addresses of the domain.
    pub(super) fn whole(&self) -> Range<IoAddress> {
        self.domain.top.table_span(IoAddress::new(0))
    }

    /// Copies a table, which translates the addresses from `base`, and all below it; returns the copy.
    pub(super) fn copy(
        &mut self,
        table: PhysicalAddress,
        level: Level,
        base: IoAddress,
    ) -> Result<PhysicalAddress, Danger> {
        if let Some(copy) = self.copies.find(table, level) {
            // Does not walk the table again: tables that share all they can would take exponential time. Reserving
            // too much is safe.
            self.domain.space.reserve(level.table_span(base));
            return Ok(copy);
        }
        self.check_budget()?;
        let copy = copy_table(table, self.old, self.frames, self.own)?;
        self.domain.tables += 1;
        match level.below() {
            None => self.check_leaves(copy, base),
            Some(_) => self.carry_over_entries(copy, level, base, self.treatment),
        };
        if matches!(self.treatment, Treatment::Keep { .. }) {
            self.note_kept_below(copy, level, base);
        }
        self.frames.publish(copy, 0..ENTRIES);
        self.copies.remember(table, level, copy);
        Ok(copy)
    }

    /// Reads an entry of a table in a frame of ours.
    pub(super) fn entry(&self, table: PhysicalAddress, index: usize) -> PageEntry {
        self.domain.format.entry(self.frames.table(table)[index])
    }

    pub(super) fn check_budget(&self) -> Result<(), Danger> {
        if self.frames.available() > self.spare { Ok(()) } else { Err(Danger::OverBudget) }
    }

    /// Gives each present entry of a copied table its new form. Returns whether each translates as before, in the tables
    /// that it named before.
    pub(super) fn carry_over_entries(
        &mut self,
        copy: PhysicalAddress,
        level: Level,
        base: IoAddress,
        treatment: Treatment,
    ) -> bool {
        let (mut next, mut same) = (0, true);
        while let Some(index) = self.domain.format.next_present(self.frames.table(copy), next) {
            let (entry, iova) = (self.entry(copy, index), level.address_at(base, index));
            let kept = self.carry_over(entry, level, index, iova, treatment);
            self.frames.table_mut(copy)[index] = kept.bits;
            same &= kept.unmarked() == entry.unmarked();
            next = index + 1;
        }
        same
    }

    /// Turns a present entry above level 1 into its new form.
    fn carry_over(
        &mut self,
        entry: PageEntry,
        level: Level,
        index: usize,
        iova: IoAddress,
        treatment: Treatment,
    ) -> PageEntry {
        let kept = match self.rules.step(entry, level) {
            Step::Absent => Ok(entry),
            Step::Malformed => Err(Danger::ReservedBits),
            Step::Page(page) => self.carry_page(entry, page, level, index, iova),
            Step::Table { table, level: below } => {
                self.carry_table(Branch { entry, table, above: level, level: below, iova }, treatment)
            }
        };
        kept.unwrap_or_else(|danger| {
            self.cut(level.entry_span(iova), danger);
            self.domain.format.blocked()
        })
    }

    /// Turns a well-formed entry that names a table into its new form.
    fn carry_table(&mut self, branch: Branch, treatment: Treatment) -> Result<PageEntry, Danger> {
        match treatment {
            Treatment::Compact { .. } => self.compact(branch),
            Treatment::Keep { .. } => self.keep_or_copy(branch),
            _ => match self.copy(branch.table, branch.level, branch.iova) {
                Ok(copy) => Ok(branch.entry.with_table(copy).unmarked()),
                Err(Danger::OverBudget) => self.keep(branch),
                Err(danger) => Err(danger),
            },
        }
    }

    /// Turns a well-formed leaf above level 1 into its new form.
    ///
    /// Where its page is shared with other entries and some of that is ours, the leaf gets a page of its own first: hardware may
    /// use each of these entries for all of the page.
    fn carry_page(
        &mut self,
        leaf: PageEntry,
        page: Page,
        level: Level,
        index: usize,
        iova: IoAddress,
    ) -> Result<PageEntry, Danger> {
        let target = page.part(level, index);
        let is_ours = page.is_shared(level) && self.own.touches(page.memory());
        let leaf = if is_ours { leaf.as_leaf_of(level, level, target.start) } else { leaf };
        self.carry_large(leaf, target, level, iova)
    }

    /// Turns a leaf above level 1, which maps `target`, into its new form.
    fn carry_large(
        &mut self,
        leaf: PageEntry,
        target: Range<PhysicalAddress>,
        level: Level,
        iova: IoAddress,
    ) -> Result<PageEntry, Danger> {
        if self.own.covers(target) {
            self.domain.fenced += 1;
            return Err(Danger::ReachesOwnMemory(target.start));
        }
        match level.below() {
            Some(below) if self.own.touches(target) => self.split(leaf, target.start, level, below, iova),
            _ => {
                self.domain.leaves += 1;
                self.domain.space.reserve(level.entry_span(iova));
                Ok(leaf)
            }
        }
    }

    /// Replaces a large leaf, which maps the memory from `start`, by a table of smaller leaves, without those that reach our memory.
    fn split(
        &mut self,
        leaf: PageEntry,
        start: PhysicalAddress,
        level: Level,
        below: Level,
        iova: IoAddress,
    ) -> Result<PageEntry, Danger> {
        if self.frames.available() <= self.spare_for_cuts {
            return Err(Danger::OverBudget);
        }
        let table = self.frames.allocate().ok_or(Danger::OverBudget)?;
        for (index, slot) in self.frames.table_mut(table).iter_mut().enumerate() {
            let target = start.saturating_add(index as u64 * below.span());
            *slot = leaf.as_leaf_of(level, below, target).bits;
        }
        match below.below() {
            None => self.check_leaves(table, iova),
            Some(_) => self.carry_over_entries(table, below, iova, self.treatment),
        };
        self.frames.publish(table, 0..ENTRIES);
        Ok(self.domain.format.table(table, below))
    }

    /// Notes that these I/O addresses are no longer translated; they stay reserved.
    pub(super) fn cut(&mut self, iova: Range<IoAddress>, danger: Danger) {
        self.domain.space.reserve(iova);
        let lost = danger == Danger::OverBudget;
        self.note(iova, danger, if lost { Outcome::Blocked } else { Outcome::Fenced });
    }

    pub(super) fn note(&mut self, iova: Range<IoAddress>, danger: Danger, outcome: Outcome) {
        self.domain.outcome = self.domain.outcome.max(outcome);
        self.hazards.note(HazardPlace::Domain { id: self.domain.id, iova }, danger, outcome);
    }
}
