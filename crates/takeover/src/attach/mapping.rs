//! Memory for a device's driver: mapped where the old kernel mapped nothing, and unmapped again.

use machine::{Clock, Frames, IoAddress, OldMemory, PAGE_SIZE, PhysicalAddress, Range, Registers};
use vtd::paging::Permission;
use vtd::stage::ReservedBits;

use super::{Attachment, Takeover};
use crate::borrowed::Lender;
use crate::device_tlb::{forget_contexts, of_source};
use crate::domain::Unfit;
use crate::failure::MapError;
use crate::invalidate::Scope;
use crate::unit::UnitError;

/// How many places are tried for a mapping that does not fit where its addresses are free.
const TRIES: usize = 16;

impl<R: Registers, C: Clock> Takeover<'_, R, C> {
    /// Maps `memory` for a device and returns the I/O address of its first byte.
    ///
    /// It consists of whole pages. The I/O addresses were never mapped by the old kernel in this domain, are no
    /// interrupt addresses and in no kept-free range. When this returns, the device can use them.
    ///
    /// Tables that were kept in place are read from `old` if the mapping goes into one: those on its path are copied.
    pub fn map(
        &mut self,
        device: &Attachment,
        memory: Range<PhysicalAddress>,
        permission: Permission,
        old: &impl OldMemory,
        frames: &mut impl Frames,
    ) -> Result<IoAddress, MapError> {
        check_pages(memory)?;
        let domain = &mut self.domains[device.domain];
        let capability = self.unit.unit.capability();
        let reserved = ReservedBits::new(domain.stage, self.keep.host_address_bits, capability);
        let lender = Lender { old, own: self.keep.own_memory(), reserved };
        for _ in 0..TRIES {
            let start = domain.allocate(memory.len()).ok_or(MapError::NoAddress)?;
            let iova = Range::new(start, start.saturating_add(memory.len()));
            match domain.prepare(iova, permission, &lender, frames) {
                Ok(()) => {
                    domain.fill(iova, memory.start, permission, frames);
                    self.make_visible(device, frames)?;
                    return Ok(start);
                }
                Err(unfit) => give_up(&mut domain.space, iova, unfit)?,
            }
        }
        Err(MapError::NoAddress)
    }

    /// Ends a mapping that [`map`](Self::map) made; when this returns, the device cannot reach the memory any more.
    pub fn unmap(
        &mut self,
        device: &Attachment,
        iova: Range<IoAddress>,
        frames: &mut impl Frames,
    ) -> Result<(), MapError> {
        let domain = &mut self.domains[device.domain];
        if domain.space.allocated().binary_search(&iova).is_err() {
            return Err(MapError::NotMapped(iova));
        }
        domain.clear(iova, frames);
        self.unit.entries_changed(Scope::Domain(device.id), frames)?;
        for tlb in &self.device_tlbs {
            let of_domain =
                of_source(&self.contexts, tlb.source).filter(|context| context.domain == Some(device.domain));
            forget_contexts(*tlb, of_domain, &mut self.unit, frames)?;
        }
        self.domains[device.domain].space.release(iova).map_err(|error| MapError::NotMapped(error.0))
    }

    /// After a mapping was made. Where the path to it was replaced by copies, hardware may still go the old way.
    fn make_visible(&mut self, device: &Attachment, frames: &mut impl Frames) -> Result<(), UnitError> {
        if core::mem::take(&mut self.domains[device.domain].relinked) {
            return self.unit.entries_changed(Scope::Domain(device.id), frames);
        }
        self.unit.entries_appeared(Scope::Domain(device.id), frames)
    }
}

/// Gives addresses back after they turned out not to fit, and keeps the culprits from being tried again.
fn give_up(space: &mut iova::Space, iova: Range<IoAddress>, unfit: Unfit) -> Result<(), MapError> {
    space.release(iova).map_err(|error| MapError::NotMapped(error.0))?;
    match unfit {
        Unfit::Occupied(range) => {
            space.reserve(range);
            Ok(())
        }
        Unfit::OutOfFrames => Err(MapError::OutOfFrames),
    }
}

/// Memory that entries can map: whole pages, below the 52 bits that an entry holds of an address.
fn check_pages(memory: Range<PhysicalAddress>) -> Result<(), MapError> {
    let aligned = memory.start.is_aligned(PAGE_SIZE) && memory.end.is_aligned(PAGE_SIZE);
    if memory.is_empty() || !aligned || memory.end.get() > 1 << 52 {
        Err(MapError::NotPages(memory))
    } else {
        Ok(())
    }
}
