//! Pieces: ranges of I/O addresses, and where they lead.

use machine::{IoAddress, Level, PhysicalAddress, Position};

use crate::Obstacle;

/// A range of I/O addresses that lead to consecutive addresses with the same rights, or to the same obstacle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First I/O address; sign-extended if first-stage tables translate it.
    pub iova: IoAddress,
    /// How many addresses, at least one; the last is `iova + (len - 1)`.
    pub len: u64,
    /// Where the addresses lead.
    pub target: Target,
}

/// Where I/O addresses lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To memory, or to whatever else is at these physical addresses.
    Memory {
        /// Physical address of the first I/O address.
        address: PhysicalAddress,
        /// What requests may do there.
        rights: Rights,
        /// Level of the leaf, the smaller of both stages; `None` in pass-through.
        level: Option<Level>,
    },
    /// To a fault, or to an unknown place.
    Obstacle(Obstacle),
}

/// The rights of a translation: what the entries of all levels and stages allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rights {
    /// Reads pass.
    pub read: bool,
    /// Writes pass.
    pub write: bool,
    /// Requests need no privilege; if not set, only requests that carry the privileged flag pass (3.6.1).
    pub user: bool,
}

impl Rights {
    /// Everything is allowed.
    pub const ALL: Self = Self { read: true, write: true, user: true };

    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            read: self.read && other.read,
            write: self.write && other.write,
            user: self.user && other.user,
        }
    }

    /// Whether nothing passes.
    pub(crate) const fn is_none(self) -> bool {
        !self.read && !self.write
    }
}

impl core::fmt::Display for Rights {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let letters = [(self.read, 'r'), (self.write, 'w'), (!self.user, 's')];
        let mut shown = letters.iter().filter(|(is_set, _)| *is_set);
        shown.try_for_each(|(_, letter)| core::fmt::Write::write_char(f, *letter))
    }
}

impl Piece {
    /// Merges the next piece into this one if it leads to where this one ends; returns whether it did.
    pub fn extend(&mut self, next: &Self) -> bool {
        let follows =
            self.iova.checked_add(self.len) == Some(next.iova) && self.target.after(self.len) == next.target;
        if follows {
            self.len += next.len;
        }
        follows
    }
}

impl Target {
    /// The target of the addresses `len` further on, if they continue this one.
    fn after(self, len: u64) -> Self {
        match self {
            Self::Memory { address, rights, level } => {
                Self::Memory { address: address.saturating_add(len), rights, level }
            }
            same @ Self::Obstacle(_) => same,
        }
    }
}
