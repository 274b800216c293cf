//! The command buffer (2.4): commands in a ring, which completion waits end.

use amdvi::command::{Command, CompletionWait};
use machine::{Contended, Frames, PAGE_SIZE, PhysicalAddress, Registers};

use crate::amdvi::ring::{Owner, Ring};
use crate::amdvi::unit::Unit;

/// Most commands that are submitted at once: each wait for them has a deadline. The buffer has room for more; one that is full looks
/// empty.
pub(crate) const BATCH: usize = 16;

/// What the first wait stores, less one: the dead kernel's waits count from zero.
const SEQUENCE: u64 = 0x486F_6C64 << 32;

/// A command buffer, and where completion waits report.
#[derive(Debug)]
pub(crate) struct CommandBuffer {
    pub(crate) ring: Ring,
    /// Where completion waits store; `None` if there is no place that may be written. Then the status register alone tells.
    store: Option<PhysicalAddress>,
    /// Where the next command goes, in bytes.
    tail: u64,
    /// What the last completion wait stores: never the same twice.
    sequence: u64,
}

impl CommandBuffer {
    /// An empty buffer in these frames, which are zeroed and published.
    pub(crate) fn new(buffer: PhysicalAddress, store: PhysicalAddress) -> Self {
        Self { ring: Ring::new(buffer), store: Some(store), tail: 0, sequence: SEQUENCE }
    }

    /// The dead kernel's buffer, from `tail` on. `store` is the page to which completion waits may store, if that is known.
    pub(crate) fn of_old(ring: Ring, store: Option<PhysicalAddress>, tail: u64) -> Self {
        Self { ring, store, tail, sequence: SEQUENCE }
    }

    /// The value of the tail register: the bytes up to the next command.
    pub(crate) fn tail_bytes(&self) -> u64 {
        self.tail
    }

    /// Goes on at this place.
    pub(crate) fn go_on_at(&mut self, place: u64) {
        self.tail = place;
    }

    /// Appends commands, [`BATCH`] at most, and a wait that reports when all before it are done; none if one of them cannot be written.
    pub(crate) fn append(
        &mut self,
        commands: impl Iterator<Item = Command>,
        frames: &mut impl Frames,
    ) -> Result<(), Contended> {
        self.sequence = self.sequence.wrapping_add(1);
        let wait = CompletionWait::new().with_interrupt(self.is_signalled());
        let wait = match self.store {
            Some(store) => wait.storing(store, self.sequence),
            None => wait.without_store(),
        };
        let mut tail = self.tail;
        for command in commands.take(BATCH).chain([wait]) {
            self.ring.put(tail, command.0, frames)?;
            tail = self.ring.after(tail);
        }
        self.tail = tail;
        Ok(())
    }

    /// Whether waits show in the status register too: where it is not sure that they store. No interrupt follows, since
    /// completion interrupts are off.
    pub(crate) fn is_signalled(&self) -> bool {
        self.ring.owner == Owner::Old
    }

    /// Whether the unit has executed the last wait.
    pub(crate) fn is_done<R: Registers, C>(&self, unit: &Unit<'_, R, C>, frames: &impl Frames) -> bool {
        self.has_stored(frames)
            || self.is_signalled() && unit.has_fetched_all() && unit.status().completion_interrupt()
    }

    fn has_stored(&self, frames: &impl Frames) -> bool {
        let word = |store: PhysicalAddress| (store.get() % PAGE_SIZE / 8) as usize;
        self.store.is_some_and(|store| frames.load(store.align_down(PAGE_SIZE), word(store)) == self.sequence)
    }
}
