//! Makes a domain's twin: the same translations under another id, for a device that shares its domain with others.
//!
//! Only the driver's own device may reach what is mapped for the driver. Where the old kernel put several devices
//! into one domain (in pass-through all of them), the device that is attached therefore gets a twin. That is legal at
//! any moment for the reason that makes the swap legal: both domains translate alike. They share their tables until
//! one of them gets a new mapping ([`borrowed`](crate::borrowed)).

use machine::{Frames, PhysicalAddress};

use crate::borrowed::{copy_shared, share};
use crate::domain::Domain;
use crate::failure::AttachError;

/// Makes a domain that translates as `domain` does, under another id.
pub(crate) fn twin(domain: &Domain, id: u16, frames: &mut impl Frames) -> Result<Domain, AttachError> {
    let space = domain.space.twin()?;
    let kept = domain.kept.twin()?;
    let root = match domain.root {
        None => None,
        Some(root) => Some(other_root(domain, root, frames).ok_or(AttachError::OutOfFrames)?),
    };
    let Domain { format, top, inherited, tables, leaves, fenced, outcome, .. } = *domain;
    Ok(Domain {
        id,
        format,
        top,
        root,
        root_is_shared: false,
        inherited,
        space,
        kept,
        relinked: false,
        has_unlisted: false,
        given: false,
        tables,
        leaves,
        fenced,
        outcome,
    })
}

/// A root table for the twin. Nobody writes below a root table that is shared already, so its entries need no marks.
fn other_root(domain: &Domain, root: PhysicalAddress, frames: &mut impl Frames) -> Option<PhysicalAddress> {
    if domain.root_is_shared {
        copy_shared(domain.format, root, domain.top, frames)
    } else {
        share(domain.format, root, domain.top, frames)
    }
}

/// Gives the domain a root table that it may write, if other domains use its root table too. Both translate alike.
/// Returns whether the root table is another one now.
pub(crate) fn own_root(domain: &mut Domain, frames: &mut impl Frames) -> Result<bool, AttachError> {
    let Some(root) = domain.root.filter(|_| domain.root_is_shared) else { return Ok(false) };
    domain.root = Some(copy_shared(domain.format, root, domain.top, frames).ok_or(AttachError::OutOfFrames)?);
    domain.root_is_shared = false;
    Ok(true)
}
