//! Routes: the tables that translate requests, and everything that these tables map.

use machine::{INTERRUPT_WINDOW, IoAddress, OldMemory, PAGE_SIZE, PhysicalAddress, Position, Range};

use crate::budget::{Budget, Spent};
use crate::piece::{Piece, Rights, Target};
use crate::stage::{Node, Root, Stage, Walk};
use crate::{Obstacle, Tables, UnitSetup};

/// The addresses that HyperTransport uses for itself (AMD-Vi, 2.1.2).
const HYPERTRANSPORT: Range<IoAddress> =
    Range::new(IoAddress::new(0xFD_0000_0000), IoAddress::new(0x100_0000_0000));

/// The tables that translate requests. Requesters with the same route reach the same memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// No tables: I/O addresses are physical. An entry of AMD's can limit what requests may do.
    PassThrough(Rights),
    /// Second-stage tables.
    SecondStage(Root),
    /// First-stage tables.
    FirstStage(FirstStage),
    /// First-stage tables, whose addresses second-stage tables translate.
    Nested {
        /// The first stage; its address is translated by the second.
        first: FirstStage,
        /// The second stage.
        second: Root,
    },
    /// Host tables of AMD's (AMD-Vi, 2.2.3), and what the device table entry allows at most.
    Host {
        /// The tables.
        root: Root,
        /// The rights of the entry.
        rights: Rights,
    },
}

/// First-stage tables, and the privilege of the requests that use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FirstStage {
    /// The tables.
    pub root: Root,
    /// The privilege of the requests.
    pub privilege: Privilege,
}

/// The privilege of requests (3.6.1).
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
    /// Interrupt addresses are left out: no table translates them (3.14); and for AMD-Vi those of HyperTransport (AMD-Vi, 2.1.2).
    pub fn each_piece(
        &self,
        route: Route,
        budget: &mut Budget,
        visit: &mut dyn FnMut(Piece),
    ) -> Result<(), Spent> {
        let bits = self.translated_bits(route);
        let end = IoAddress::new(1u64.checked_shl(bits).unwrap_or(u64::MAX));
        let below = Range::new(IoAddress::default(), INTERRUPT_WINDOW.start.min(end));
        let above = Range::new(INTERRUPT_WINDOW.end, end);
        let parts = match self.unit {
            UnitSetup::Vtd(_) => [below, above, Range::new(end, end)],
            UnitSetup::AmdVi(_) => [
                below,
                Range::new(above.start, above.end.min(HYPERTRANSPORT.start)),
                Range::new(HYPERTRANSPORT.end, end),
            ],
        };
        for part in parts {
            if !part.is_empty() {
                self.pieces_within(route, part, budget, visit)?;
            }
        }
        Ok(())
    }

    /// How many bits of an I/O address a route translates.
    fn translated_bits(&self, route: Route) -> u32 {
        let (host_bits, guest_bits) = match self.unit {
            UnitSetup::Vtd(unit) => (unit.host_address_bits, unit.capability.guest_address_bits()),
            UnitSetup::AmdVi(unit) => (unit.host_address_bits, u64::BITS),
        };
        match route {
            Route::PassThrough(_) => host_bits.min(guest_bits),
            Route::SecondStage(root) | Route::Host { root, .. } => root.top.width().min(guest_bits),
            Route::FirstStage(first) | Route::Nested { first, .. } => first.root.top.width(),
        }
    }

    fn pieces_within(
        &self,
        route: Route,
        within: Range<IoAddress>,
        budget: &mut Budget,
        visit: &mut dyn FnMut(Piece),
    ) -> Result<(), Spent> {
        let (first, beneath) = match route {
            Route::PassThrough(rights) => {
                let address = PhysicalAddress::new(within.start.get());
                let target = Target::Memory { address, rights, level: None };
                visit(Piece { iova: within.start, len: within.len(), target });
                return Ok(());
            }
            Route::SecondStage(root) => {
                let mut checked = |piece| apart_from_interrupts(piece, visit);
                let mut walk = Walk::new(self, Stage::Second, budget, &mut checked);
                return walk.descend(&Node::root(root), within);
            }
            Route::Host { root, rights } => {
                let mut walk = Walk::new(self, Stage::Host, budget, visit);
                return walk.descend(&Node::limited(root, rights), within);
            }
            Route::FirstStage(first) => (first, None),
            Route::Nested { first, second } => (first, Some(second)),
        };
        let FirstStage { root, privilege } = first;
        let stage = Stage::First { privilege, beneath };
        let mut extended = |piece: Piece| {
            apart_from_interrupts(Piece { iova: sign_extended(piece.iova, root), ..piece }, visit);
        };
        Walk::new(self, stage, budget, &mut extended).descend(&Node::root(root), within)
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
        walk.descend(&Node::root(second), Range::new(address, address.saturating_add(PAGE_SIZE)))?;
        Ok(found)
    }
}

/// Repeats the highest translated bit in all bits above it (3.6).
fn sign_extended(iova: IoAddress, root: Root) -> IoAddress {
    let unused = 64 - root.top.width();
    IoAddress::new(((iova.get() << unused).cast_signed() >> unused).cast_unsigned())
}

/// Reports a piece without the part that leads to the interrupt window: requests to it fault (7.1.3, LGN.4).
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
