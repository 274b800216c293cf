//! What became of the requests of each slot, as sets of slots: a bit each.

use machine::BlockError;

use crate::disk::Completion;

/// The requests of one disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requests {
    /// Submitted, and not given to the disk.
    waiting: u32,
    /// Of these and of those that the disk has, the ones that it queues.
    queued: u32,
    /// Given to the disk, which has not answered.
    issued: u32,
    /// Answered.
    done: u32,
    /// Ended by an error.
    failed: u32,
    /// The last error.
    error: BlockError,
}

impl Requests {
    /// No requests.
    pub(super) const NONE: Self =
        Self { waiting: 0, queued: 0, issued: 0, done: 0, failed: 0, error: BlockError::TimedOut };

    /// Adds a request that the disk queues.
    pub(super) fn add_queued(&mut self, slot: usize) {
        self.waiting |= 1 << slot;
        self.queued |= 1 << slot;
    }

    /// Adds a request that the disk does while it has no other.
    pub(super) fn add_single(&mut self, slot: usize) {
        self.waiting |= 1 << slot;
        self.queued &= !(1 << slot);
    }

    /// Adds a request that cannot be done.
    pub(super) fn add_failed(&mut self, slot: usize, error: BlockError) {
        (self.failed, self.error) = (self.failed | 1 << slot, error);
    }

    /// Takes the requests that the disk can have now, and those of them that it queues: all that it queues, or a single one.
    pub(super) fn take_issuable(&mut self) -> (u32, u32) {
        let queued = self.waiting & self.queued;
        let single = self.waiting & !self.queued;
        let slots = if self.issued & !self.queued != 0 {
            0
        } else if queued != 0 {
            queued
        } else if self.issued == 0 {
            single & single.wrapping_neg()
        } else {
            0
        };
        self.waiting &= !slots;
        self.issued |= slots;
        (slots, slots & self.queued)
    }

    /// Whether the disk has requests.
    pub(super) fn any_issued(&self) -> bool {
        self.issued != 0
    }

    /// Takes notice of the slots that are still pending: the others are done.
    pub(super) fn finish(&mut self, pending: u32) {
        self.done |= self.issued & !pending;
        self.issued &= pending;
    }

    /// Takes notice of an error, which ends a single request, and all queued ones that are still pending.
    pub(super) fn fail(&mut self, pending: u32, error: BlockError) {
        self.finish(pending | !self.queued);
        (self.failed, self.error) = (self.failed | self.issued, error);
        self.issued = 0;
    }

    /// Takes a request that has ended.
    pub(super) fn take_ended(&mut self) -> Option<Completion> {
        let ended = self.done | self.failed;
        let slot = (ended != 0).then(|| ended.trailing_zeros())?;
        let has_failed = self.failed >> slot & 1 != 0;
        self.done &= !(1 << slot);
        self.failed &= !(1 << slot);
        Some(Completion { slot: slot as usize, result: if has_failed { Err(self.error) } else { Ok(()) } })
    }
}
