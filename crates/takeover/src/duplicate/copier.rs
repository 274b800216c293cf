//! Copying the tables of one domain.

use alloc::vec::Vec;

use machine::{ENTRIES, Frames, IoAddress, Level, OldMemory, PhysicalAddress, Range};
use vtd::stage::{PageEntry, ReservedBits};

use super::survey::Block;
use crate::attach::Inherited;
use crate::copies::Copies;
use crate::domain::Domain;
use crate::found::Translation;
use crate::hazard::{Danger, HazardPlace, Hazards, Outcome};
use crate::identity::{Identity, IdentityMap};
use crate::mark::Mark;
use crate::own::OwnMemory;
use crate::plan::Treatment;
use crate::tables::copy_table;

/// Copies the tables of one domain.
pub(super) struct Copier<'a, M, F> {
    pub(super) old: &'a M,
    pub(super) frames: &'a mut F,
    pub(super) hazards: &'a mut Hazards,
    pub(super) own: OwnMemory<'a>,
    /// The smallest aligned block around the capture kernel's memory.
    pub(super) own_block: Block,
    pub(super) reserved: ReservedBits,
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
            Some(below) => self.carry_over_entries(copy, level, below, base, self.treatment),
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
        self.domain.stage.entry(self.frames.table(table)[index])
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
        below: Level,
        base: IoAddress,
        treatment: Treatment,
    ) -> bool {
        let (mut next, mut same) = (0, true);
        while let Some(index) = self.domain.stage.next_present(self.frames.table(copy), next) {
            let (entry, iova) = (self.entry(copy, index), level.address_at(base, index));
            let kept = self.carry_over(entry, level, below, iova, treatment);
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
        below: Level,
        iova: IoAddress,
        treatment: Treatment,
    ) -> PageEntry {
        let kept = if self.reserved.set_in(entry, level) != 0 {
            Err(Danger::ReservedBits)
        } else if entry.is_leaf(level) {
            self.carry_large(entry, level, iova)
        } else {
            self.carry_table(entry, below, iova, treatment)
        };
        kept.unwrap_or_else(|danger| {
            self.cut(level.entry_span(iova), danger);
            self.domain.stage.blocked()
        })
    }

    /// Turns a well-formed entry that names a table of this level into its new form.
    fn carry_table(
        &mut self,
        entry: PageEntry,
        level: Level,
        iova: IoAddress,
        treatment: Treatment,
    ) -> Result<PageEntry, Danger> {
        match treatment {
            Treatment::Compact { .. } => self.compact(entry, level, iova),
            Treatment::Keep { .. } => self.keep_or_copy(entry, level, iova),
            _ => match self.copy(entry.table(), level, iova) {
                Ok(copy) => Ok(entry.with_table(copy).unmarked()),
                Err(Danger::OverBudget) => self.keep(entry, level, iova),
                Err(danger) => Err(danger),
            },
        }
    }

    /// Turns a well-formed leaf above level 1 into its new form.
    fn carry_large(&mut self, leaf: PageEntry, level: Level, iova: IoAddress) -> Result<PageEntry, Danger> {
        let target = leaf.target(level);
        if self.own.covers(target) {
            self.domain.fenced += 1;
            return Err(Danger::ReachesOwnMemory(target.start));
        }
        match level.below() {
            Some(below) if self.own.touches(target) => self.split(leaf, level, below, iova),
            _ => {
                self.domain.leaves += 1;
                self.domain.space.reserve(level.entry_span(iova));
                Ok(leaf)
            }
        }
    }

    /// Replaces a large leaf by a table of smaller leaves, without those that reach our memory.
    fn split(
        &mut self,
        leaf: PageEntry,
        level: Level,
        below: Level,
        iova: IoAddress,
    ) -> Result<PageEntry, Danger> {
        if self.frames.available() <= self.spare_for_cuts {
            return Err(Danger::OverBudget);
        }
        let table = self.frames.allocate().ok_or(Danger::OverBudget)?;
        for (index, slot) in self.frames.table_mut(table).iter_mut().enumerate() {
            let target = leaf.page(level).saturating_add(index as u64 * below.span());
            *slot = leaf.as_leaf_of(level, below, target).bits;
        }
        match below.below() {
            None => self.check_leaves(table, iova),
            Some(lowest) => self.carry_over_entries(table, below, lowest, iova, self.treatment),
        };
        self.frames.publish(table, 0..ENTRIES);
        Ok(self.domain.stage.table(table))
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
