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
}

/// The tables that translate requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stages {
    /// No tables: I/O addresses are physical.
    PassThrough,
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
        Self { stages, rights: Rights::ALL }
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
    /// Interrupt addresses are left out: no table translates them (VT-d 3.14, AMD-Vi 2.1.3).
    pub fn each_piece(
        &self,
        route: Route,
        budget: &mut Budget,
        visit: &mut dyn FnMut(Piece),
    ) -> Result<(), Spent> {
        let bits = self.translated_bits(route);
        let end = IoAddress::new(1u64.checked_shl(bits).unwrap_or(u64::MAX));
        let below = Range::new(IoAddress::default(), INTERRUPT_WINDOW.start.min(end));
        for part in [below, Range::new(INTERRUPT_WINDOW.end, end)] {
            if !part.is_empty() {
                self.pieces_within(route, part, budget, visit)?;
            }
        }
        Ok(())
    }

    /// How many bits of an I/O address a route translates.
    fn translated_bits(&self, route: Route) -> u32 {
        let most = self.unit.registers.architecture().address_bits();
        match route.stages {
            Stages::PassThrough => self.unit.host_address_bits.min(most),
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
        let Route { stages, rights } = route;
        let (first, beneath) = match stages {
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

/// Repeats the highest translated bit in all bits above it (3.6).
fn sign_extended(iova: IoAddress, root: Root) -> IoAddress {
    let unused = 64 - root.top.width();
    IoAddress::new(((iova.get() << unused).cast_signed() >> unused).cast_unsigned())
}

/// Reports a piece without the part that leads to the interrupt window.
fn apart_from_interrupts(piece: Piece, visit: &mut dyn FnMut(Piece)) {
    let Target::Memory { address, rights, level } = piece.target else { return visit(piece) };
    let interrupts = Range::<PhysicalAddress>::from(INTERRUPT_WINDOW.start.get()..INTERRUPT_WINDOW.end.get());
    let end = address.saturating_add(piece.len);
    for part in [Range::new(address, end.min(interrupts.start)), Range::new(address.max(interrupts.end), end)]
    {
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
