//! Maps memory for a device's driver at I/O addresses that the old kernel did not map, and unmaps it again.

use machine::{
    Clock, Frames, IoAddress, OldMemory, PAGE_SIZE, Permission, PhysicalAddress, Range, Registers,
};
use paging::Rules;

use super::{Attachment, Takeover};
use crate::borrowed::Lender;
use crate::command::Scope;
use crate::device_tlb::{forget_contexts, of_source};
use crate::domain::Unfit;
use crate::failure::MapError;
use crate::unit::UnitError;

/// How many I/O addresses to try when free addresses turn out not to fit.
const TRIES: usize = 16;

impl<R: Registers, C: Clock> Takeover<'_, R, C> {
    /// Maps `memory` for a device and returns the I/O address of its first byte.
    ///
    /// `memory` consists of whole pages. The old kernel never mapped these I/O addresses in this domain; they are no
    /// interrupt addresses, and in none of the ranges that are kept free. When this returns, the device can use them.
    ///
    /// If the mapping falls below tables that were kept in place, the tables on its path are read from `old` and
    /// copied.
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
        let architecture = self.unit.architecture();
        let (format, own) = (domain.format, self.keep.own_memory());
        let rules = Rules::new(format, self.keep.host_address_bits, architecture);
        let lender = Lender { old, own, format, rules };
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

    /// Ends a mapping that [`map`](Self::map) made. When this returns, the device cannot reach the memory any more.
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

    /// Makes a new mapping visible to the unit. Where copies replaced the path to it, hardware may still use the old
    /// path.
    fn make_visible(&mut self, device: &Attachment, frames: &mut impl Frames) -> Result<(), UnitError> {
        if core::mem::take(&mut self.domains[device.domain].relinked) {
            return self.unit.entries_changed(Scope::Domain(device.id), frames);
        }
        self.unit.entries_appeared(Scope::Domain(device.id), frames)
    }
}

/// Frees addresses that turned out not to fit, and reserves those in the way so that they are not tried again.
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

/// Checks that entries can map this memory: whole pages, below the 52 bits of an entry's address.
fn check_pages(memory: Range<PhysicalAddress>) -> Result<(), MapError> {
    let aligned = memory.start.is_aligned(PAGE_SIZE) && memory.end.is_aligned(PAGE_SIZE);
    if memory.is_empty() || !aligned || memory.end.get() > 1 << 52 {
        Err(MapError::NotPages(memory))
    } else {
        Ok(())
    }
}
