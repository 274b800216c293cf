//! Makes a domain's twin: the same translations under another id, for a device that shares its domain with others.
//!
//! Only the driver's own device may reach what is mapped for the driver. Where the old kernel put several devices
//! into one domain (in pass-through all of them), the device that is attached therefore gets a twin. That is legal at
//! any moment for the reason that makes the swap legal: both domains translate alike. They share their tables until
//! one of them gets a new mapping ([`borrowed`](crate::borrowed)).

use machine::Frames;

use crate::borrowed::share;
use crate::domain::Domain;
use crate::failure::AttachError;

/// Makes a domain that translates as `domain` does, under another id.
pub(crate) fn twin(domain: &Domain, id: u16, frames: &mut impl Frames) -> Result<Domain, AttachError> {
    let space = domain.space.twin()?;
    let kept = domain.kept.twin()?;
    let root = match domain.root {
        None => None,
        Some(root) => Some(share(domain.stage, root, domain.top, frames).ok_or(AttachError::OutOfFrames)?),
    };
    let Domain { stage, width, top, tables, leaves, fenced, outcome, .. } = *domain;
    Ok(Domain {
        id,
        stage,
        width,
        top,
        root,
        space,
        kept,
        relinked: false,
        given: false,
        tables,
        leaves,
        fenced,
        outcome,
    })
}
