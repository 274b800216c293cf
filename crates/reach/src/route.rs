//! Routes: the tables that translate requests, and everything that these tables map.

use machine::{INTERRUPT_WINDOW, IoAddress, OldMemory, PAGE_SIZE, PhysicalAddress, Position, Range};

use crate::budget::{Budget, Spent};
use crate::piece::{Piece, Rights, Target};
use crate::stage::{Node, Root, Stage, Walk};
use crate::{Obstacle, Tables, UnitRegisters};

/// How requests are translated. Requesters with the same route reach the same memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The tables that translate.
    pub stages: Stages,
    /// What the requester's entry allows: on VT-d everything, on AMD-Vi what IR and IW say.
    pub rights: Rights,
    /// Whether requests to the unit's exclusion range pass untranslated, whatever tables and rights say: AMD-Vi's (3.4.6).
    pub excluded: bool,
}

/// The tables that translate requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stages {
    /// No tables: I/O addresses are physical.
    PassThrough,
    /// No tables: all requests are blocked, but for those to an exclusion range.
    Blocked,
    /// Second-stage tables; AMD-Vi's host tables.
    Second(Root),
    /// First-stage tables; AMD-Vi's guest tables.
    First(FirstStage),
    /// First-stage tables, whose addresses second-stage tables translate.
    Nested {
        /// The first stage; its address is translated by the second.
        first: FirstStage,
        /// The second stage.
        second: Root,
    },
}

impl Route {
    /// The route of a requester whose entry allows everything.
    pub(crate) const fn unrestricted(stages: Stages) -> Self {
        Self { stages, rights: Rights::ALL, excluded: false }
    }

    /// Whether the highest translated bit of an address is repeated in all bits above it, as first stages demand.
    const fn is_sign_extended(&self) -> bool {
        matches!(self.stages, Stages::First(_) | Stages::Nested { .. })
    }
}

/// First-stage tables, and the privilege of the requests that use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FirstStage {
    /// The tables.
    pub root: Root,
    /// The privilege of the requests.
    pub privilege: Privilege,
}

/// The privilege of requests (VT-d 3.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Privilege {
    /// User. A request with a PASID may carry the privileged flag.
    User,
    /// Supervisor; read-only pages do not stop its writes.
    Supervisor,
    /// Supervisor; read-only pages stop its writes (WPE).
    BoundSupervisor,
}

impl<M: OldMemory> Tables<'_, M> {
    /// Reports where each I/O address leads, for all that lead anywhere, in ascending order of translated bits:
    /// sign-extended addresses come last.
    ///
    /// Addresses are left out that no table translates and that reach no memory: interrupts, and HyperTransport's own.
    pub fn each_piece(
        &self,
        route: Route,
        budget: &mut Budget,
        visit: &mut dyn FnMut(Piece),
    ) -> Result<(), Spent> {
        let bits = self.translated_bits(route);
        let end = IoAddress::new(1u64.checked_shl(bits).unwrap_or(u64::MAX));
        let excluded = if route.excluded { self.unit.registers.exclusion() } else { Range::default() };
        let excluded = Range::<IoAddress>::from(excluded.start.get()..excluded.end.get());
        // Translated bits say where an address is only as far as they are not its sign.
        let equal = if route.is_sign_extended() { IoAddress::new(end.get() / 2) } else { end };
        let hole = Range::new(excluded.start.min(equal), excluded.end.min(equal));
        let [below, above] = without(Range::new(IoAddress::default(), end), hole);
        let untranslated = Route::unrestricted(Stages::PassThrough);
        let windows = self.unit.registers.set_apart();
        for (route, within) in [(route, below), (untranslated, excluded), (route, above)] {
            self.pieces_between(windows, route, within, budget, visit)?;
        }
        Ok(())
    }

    /// The same of the addresses `within`, but for these windows.
    fn pieces_between(
        &self,
        windows: &[Range<IoAddress>],
        route: Route,
        within: Range<IoAddress>,
        budget: &mut Budget,
        visit: &mut dyn FnMut(Piece),
    ) -> Result<(), Spent> {
        match windows.split_first() {
            _ if within.is_empty() => Ok(()),
            None => self.pieces_within(route, within, budget, visit),
            Some((window, others)) => without(within, *window)
                .into_iter()
                .try_for_each(|part| self.pieces_between(others, route, part, budget, visit)),
        }
    }

    /// How many bits of an I/O address a route translates.
    fn translated_bits(&self, route: Route) -> u32 {
        let most = self.unit.registers.architecture().address_bits();
        match route.stages {
            Stages::PassThrough | Stages::Blocked => self.unit.host_address_bits.min(most),
            Stages::Second(root) => root.top.width().min(most),
            Stages::First(first) | Stages::Nested { first, .. } => first.root.top.width(),
        }
    }

    fn pieces_within(
        &self,
        route: Route,
        within: Range<IoAddress>,
        budget: &mut Budget,
        visit: &mut dyn FnMut(Piece),
    ) -> Result<(), Spent> {
        let Route { stages, rights, .. } = route;
        let (first, beneath) = match stages {
            Stages::Blocked => return Ok(()),
            Stages::PassThrough if rights.is_none() => return Ok(()),
            Stages::PassThrough => {
                let address = PhysicalAddress::new(within.start.get());
                let target = Target::Memory { address, rights, level: None };
                visit(Piece { iova: within.start, len: within.len(), target });
                return Ok(());
            }
            Stages::Second(root) => {
                let mut checked = |piece| self.tell(piece, visit);
                let mut walk = Walk::new(self, Stage::Second, budget, &mut checked);
                return walk.descend(&Node::root(root, rights), within);
            }
            Stages::First(first) => (first, None),
            Stages::Nested { first, second } => (first, Some(second)),
        };
        let FirstStage { root, privilege } = first;
        let stage = Stage::First { privilege, beneath };
        let mut extended = |piece: Piece| {
            self.tell(Piece { iova: sign_extended(piece.iova, root), ..piece }, visit);
        };
        Walk::new(self, stage, budget, &mut extended).descend(&Node::root(root, rights), within)
    }

    /// Reports a piece; on VT-d without the part that leads to the interrupt window: requests to it fault (7.1.3, LGN.4).
    fn tell(&self, piece: Piece, visit: &mut dyn FnMut(Piece)) {
        match self.unit.registers {
            UnitRegisters::Vtd(_) => apart_from_interrupts(piece, visit),
            UnitRegisters::AmdVi(_) => visit(piece),
        }
    }

    /// The host page of the guest page at `address`: where the second stage maps it.
    pub(crate) fn host_page(
        &self,
        second: Root,
        address: IoAddress,
        budget: &mut Budget,
    ) -> Result<Result<PhysicalAddress, Obstacle>, Spent> {
        let mut found = Err(Obstacle::TableUnmapped(address));
        let mut remember = |piece: Piece| {
            found = match piece.target {
                Target::Memory { address, rights, .. } if rights.read => Ok(address),
                Target::Memory { .. } => Err(Obstacle::TableUnmapped(address)),
                Target::Obstacle(obstacle) => Err(obstacle),
            }
        };
        let mut walk = Walk::new(self, Stage::Second, budget, &mut remember);
        walk.descend(
            &Node::root(second, Rights::ALL),
            Range::new(address, address.saturating_add(PAGE_SIZE)),
        )?;
        Ok(found)
    }
}

/// The parts of a range below and above a hole; either may be empty.
fn without<P: Position + Ord>(range: Range<P>, hole: Range<P>) -> [Range<P>; 2] {
    [Range::new(range.start, range.end.min(hole.start)), Range::new(range.start.max(hole.end), range.end)]
}

/// Repeats the highest translated bit in all bits above it (3.6).
fn sign_extended(iova: IoAddress, root: Root) -> IoAddress {
    let unused = 64 - root.top.width();
    IoAddress::new(((iova.get() << unused).cast_signed() >> unused).cast_unsigned())
}

/// Reports a piece without the part that leads to the interrupt window.
fn apart_from_interrupts(piece: Piece, visit: &mut dyn FnMut(Piece)) {
    let Target::Memory { address, rights, level } = piece.target else { return visit(piece) };
    let interrupts = Range::<PhysicalAddress>::from(INTERRUPT_WINDOW.start.get()..INTERRUPT_WINDOW.end.get());
    for part in without(Range::new(address, address.saturating_add(piece.len)), interrupts) {
        if !part.is_empty() {
            let iova = piece.iova.saturating_add(part.start.count_since(address));
            visit(Piece {
                iova,
                len: part.len(),
                target: Target::Memory { address: part.start, rights, level },
            });
        }
    }
}
