//! Walks the tables of one stage from the root down.

use machine::{IoAddress, Level, OldMemory, PhysicalAddress, Position, Range};
use vtd::first_stage::FirstStageEntry;
use vtd::second_stage::SecondStageEntry;

use crate::budget::{Budget, Spent};
use crate::piece::{Piece, Rights, Target};
use crate::{Obstacle, Privilege, Tables, UnitSetup};

/// The root of page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root {
    /// Address of the root table; a guest address for a nested first stage.
    pub address: PhysicalAddress,
    /// Its level.
    pub top: Level,
}

/// The format of tables, and what their addresses mean.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    /// First-stage tables. Their addresses are physical, or go through the second stage beneath.
    First {
        /// The privilege of the requests.
        privilege: Privilege,
        /// The second stage.
        beneath: Option<Root>,
    },
    /// Second-stage tables.
    Second,
}

/// A table that a walk has reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    address: PhysicalAddress,
    level: Level,
    /// First I/O address that the table translates.
    start: IoAddress,
    /// What all entries above the table allow.
    rights: Rights,
}

/// What an entry says.
enum Step {
    Absent,
    ReservedBits,
    Table { address: PhysicalAddress, rights: Rights },
    Page { address: PhysicalAddress, rights: Rights },
}

impl Node {
    /// The table at the root, which translates from address 0 on.
    pub(crate) fn root(root: Root) -> Self {
        Self { address: root.address, level: root.top, start: IoAddress::default(), rights: Rights::ALL }
    }
}

/// A walk through the tables of one stage.
pub(crate) struct Walk<'w, 'm, M> {
    pub(crate) tables: &'w Tables<'m, M>,
    pub(crate) stage: Stage,
    pub(crate) budget: &'w mut Budget,
    pub(crate) visit: &'w mut dyn FnMut(Piece),
}

impl<M: OldMemory> Walk<'_, '_, M> {
    /// Reports where all addresses `within` lead that this table translates.
    ///
    /// Goes no deeper than the level of the table, whatever the entries say.
    pub(crate) fn descend(&mut self, node: &Node, within: Range<IoAddress>) -> Result<(), Spent> {
        let covered = node.level.table_span(node.start).intersection(within);
        if covered.is_empty() {
            return Ok(());
        }
        self.budget.take()?;
        let table = match self.host_table(node)? {
            Ok(table) => table,
            Err(obstacle) => {
                self.tell(covered, Target::Obstacle(obstacle));
                return Ok(());
            }
        };
        let entries = node.level.index(covered.start)..=node.level.index(last_of(covered));
        for index in entries {
            let start = node.level.address_at(node.start, index);
            let entry = Entry { range: node.level.entry_span(start), level: node.level };
            self.enter(&entry, self.step(table[index], node), within)?;
        }
        Ok(())
    }

    /// Reads a table, whose address may be a guest address.
    fn host_table(&mut self, node: &Node) -> Result<Result<machine::Table, Obstacle>, Spent> {
        let address = match self.stage {
            Stage::First { beneath: Some(second), .. } => {
                match self.tables.host_page(second, guest(node.address), self.budget)? {
                    Ok(address) => address,
                    Err(obstacle) => return Ok(Err(obstacle)),
                }
            }
            _ => node.address,
        };
        Ok(self.tables.table(address))
    }

    /// Follows one entry.
    fn enter(&mut self, entry: &Entry, step: Step, within: Range<IoAddress>) -> Result<(), Spent> {
        let covered = entry.range.intersection(within);
        match (step, entry.level.below()) {
            (Step::ReservedBits, _) => self.tell(covered, Target::Obstacle(Obstacle::ReservedBits)),
            (Step::Page { address, rights }, _) => {
                let address = address.saturating_add(covered.start.count_since(entry.range.start));
                return self.tell_page(covered, address, rights, entry.level);
            }
            (Step::Table { address, rights }, Some(level)) => {
                return self.descend(&Node { address, level, start: entry.range.start, rights }, within);
            }
            // An entry of level 1 is a page.
            (Step::Absent, _) | (Step::Table { .. }, None) => {}
        }
        Ok(())
    }

    /// Reports a page, or the host pages that the second stage translates it to.
    fn tell_page(
        &mut self,
        iova: Range<IoAddress>,
        address: PhysicalAddress,
        rights: Rights,
        level: Level,
    ) -> Result<(), Spent> {
        let Stage::First { beneath: Some(second), .. } = self.stage else {
            self.tell(iova, Target::Memory { address, rights, level: Some(level) });
            return Ok(());
        };
        let visit = &mut *self.visit;
        let address = guest(address);
        let mut both = |piece: Piece| {
            visit(Piece {
                iova: iova.start.saturating_add(piece.iova.count_since(address)),
                target: restricted(piece.target, rights, level),
                ..piece
            });
        };
        let within = Range::new(address, address.saturating_add(iova.len()));
        let mut walk =
            Walk { tables: self.tables, stage: Stage::Second, budget: self.budget, visit: &mut both };
        walk.descend(&Node::root(second), within)
    }

    fn tell(&mut self, iova: Range<IoAddress>, target: Target) {
        (self.visit)(Piece { iova: iova.start, len: iova.len(), target });
    }

    fn step(&self, word: u64, node: &Node) -> Step {
        match self.stage {
            Stage::First { privilege, .. } => {
                first_stage_step(FirstStageEntry(word), node, privilege, self.tables.unit)
            }
            Stage::Second => second_stage_step(SecondStageEntry(word), node, self.tables.unit),
        }
    }
}

/// Converts a guest's physical address into an I/O address of the second stage beneath.
fn guest(address: PhysicalAddress) -> IoAddress {
    IoAddress::new(address.get())
}

/// The last address of a range that is not empty.
fn last_of(range: Range<IoAddress>) -> IoAddress {
    IoAddress::new(range.end.get() - 1)
}

/// The part of the address space that an entry translates.
struct Entry {
    range: Range<IoAddress>,
    level: Level,
}

/// Limits a target to the rights of both stages and the smaller of both pages.
fn restricted(target: Target, by: Rights, first: Level) -> Target {
    match target {
        Target::Memory { address, rights, level } => {
            let level = level.map_or(first, |second| second.min(first));
            Target::Memory { address, rights: rights.and(by), level: Some(level) }
        }
        same @ Target::Obstacle(_) => same,
    }
}

fn second_stage_step(entry: SecondStageEntry, node: &Node, unit: UnitSetup) -> Step {
    let level = node.level;
    let rights = node.rights.and(Rights { read: entry.readable(), write: entry.writable(), user: true });
    if rights.is_none() {
        return Step::Absent;
    }
    if entry.reserved_bits(level, unit.host_address_bits, unit.capability) != 0 {
        return Step::ReservedBits;
    }
    let address = entry.address();
    if entry.is_leaf(level) { Step::Page { address, rights } } else { Step::Table { address, rights } }
}

fn first_stage_step(entry: FirstStageEntry, node: &Node, privilege: Privilege, unit: UnitSetup) -> Step {
    let level = node.level;
    if !entry.present() {
        return Step::Absent;
    }
    if entry.reserved_bits(level, unit.host_address_bits, unit.capability) != 0 {
        return Step::ReservedBits;
    }
    let rights = node.rights.and(first_stage_rights(entry, privilege));
    if entry.is_leaf(level) {
        Step::Page { address: entry.page(level), rights }
    } else {
        Step::Table { address: entry.address(), rights }
    }
}

/// What a present entry allows (3.6.1).
fn first_stage_rights(entry: FirstStageEntry, privilege: Privilege) -> Rights {
    let write = entry.writable();
    match privilege {
        Privilege::User => Rights { read: true, write, user: entry.user() },
        Privilege::Supervisor => Rights::ALL,
        Privilege::BoundSupervisor => Rights { write, ..Rights::ALL },
    }
}
