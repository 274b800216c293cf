//! Which frames a takeover took, so that a takeover which fails gives them back.
//!
//! Frames that the unit was told of stay allocated. It may be reading the tables below a root pointer that it was given,
//! and caches name them even when it has the old pointer again. A queue that was turned off may still have a wait under
//! way, which writes its status.

use alloc::vec::Vec;

use machine::growth::push;
use machine::{Contended, CopyError, Frames, OldMemory, PhysicalAddress, Range, Table, Unreadable};

/// Which of our frames a unit may read or write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Told {
    #[default]
    Nothing,
    /// Of a queue, where its waits report, and the log of events if there is one.
    Queue([Range<PhysicalAddress>; 3]),
    /// Of a root table.
    Tables,
}

impl Told {
    fn of(self, frame: PhysicalAddress) -> bool {
        match self {
            Self::Nothing => false,
            Self::Queue(parts) => parts.iter().any(|part| part.contains(frame)),
            Self::Tables => true,
        }
    }
}

/// Frames, and a list of those that were handed out and not taken back.
#[derive(Debug)]
pub(crate) struct Ledger<'a, F> {
    frames: &'a mut F,
    taken: Vec<PhysicalAddress>,
}

impl<'a, F: Frames> Ledger<'a, F> {
    pub(crate) fn new(frames: &'a mut F) -> Self {
        Self { frames, taken: Vec::new() }
    }

    /// Gives back all frames that the unit was not told of.
    pub(crate) fn give_back(self, told: Told) {
        let unused = self.taken.into_iter().filter(|frame| !told.of(*frame));
        unused.for_each(|frame| self.frames.release(frame));
    }

    /// Lists a frame. One for which there is no room in the list stays allocated if the takeover fails.
    fn note(&mut self, frame: PhysicalAddress) -> PhysicalAddress {
        let _ = push(&mut self.taken, frame);
        frame
    }
}

impl<F> Ledger<'_, F> {
    fn note_run(&mut self, first: PhysicalAddress, count: usize) -> PhysicalAddress {
        (0..count as u64).for_each(|index| {
            let _ = push(&mut self.taken, first.saturating_add(index * machine::PAGE_SIZE));
        });
        first
    }
}

impl<F: Frames> Frames for Ledger<'_, F> {
    fn allocate(&mut self) -> Option<PhysicalAddress> {
        self.frames.allocate().map(|frame| self.note(frame))
    }

    fn allocate_copy(
        &mut self,
        old: &impl OldMemory,
        address: PhysicalAddress,
    ) -> Result<PhysicalAddress, CopyError> {
        self.frames.allocate_copy(old, address).map(|frame| self.note(frame))
    }

    fn allocate_run(&mut self, count: usize) -> Option<PhysicalAddress> {
        let first = self.frames.allocate_run(count)?;
        Some(self.note_run(first, count))
    }

    fn allocate_run_below(&mut self, count: usize, limit: PhysicalAddress) -> Option<PhysicalAddress> {
        let first = self.frames.allocate_run_below(count, limit)?;
        Some(self.note_run(first, count))
    }

    fn release(&mut self, frame: PhysicalAddress) {
        // Most frames that are given back were taken last, to look at a table.
        if let Some(place) = self.taken.iter().rposition(|taken| *taken == frame) {
            self.taken.swap_remove(place);
        }
        self.frames.release(frame);
    }

    fn available(&self) -> usize {
        self.frames.available()
    }

    fn table(&self, frame: PhysicalAddress) -> &Table {
        self.frames.table(frame)
    }

    fn table_mut(&mut self, frame: PhysicalAddress) -> &mut Table {
        self.frames.table_mut(frame)
    }

    fn load(&self, frame: PhysicalAddress, index: usize) -> u64 {
        self.frames.load(frame, index)
    }

    fn store(&mut self, frame: PhysicalAddress, index: usize, entry: u64) {
        self.frames.store(frame, index, entry);
    }

    fn reuse(&mut self, old: &impl OldMemory, memory: Range<PhysicalAddress>) -> Result<(), Unreadable> {
        self.frames.reuse(old, memory)
    }

    fn store_pair(&mut self, address: PhysicalAddress, words: [u64; 2]) -> Result<(), Contended> {
        self.frames.store_pair(address, words)
    }

    fn publish(&mut self, frame: PhysicalAddress, entries: core::ops::Range<usize>) {
        self.frames.publish(frame, entries);
    }
}
