//! A deliberate mistake in the allocation of DMA memory.

use machine::{Dma, DmaMemory, PAGE_SIZE, Range};

use super::tables::{Leaf, Root};
use super::{REUSE_IOVA, chosen, stop};
use crate::dma::{self, SharedMemory};
use crate::remapping::{Fate, Reach, Remapping};

/// Memory for one device's driver. One page of it gets an I/O address at which the dead kernel had mapped something.
pub(crate) struct DeviceDma<'a>(dma::DeviceDma<'a>);

impl<'a> DeviceDma<'a> {
    /// Serves a device that reaches memory by `reach`.
    pub(crate) fn new(remapping: &'a mut Remapping, reach: Reach) -> Self {
        Self(dma::DeviceDma::new(remapping, reach))
    }

    /// Maps one page at an I/O address that the dead kernel's driver used.
    fn reuse(&mut self, memory: SharedMemory) -> SharedMemory {
        let dma::DeviceDma { remapping, reach: Reach::Translated(index, attachment) } = &mut self.0 else {
            return memory;
        };
        let Remapping { units, frames, .. } = &mut **remapping;
        let architecture = units[*index].architecture;
        let Fate::TakenOver(unit) = &mut units[*index].fate else { return memory };
        let start = memory.device_address().get();
        let iova = Range::from(start..start + PAGE_SIZE);
        // This also invalidates all that the unit has cached of the domain.
        if unit.unmap(attachment, iova, frames).is_err() {
            return memory;
        }
        match Leaf::first_of(Root::of(architecture, unit.report().root), attachment.source) {
            Some(leaf) => {
                let iova = leaf.take_over(memory.physical().start.get());
                memory.moved_to(iova.into())
            }
            None => memory,
        }
    }
}

impl Dma for DeviceDma<'_> {
    type Memory = SharedMemory;

    fn allocate(&mut self, len: usize) -> Option<SharedMemory> {
        let memory = self.0.allocate(len)?;
        if chosen(REUSE_IOVA) && memory.size() as u64 == PAGE_SIZE {
            // Once is enough.
            stop();
            return Some(self.reuse(memory));
        }
        Some(memory)
    }
}
