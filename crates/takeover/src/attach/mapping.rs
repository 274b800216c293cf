//! Memory for a device's driver: mapped where the old kernel mapped nothing, and unmapped again.

use machine::{Clock, Frames, OldMemory, PAGE_SIZE, Range, Registers};
use vtd::paging::Permission;
use vtd::stage::ReservedBits;

use super::{Attachment, Takeover};
use crate::Surroundings;
use crate::borrowed::Lender;
use crate::device_tlb::forget_domain;
use crate::domain::Unfit;
use crate::failure::MapError;
use crate::invalidate::Scope;
use crate::unit::UnitError;

/// How many places are tried for a mapping that does not fit where its addresses are free.
const TRIES: usize = 16;

impl<R: Registers, C: Clock> Takeover<'_, R, C> {
    /// Maps `len` bytes from physical address `address` for a device and returns the I/O address.
    ///
    /// Both are multiples of the page size. The I/O address was never mapped by the old kernel in this domain, is no
    /// interrupt address and in no kept-free range. When this returns, the device can use it.
    ///
    /// Tables that were kept in place are read from `old` if the mapping goes into one: those on its path are copied.
    pub fn map(
        &mut self,
        device: &Attachment,
        address: u64,
        len: u64,
        permission: Permission,
        old: &impl OldMemory,
        frames: &mut impl Frames,
    ) -> Result<u64, MapError> {
        let target = whole_pages(address, len)?;
        let surroundings = Surroundings {
            host_address_bits: self.host_address_bits,
            own: &self.own,
            memory: &[],
            kept_free: &[],
            device_tlbs: &[],
        };
        let domain = &mut self.domains[device.domain];
        let reserved = ReservedBits::new(domain.stage, self.host_address_bits, self.unit.capability());
        let lender = Lender { old, surroundings, reserved };
        for _ in 0..TRIES {
            let start = domain.allocate(len).ok_or(MapError::NoAddress)?;
            let iova = Range::new(start, start + len);
            match domain.prepare(iova, permission, &lender, frames) {
                Ok(()) => {
                    domain.fill(iova, target.start, permission, frames);
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
        iova: Range,
        frames: &mut impl Frames,
    ) -> Result<(), MapError> {
        let domain = &mut self.domains[device.domain];
        if domain.space.allocated().binary_search(&iova).is_err() {
            return Err(MapError::NotMapped(iova));
        }
        domain.clear(iova, frames);
        self.unit.flush_write_buffer().map_err(UnitError::from)?;
        self.invalidator.forget(&mut self.unit, frames, Scope::Domain(device.id))?;
        let Self { unit, invalidator, contexts, device_tlbs, .. } = self;
        forget_domain(device_tlbs, contexts, device.domain, unit, invalidator, frames)?;
        self.domains[device.domain].space.release(iova).map_err(|error| MapError::NotMapped(error.0))
    }

    /// After a mapping was made. Where the path to it was replaced by copies, hardware may still go the old way.
    fn make_visible(&mut self, device: &Attachment, frames: &mut impl Frames) -> Result<(), UnitError> {
        if core::mem::take(&mut self.domains[device.domain].relinked) {
            self.unit.flush_write_buffer()?;
            return self.invalidator.forget(&mut self.unit, frames, Scope::Domain(device.id));
        }
        self.entries_appeared(Scope::Domain(device.id), frames)
    }
}

/// Gives addresses back after they turned out not to fit, and keeps the culprits from being tried again.
fn give_up(space: &mut iova::Space, iova: Range, unfit: Unfit) -> Result<(), MapError> {
    space.release(iova).map_err(|error| MapError::NotMapped(error.0))?;
    match unfit {
        Unfit::Occupied(range) => {
            space.reserve(range);
            Ok(())
        }
        Unfit::OutOfFrames => Err(MapError::OutOfFrames),
    }
}

fn whole_pages(address: u64, len: u64) -> Result<Range, MapError> {
    let range = Range::sized(address, len).ok_or(MapError::NotPages(Range::new(address, u64::MAX)))?;
    let aligned = address.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE);
    if range.is_empty() || !aligned || range.end > 1 << 52 {
        Err(MapError::NotPages(range))
    } else {
        Ok(range)
    }
}
