//! Plans how to carry each domain over with the frames that there are.
//!
//! The ladder is: exact copy, fold into superpages, keep in place, block. Domains that fit are copied exactly. Of
//! those that do not fit, only the upper tables are copied: runs of pages are folded into larger pages, and other
//! tables of level 1 are checked and then stay where they are, in the old kernel's memory. If even that is
//! impossible, a part is blocked.

use alloc::vec::Vec;

use crate::census::Census;
use crate::found::OldDomain;
use crate::surroundings::Limits;
use machine::growth::{OutOfMemory, collected, filled};

/// How a domain is carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Every table is copied.
    Duplicate,
    /// Upper tables are copied, up to a limit; the tables below them are folded or kept in place.
    Compact {
        /// Frames that the domain may take.
        frames: usize,
    },
    /// Nothing is copied: there are no frames.
    Block,
}

/// A treatment for each domain of a census, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// One for each of [`Census::domains`].
    pub(crate) treatments: Vec<Treatment>,
}

/// Gives frames to the smallest domains first, so that a huge one cannot starve all the others, and shares the rest
/// among those that do not fit.
///
/// There are `available` frames; [`Limits::spare_frames`] of them are not for copies.
pub(crate) fn make(census: &Census, available: usize, limits: &Limits) -> Result<Plan, OutOfMemory> {
    let mut left = available.saturating_sub(limits.spare_frames);
    let mut treatments = filled(Treatment::Block, census.domains.len())?;
    let order = by_size(census)?;
    let mut remaining = order.len();
    for index in order {
        treatments[index] = treat(&census.domains[index], left, remaining);
        remaining -= 1;
        left -= match treatments[index] {
            Treatment::Duplicate => census.domains[index].tables as usize,
            Treatment::Compact { frames } => frames,
            Treatment::Block => 0,
        };
    }
    Ok(Plan { treatments })
}

/// Chooses a treatment for a domain: `left` frames are left for it and the domains after it, which are `remaining` in
/// all.
fn treat(domain: &OldDomain, left: usize, remaining: usize) -> Treatment {
    if domain.tables <= left as u64 {
        return Treatment::Duplicate;
    }
    // One more than its upper tables, for checking the tables below them; without it, a spare one serves.
    let wanted = domain.upper_tables.saturating_add(1);
    match (left / remaining) as u64 {
        0 => Treatment::Block,
        share => Treatment::Compact { frames: share.min(wanted) as usize },
    }
}

fn by_size(census: &Census) -> Result<Vec<usize>, OutOfMemory> {
    let mut order = collected(0..census.domains.len())?;
    order.sort_unstable_by_key(|index| census.domains[*index].tables);
    Ok(order)
}
