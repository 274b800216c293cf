//! A domain with tables of our own, into which new mappings go.

use machine::{
    ENTRIES, Frames, IoAddress, Level, OldMemory, PAGE_SIZE, Permission, PhysicalAddress, Position, Range,
};
use paging::{Architecture, Format, Step};

use crate::attach::Inherited;
use crate::borrowed::Lender;
use crate::entry::{Link, Rights};
use crate::found::Layout;
use crate::hazard::{Danger, Outcome};
use crate::table::new_table;
use machine::growth::OutOfMemory;

/// A domain and its own tables.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or false independent of the others")]
pub(crate) struct Domain {
    /// Domain-id.
    pub(crate) id: u16,
    /// Format of the tables.
    pub(crate) format: Format,
    /// Level of the root table.
    pub(crate) top: Level,
    /// Root table; `None` while the domain is blocked.
    pub(crate) root: Option<PhysicalAddress>,
    /// Whether other domains use the root table too, perhaps of other units: then nobody writes it.
    pub(crate) root_is_shared: bool,
    /// What it took over from the old kernel.
    pub(crate) inherited: Inherited,
    /// I/O addresses: what the old kernel mapped is reserved.
    pub(crate) space: iova::Space,
    /// Addresses below tables that were kept in place: new mappings get them last.
    pub(crate) kept: iova::Space,
    /// Whether a present entry was replaced since the last invalidation.
    pub(crate) relinked: bool,
    /// Whether devices use it that are in no list of contexts.
    pub(crate) has_unlisted: bool,
    /// Whether the domain belongs to a driver's device and its aliases alone.
    pub(crate) given: bool,
    /// Page tables that were copied.
    pub(crate) tables: u64,
    /// Leaf entries that map something.
    pub(crate) leaves: u64,
    /// Leaf entries that were cut out.
    pub(crate) fenced: u64,
    /// What became of it.
    pub(crate) outcome: Outcome,
}

/// How many separate ranges of kept tables a domain remembers; beyond that, gaps between them count as kept.
const KEPT_RANGES: usize = 64;

/// Why a mapping cannot use the addresses that are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// No mapping fits at these addresses without changing what the old kernel mapped.
    Occupied(Range<IoAddress>),
    /// There are no frames for tables.
    OutOfFrames,
}

impl Domain {
    /// Makes a domain without tables. Its I/O addresses are those that its width and the unit can translate, without
    /// the first page: drivers and devices read address zero as "none".
    ///
    /// Addresses of first-stage tables are sign-extended (3.6), with or without PASID. Drivers get only those of the
    /// lower half, which look the same in tables, in devices and in logs. The specification does not apply MGAW to
    /// the first stage, but QEMU's unit takes it for the position of the sign.
    pub(crate) fn empty(
        id: u16,
        layout: Layout,
        architecture: Architecture,
        reserved_ranges: usize,
    ) -> Result<Self, OutOfMemory> {
        let Layout { format, top } = layout;
        let bits = top.width().min(architecture.address_bits());
        let bits = if format.extends_sign() { bits - 1 } else { bits };
        let end = 1u64.checked_shl(bits).unwrap_or(u64::MAX);
        let space = iova::Space::new(Range::from(PAGE_SIZE..end), reserved_ranges)?;
        let kept = iova::Space::new(space.window(), KEPT_RANGES)?;
        let outcome = Outcome::Duplicated;
        Ok(Self {
            id,
            format,
            top,
            root: None,
            root_is_shared: false,
            inherited: Inherited::Nothing,
            space,
            kept,
            relinked: false,
            has_unlisted: false,
            given: false,
            tables: 0,
            leaves: 0,
            fenced: 0,
            outcome,
        })
    }

    /// The same domain, for another unit that uses the same tables: nobody writes them for that unit's devices.
    pub(crate) fn lent(&self) -> Result<Self, OutOfMemory> {
        let (space, kept) = (self.space.twin()?, self.kept.twin()?);
        Ok(Self { space, kept, root_is_shared: true, relinked: false, given: false, ..*self })
    }

    /// Whether the domain uses the table of all domains that map nothing.
    pub(crate) fn maps_nothing(&self) -> bool {
        self.root_is_shared && self.leaves == 0
    }

    /// The root table; makes one if there is none.
    pub(crate) fn root_table(&mut self, frames: &mut impl Frames) -> Option<PhysicalAddress> {
        if self.root.is_none() {
            self.root = new_table(frames);
        }
        self.root
    }

    /// Lets the root table, which is this domain's own, allow no more than this of what it maps; new mappings go below other entries
    /// of it.
    pub(crate) fn restrict(&mut self, rights: Rights, frames: &mut impl Frames) {
        let Some(root) = self.root else { return };
        let most = rights.entry(self.format);
        for index in 0..ENTRIES {
            let entry = self.format.entry(frames.load(root, index));
            if entry.present() {
                frames.store(root, index, entry.restricted_by(most).bits);
                let start = self.top.address_at(IoAddress::new(0), index);
                self.space.reserve(self.top.entry_span(start));
            }
        }
        frames.publish(root, 0..ENTRIES);
    }

    /// What an entry needs to name these tables; `None` while there are none.
    pub(crate) fn link(&self) -> Option<Link> {
        Some(Link { format: self.format, root: self.root?, top: self.top, id: self.id })
    }

    /// Allocates I/O addresses; uses those below kept tables only if no others are free.
    pub(crate) fn allocate(&mut self, len: u64) -> Option<IoAddress> {
        let window = self.space.window();
        let mut start = window.start;
        for kept in self.kept.reserved() {
            let before = Range::new(start, kept.start);
            if let Some(found) = self.space.allocate(len, PAGE_SIZE, before) {
                return Some(found);
            }
            start = kept.end;
        }
        let after = self.space.allocate(len, PAGE_SIZE, Range::new(start, window.end));
        after.or_else(|| self.space.allocate(len, PAGE_SIZE, window))
    }

    /// Makes the tables that a mapping needs; changes no translation.
    pub(crate) fn prepare(
        &mut self,
        iova: Range<IoAddress>,
        permission: Permission,
        lender: &Lender<'_, impl OldMemory>,
        frames: &mut impl Frames,
    ) -> Result<(), Unfit> {
        for piece in pieces(iova) {
            let table = self.leaf_table(piece.start, permission, lender, frames)?;
            if indices(piece).any(|index| self.format.entry(frames.table(table)[index]).present()) {
                return Err(Unfit::Occupied(piece));
            }
        }
        Ok(())
    }

    /// Stores the leaves of a prepared mapping.
    pub(crate) fn fill(
        &mut self,
        iova: Range<IoAddress>,
        target: PhysicalAddress,
        permission: Permission,
        frames: &mut impl Frames,
    ) {
        for piece in pieces(iova) {
            let Some(table) = self.find_leaf_table(piece.start, frames) else { return };
            let first = target.saturating_add(piece.start.count_since(iova.start));
            let addresses = (0..).map(|page| first.saturating_add(page * PAGE_SIZE));
            for (index, address) in indices(piece).zip(addresses) {
                frames.store(table, index, self.format.leaf(Level::ONE, address, permission).bits);
            }
            frames.publish(table, indices(piece));
        }
    }

    /// Clears the leaves of a mapping; its tables stay for the next one.
    pub(crate) fn clear(&mut self, iova: Range<IoAddress>, frames: &mut impl Frames) {
        for piece in pieces(iova) {
            let Some(table) = self.find_leaf_table(piece.start, frames) else { continue };
            for index in indices(piece) {
                frames.store(table, index, self.format.blocked().bits);
            }
            frames.publish(table, indices(piece));
        }
    }

    /// Finds the table of level 1 for an address, if there is one.
    fn find_leaf_table(&self, iova: IoAddress, frames: &impl Frames) -> Option<PhysicalAddress> {
        let (mut table, mut level) = (self.root?, self.top);
        while level > Level::ONE {
            let entry = self.format.entry(frames.table(table)[level.index(iova)]);
            let next = match entry.step(level) {
                Step::Table { table, level: below } => (table, below),
                _ => return None,
            };
            if entry.is_marked() || !is_translated(iova, level, next.1) {
                return None;
            }
            (table, level) = next;
        }
        Some(table)
    }

    /// Finds the table of level 1 for an address, and makes missing tables on the way.
    fn leaf_table(
        &mut self,
        iova: IoAddress,
        permission: Permission,
        lender: &Lender<'_, impl OldMemory>,
        frames: &mut impl Frames,
    ) -> Result<PhysicalAddress, Unfit> {
        let mut table = self.root.ok_or(Unfit::OutOfFrames)?;
        let mut level = self.top;
        while let Some(below) = level.below() {
            let index = level.index(iova);
            let entry = self.format.entry(frames.table(table)[index]);
            (table, level) = match entry.step(level) {
                Step::Absent => {
                    let new = add_table(self.format, table, index, below, frames);
                    (new.ok_or(Unfit::OutOfFrames)?, below)
                }
                Step::Table { level: next, .. }
                    if !entry.allows(permission) || !is_translated(iova, level, next) =>
                {
                    return Err(occupied(iova, level));
                }
                Step::Table { level: next, .. } if entry.is_marked() => {
                    let copy =
                        self.relink(table, index, next, lender, frames).map_err(|danger| match danger {
                            Danger::OverBudget => Unfit::OutOfFrames,
                            _ => occupied(iova, level),
                        });
                    (copy?, next)
                }
                Step::Table { table, level: next } => (table, next),
                Step::Page(_) | Step::Malformed => return Err(occupied(iova, level)),
            };
        }
        Ok(table)
    }

    /// Makes the marked entry at `index` name a copy of its table, which is of level `below`.
    ///
    /// Without a mark, a present entry above level 1 points to a table that only this domain uses: a copy, or one
    /// that was made here. A marked entry points to a [borrowed](crate::borrowed) table, which others use too.
    fn relink(
        &mut self,
        table: PhysicalAddress,
        index: usize,
        below: Level,
        lender: &Lender<'_, impl OldMemory>,
        frames: &mut impl Frames,
    ) -> Result<PhysicalAddress, Danger> {
        let entry = self.format.entry(frames.table(table)[index]);
        let copy = lender.copy(entry.address(), below, frames)?;
        frames.store(table, index, entry.with_table(copy).unmarked().bits);
        frames.publish(table, index..index + 1);
        self.relinked = true;
        Ok(copy)
    }
}

/// Reports that the addresses around `iova` that one entry of this level covers are in use.
fn occupied(iova: IoAddress, level: Level) -> Unfit {
    Unfit::Occupied(level.entry_span(iova.align_down(level.span())))
}

/// Whether a table of level `next` translates an address, if an entry of level `level` that covers the address names the
/// table: where levels are skipped, it translates the first addresses only.
fn is_translated(iova: IoAddress, level: Level, next: Level) -> bool {
    next.table_span(iova.align_down(level.span())).contains(iova)
}

/// Links a new table of level `below` into a table that hardware may be walking.
fn add_table(
    format: Format,
    table: PhysicalAddress,
    index: usize,
    below: Level,
    frames: &mut impl Frames,
) -> Option<PhysicalAddress> {
    let new = new_table(frames)?;
    frames.store(table, index, format.table(new, below).bits);
    frames.publish(table, index..index + 1);
    Some(new)
}

/// Splits a range of I/O addresses at the boundaries of tables of level 1.
fn pieces(iova: Range<IoAddress>) -> impl Iterator<Item = Range<IoAddress>> {
    let first = Level::ONE.table_span(iova.start.align_down(Level::TWO.span()));
    let next = |piece: &Range<IoAddress>| Some(Level::ONE.table_span(piece.end));
    let pieces = core::iter::successors(Some(first), next);
    pieces.map(move |piece| piece.intersection(iova)).take_while(|piece| !piece.is_empty())
}

/// Indices of a piece's pages in its table of level 1.
fn indices(piece: Range<IoAddress>) -> core::ops::Range<usize> {
    let first = Level::ONE.index(piece.start);
    first..first + (piece.len() / PAGE_SIZE) as usize
}
