//! How each domain is carried over, within the frames there are.
//!
//! The ladder is: exact copy, fold into superpages, keep in place, block. Today it has its first and its last rung; a
//! [`Treatment`] is the place for the others.

use alloc::vec::Vec;

use crate::Limits;
use crate::census::Census;
use crate::growth::{OutOfMemory, filled};

/// How a domain is carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Every table is copied, as far as the frames go.
    Duplicate,
    /// Nothing is copied: it would leave too few frames for the others.
    Block,
}

/// A treatment for each domain of a census, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// One for each of [`Census::domains`].
    pub treatments: Vec<Treatment>,
}

/// Gives frames to the smallest domains first, so that a giant one cannot take all the others down.
///
/// `available` frames are there; [`Limits::spare_frames`] of them are not for copies.
pub fn make(census: &Census, available: usize, limits: &Limits) -> Result<Plan, OutOfMemory> {
    let mut left = available.saturating_sub(limits.spare_frames) as u64;
    let mut treatments = filled(Treatment::Block, census.domains.len())?;
    for index in by_size(census)? {
        let needed = census.domains[index].tables;
        if needed > left {
            break;
        }
        left -= needed;
        treatments[index] = Treatment::Duplicate;
    }
    Ok(Plan { treatments })
}

fn by_size(census: &Census) -> Result<Vec<usize>, OutOfMemory> {
    let mut order = filled(0, census.domains.len())?;
    for (index, slot) in order.iter_mut().enumerate() {
        *slot = index;
    }
    order.sort_unstable_by_key(|index| census.domains[*index].tables);
    Ok(order)
}
