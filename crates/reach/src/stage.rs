//! Walks the tables of one stage from the root down.

use machine::{IoAddress, Level, OldMemory, Permission, PhysicalAddress, Position, Range};
use paging::{Format, PageEntry, Rules, Step};
use vtd::first_stage::FirstStageEntry;

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

impl Node {
    /// The table at the root, which translates from address 0 on, for requesters whose entry allows this.
    pub(crate) fn root(root: Root, rights: Rights) -> Self {
        Self { address: root.address, level: root.top, start: IoAddress::default(), rights }
    }
}

/// A walk through the tables of one stage.
pub(crate) struct Walk<'w, 'm, M> {
    tables: &'w Tables<'m, M>,
    stage: Stage,
    /// The format of the tables.
    format: Format,
    /// What the unit accepts in their entries.
    rules: Rules,
    budget: &'w mut Budget,
    visit: &'w mut dyn FnMut(Piece),
}

impl<'w, 'm, M: OldMemory> Walk<'w, 'm, M> {
    /// A walk through tables of this stage, which tells `visit` what it finds.
    pub(crate) fn new(
        tables: &'w Tables<'m, M>,
        stage: Stage,
        budget: &'w mut Budget,
        visit: &'w mut dyn FnMut(Piece),
    ) -> Self {
        let UnitSetup { registers, host_address_bits } = tables.unit;
        let (first, second) = registers.formats();
        let format = match stage {
            Stage::First { .. } => first,
            Stage::Second => second,
        };
        let rules = Rules::new(format, host_address_bits, registers.architecture());
        Self { tables, stage, format, rules, budget, visit }
    }

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
            let range = node.level.entry_span(start);
            self.enter(self.format.entry(table[index]), index, range, node, within)?;
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

    /// Follows the entry at `index` of a table, which translates the addresses of `range`.
    fn enter(
        &mut self,
        entry: PageEntry,
        index: usize,
        range: Range<IoAddress>,
        node: &Node,
        within: Range<IoAddress>,
    ) -> Result<(), Spent> {
        let covered = range.intersection(within);
        let rights = node.rights.and(self.rights(entry));
        if rights.is_none() {
            return Ok(());
        }
        match self.rules.step(entry, node.level) {
            Step::Absent => {}
            Step::Malformed => self.tell(covered, Target::Obstacle(Obstacle::ReservedBits)),
            Step::Page(page) => {
                let start = page.part(node.level, index).start;
                let address = start.saturating_add(covered.start.count_since(range.start));
                return self.tell_page(covered, address, rights, node.level);
            }
            Step::Table { table: address, level } => {
                return self.descend(&Node { address, level, start: range.start, rights }, within);
            }
        }
        Ok(())
    }

    /// What an entry allows.
    fn rights(&self, entry: PageEntry) -> Rights {
        match self.stage {
            Stage::First { privilege, .. } => first_stage_rights(FirstStageEntry(entry.bits), privilege),
            Stage::Second => {
                let allows = |permission| entry.allows(permission);
                Rights { read: allows(Permission::Read), write: allows(Permission::Write), user: true }
            }
        }
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
        let mut walk = Walk::new(self.tables, Stage::Second, self.budget, &mut both);
        walk.descend(&Node::root(second, Rights::ALL), within)
    }

    fn tell(&mut self, iova: Range<IoAddress>, target: Target) {
        (self.visit)(Piece { iova: iova.start, len: iova.len(), target });
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

/// What a present entry allows (3.6.1).
fn first_stage_rights(entry: FirstStageEntry, privilege: Privilege) -> Rights {
    let write = entry.writable();
    match privilege {
        Privilege::User => Rights { read: true, write, user: entry.user() },
        Privilege::Supervisor => Rights::ALL,
        Privilege::BoundSupervisor => Rights { write, ..Rights::ALL },
    }
}
