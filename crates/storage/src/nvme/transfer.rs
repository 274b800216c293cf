//! Where a command's data is: PRP entries (4.1.1). Each names a page; the first two are in the command, and where there are more
//! pages, the second leads to a list of all but the first.

use machine::{Dma, DmaMemory};

use super::spec::PAGE;
use crate::slots::Pool;

/// Bytes in an entry of a list.
const ENTRY: usize = 8;

/// Lists begin at multiples of this: some controllers cannot read others.
const ALIGNMENT: usize = 512;

/// The lists of all slots. A list does not cross the end of a page, where its last entry would lead to another list.
pub(super) struct Lists<M> {
    memory: M,
    /// Bytes between two lists.
    stride: usize,
}

impl<M: DmaMemory> Lists<M> {
    /// Takes memory for the lists of a pool; `None` if there is none.
    pub(super) fn allocate(dma: &mut impl Dma<Memory = M>, pool: Pool) -> Option<Self> {
        let stride = stride(pool.slot_size);
        Some(Self { memory: dma.allocate(pool.slots.checked_mul(stride)?)?, stride })
    }

    /// Bytes that one command moves at most: the first page, and those on the list.
    pub(super) fn most_bytes(&self) -> usize {
        (1 + self.stride / ENTRY) * PAGE as usize
    }

    /// The entries for the first `len` bytes of a slot's buffer, which begins with a page.
    pub(super) fn pointers(&mut self, slot: usize, buffer: &M, len: usize) -> [u64; 2] {
        let first = buffer.device_address();
        let page = |number: u64| first.saturating_add(number * PAGE).get();
        let pages = (len as u64).div_ceil(PAGE);
        match pages {
            0 | 1 => [page(0), 0],
            2 => [page(0), page(1)],
            _ => {
                let list = slot * self.stride;
                for number in 1..pages {
                    let at = list + (number as usize - 1) * ENTRY;
                    self.memory.write(at, &page(number).to_le_bytes());
                }
                [page(0), self.memory.device_address().saturating_add(list as u64).get()]
            }
        }
    }
}

/// Bytes for the list of a slot: a power of two, and no more than a page.
fn stride(slot_size: usize) -> usize {
    let entries = slot_size.div_ceil(PAGE as usize).saturating_sub(1);
    let bytes = entries.saturating_mul(ENTRY).checked_next_power_of_two();
    bytes.map_or(PAGE as usize, |bytes| bytes.clamp(ALIGNMENT, PAGE as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_as_long_as_a_slot_needs_and_no_longer_than_a_page() {
        for (slot_size, bytes) in
            [(0, 512), (4096, 512), (64 << 10, 512), (65 << 12, 512), (66 << 12, 1024), (1 << 30, 4096)]
        {
            assert_eq!(stride(slot_size), bytes, "{slot_size}");
        }
        assert_eq!(stride(usize::MAX), 4096);
    }
}
