//! Makes the tables that replace pass-through.

use machine::{ENTRIES, Frames, IoAddress, Level, OldMemory, Permission, PhysicalAddress};
use paging::PageEntry;

use super::copier::Copier;
use crate::hazard::{Danger, Outcome};
use crate::identity::{Identity, IdentityMap, Piece, same_addresses};
use machine::growth::push;

impl<M: OldMemory, F: Frames> Copier<'_, M, F> {
    /// Makes the tables that replace pass-through.
    pub(super) fn map_memory(&mut self, identity: &Identity<'_>) {
        self.reserve_memory(identity);
        let shape = identity.shape(self.domain.format, self.domain.top);
        match self.known_maps.iter().chain(&*self.new_maps).find(|map| map.shape == shape) {
            Some(map) => {
                (self.domain.root, self.domain.leaves) = (Some(map.root), map.leaves);
                self.domain.root_is_shared = true;
            }
            None => self.make_map(identity),
        }
        let whole = self.whole();
        for (memory, own) in self.own.0.iter().map(|own| (own, same_addresses(*own))) {
            if own.overlaps(whole) {
                let danger = Danger::ReachesOwnMemory(memory.start);
                self.note(own.intersection(whole), danger, Outcome::Fenced);
            }
        }
        for (memory, addresses) in identity.in_use().iter().map(|memory| (memory, same_addresses(*memory))) {
            if addresses.overlaps(whole) {
                let danger = Danger::ReachesMemoryInUse(memory.start);
                self.note(addresses.intersection(whole), danger, Outcome::Fenced);
            }
        }
        for left_out in identity.left_out().iter().filter(|range| range.overlaps(whole)) {
            self.note(left_out.intersection(whole), Danger::NoMemory, Outcome::Fenced);
        }
    }

    /// Makes a map, and lets other domains share it if it is complete.
    fn make_map(&mut self, identity: &Identity<'_>) {
        let root = match self.map_pieces(identity, self.domain.top, IoAddress::new(0)) {
            Ok(root) => root,
            Err(danger) => return self.note(self.whole(), danger, Outcome::Blocked),
        };
        self.domain.root = Some(root);
        if self.domain.outcome == Outcome::Duplicated {
            let shape = identity.shape(self.domain.format, self.domain.top);
            let map = IdentityMap { shape, root, leaves: self.domain.leaves };
            self.domain.root_is_shared = push(self.new_maps, map).is_ok();
        }
    }

    /// Reserves the addresses of everything that is there, or may be, against new mappings.
    fn reserve_memory(&mut self, identity: &Identity<'_>) {
        identity.ranges().for_each(|range| self.domain.space.reserve(range));
        self.domain.space.reserve(identity.crowded(self.domain.space.window().end));
    }

    /// Makes no tables, but reserves the addresses of memory.
    pub(super) fn block_memory(&mut self, identity: &Identity<'_>) {
        self.reserve_memory(identity);
        self.note(self.whole(), Danger::OverBudget, Outcome::Blocked);
    }

    /// Makes the table of an identity map that covers the addresses from `base`, and all tables below it.
    fn map_pieces(
        &mut self,
        identity: &Identity<'_>,
        level: Level,
        base: IoAddress,
    ) -> Result<PhysicalAddress, Danger> {
        self.check_budget()?;
        let table = self.frames.allocate().ok_or(Danger::OverBudget)?;
        self.domain.tables += 1;
        for index in 0..ENTRIES {
            let entry = self.map_piece(identity, level, level.address_at(base, index));
            self.frames.table_mut(table)[index] = entry.bits;
        }
        self.frames.publish(table, 0..ENTRIES);
        Ok(table)
    }

    fn map_piece(&mut self, identity: &Identity<'_>, level: Level, base: IoAddress) -> PageEntry {
        match identity.piece(level, base) {
            Piece::Nothing => self.domain.format.blocked(),
            Piece::Leaf => {
                self.domain.leaves += 1;
                self.domain.format.leaf(level, PhysicalAddress::new(base.get()), Permission::ReadWrite)
            }
            Piece::Table(below) => match self.map_pieces(identity, below, base) {
                Ok(table) => self.domain.format.table(table, below),
                Err(danger) => {
                    self.cut(level.entry_span(base), danger);
                    self.domain.format.blocked()
                }
            },
        }
    }
}
