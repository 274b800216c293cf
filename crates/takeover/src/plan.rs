//! Plans how to carry each domain over with the frames that there are.
//!
//! The ladder is: exact copy, fold into superpages, keep in place, block. Domains that fit are copied exactly. Of
//! those that do not fit, only the upper tables are copied: runs of pages are folded into larger pages, and other
//! tables of level 1 are checked and then stay where they are, in the old kernel's memory. Where not even the upper
//! tables fit, all tables but the root stay there, except for those that lead to something that must be cut out. If that
//! is impossible, a part is blocked.

use alloc::vec::Vec;

use crate::census::Census;
use crate::found::{Demand, OldDomain, Translation};
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
    /// The root table is copied, and the tables that lead to a bad entry, up to a limit; the others are kept in place.
    Keep {
        /// Frames that the domain may take.
        frames: usize,
    },
    /// It maps nothing: one empty table serves all such domains.
    Share,
    /// Nothing is copied: there are no frames.
    Block,
}

impl Treatment {
    /// The frames that are set aside for a domain with this treatment.
    pub(crate) fn frames(self, domain: &OldDomain) -> usize {
        match self {
            Self::Duplicate => domain.tables as usize,
            Self::Compact { frames } | Self::Keep { frames } => frames,
            Self::Share | Self::Block => 0,
        }
    }
}

/// A treatment for each domain of a census, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// One for each of [`Census::domains`].
    pub(crate) treatments: Vec<Treatment>,
}

impl Plan {
    /// The frames that are set aside for all of these domains.
    pub(crate) fn frames(&self, domains: &[OldDomain]) -> usize {
        domains.iter().zip(&self.treatments).map(|(domain, treatment)| treatment.frames(domain)).sum()
    }
}

/// Gives frames to the domains of wanted devices first, then for maps in place of pass-through, then to the smallest, so
/// that a huge one cannot starve all the others, and shares the rest among those that do not fit. As long as there are
/// frames, each domain gets one.
///
/// Nothing of a map in place of pass-through can stay where it is, so all its tables are held back from those before it.
///
/// There are `available` frames; [`Limits::spare_frames`] of them are not for copies.
pub(crate) fn make(census: &Census, available: usize, limits: &Limits) -> Result<Plan, OutOfMemory> {
    // One table serves all domains that map nothing.
    let empty_table = usize::from(census.domains.iter().any(|domain| domain.empty));
    let mut left = available.saturating_sub(limits.spare_frames + empty_table);
    let mut treatments = filled(Treatment::Block, census.domains.len())?;
    let least = held_back(&census.domains, left);
    let mut waiting = census.domains.iter().map(&least).sum();
    for index in in_order(census)? {
        let domain = &census.domains[index];
        waiting -= least(domain);
        treatments[index] = treat(domain, left, waiting);
        left -= treatments[index].frames(domain);
    }
    Ok(Plan { treatments })
}

/// How many of `frames` are held back for a domain until its turn comes: one, or all that a map in place of pass-through
/// needs, unless these maps do not fit anyway.
fn held_back(domains: &[OldDomain], frames: usize) -> impl Fn(&OldDomain) -> usize + use<> {
    let least = |domain: &OldDomain, whole_maps: bool| match domain {
        OldDomain { demand: Demand::Unused, .. } | OldDomain { empty: true, .. } => 0,
        OldDomain { translation: Translation::Identity, .. } if whole_maps => domain.tables as usize,
        _ => 1,
    };
    let fits = domains.iter().try_fold(0, |sum: usize, domain| sum.checked_add(least(domain, true)));
    let whole_maps = fits.is_some_and(|sum| sum <= frames);
    move |domain| least(domain, whole_maps)
}

/// Chooses a treatment for a domain: `left` frames are left for it and the domains after it, for which `waiting` are held
/// back.
fn treat(domain: &OldDomain, left: usize, waiting: usize) -> Treatment {
    if domain.empty {
        return Treatment::Share;
    }
    if domain.demand == Demand::Unused {
        return Treatment::Block;
    }
    let most = left.saturating_sub(waiting);
    if domain.tables <= most as u64 {
        return Treatment::Duplicate;
    }
    // One more than its upper tables, for checking the tables below them, and some for copies of those in which something
    // must be cut out.
    let wanted = domain.upper_tables.saturating_add(1 + domain.upper_tables / 2);
    let share = if domain.demand == Demand::Wanted { most / 2 } else { left / (waiting + 1) };
    match share.max(1).min(left) as u64 {
        0 => Treatment::Block,
        share if share < wanted => Treatment::Keep { frames: share as usize },
        _ => Treatment::Compact { frames: wanted as usize },
    }
}

/// The domains' indices: those of wanted devices first, then those in pass-through, then the smallest.
fn in_order(census: &Census) -> Result<Vec<usize>, OutOfMemory> {
    let mut order = collected(0..census.domains.len())?;
    order.sort_unstable_by_key(|index| {
        let OldDomain { demand, translation, tables, .. } = census.domains[*index];
        (demand != Demand::Wanted, translation != Translation::Identity, tables)
    });
    Ok(order)
}
