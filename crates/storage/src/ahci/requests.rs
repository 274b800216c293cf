//! What became of the requests of each slot, as sets of slots: a bit each.

use machine::BlockError;

use super::port::{Cause, Trouble};
use crate::cache::Unflushed;
use crate::disk::Completion;
use crate::slots::Request;

/// How often a request is given again that was lost on the way.
const MOST_REPEATS: u8 = 3;

/// The requests of one disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requests {
    /// Submitted, and not given to the disk.
    waiting: u32,
    /// Of these and of those that the disk has, the ones that it queues.
    queued: u32,
    /// Of the same, the writes.
    writes: u32,
    /// Of the same, the flushes.
    flushes: u32,
    /// Given to the disk, which has not answered.
    issued: u32,
    /// The disk had several when one of them failed: they are given to it again, one at a time.
    suspects: u32,
    /// How often each was lost on the way.
    repeats: [u8; 32],
    /// Answered.
    done: u32,
    /// Ended by an error.
    failed: u32,
    /// The last error.
    error: BlockError,
    /// Whether writes that are done may be in a cache that loses its content without power.
    pub(super) has_volatile_cache: bool,
    /// The writes that are, even if the disk uses no cache any more.
    unflushed: Unflushed,
}

impl Requests {
    /// No requests.
    pub(super) const NONE: Self = Self {
        waiting: 0,
        queued: 0,
        writes: 0,
        flushes: 0,
        issued: 0,
        suspects: 0,
        repeats: [0; 32],
        done: 0,
        failed: 0,
        error: BlockError::TimedOut,
        has_volatile_cache: true,
        unflushed: Unflushed::NONE,
    };

    /// Adds a request that the disk queues.
    pub(super) fn add_queued(&mut self, slot: usize, request: Request) {
        self.add_single(slot, request);
        self.queued |= 1 << slot;
    }

    /// Adds a request that the disk does while it has no other.
    pub(super) fn add_single(&mut self, slot: usize, request: Request) {
        let bit = 1 << slot;
        for set in [&mut self.queued, &mut self.suspects, &mut self.writes, &mut self.flushes] {
            *set &= !bit;
        }
        match request {
            Request::Read(_) => {}
            Request::Write(_) => self.writes |= bit,
            Request::Flush => self.flushes |= bit,
        }
        self.waiting |= bit;
        self.repeats[slot] = 0;
    }

    /// Takes the requests that the disk can have now, and those of them that it queues: all that it queues, or a single one.
    pub(super) fn take_issuable(&mut self) -> (u32, u32) {
        let sociable = self.queued & !self.suspects;
        let (together, alone) = (self.waiting & sociable, self.waiting & !sociable);
        let slots = if self.issued & !sociable != 0 {
            0
        } else if together != 0 {
            together
        } else if self.issued == 0 {
            alone & alone.wrapping_neg()
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
        let done = self.issued & !pending;
        self.issued &= pending;
        self.done |= done;
        if done & self.writes != 0 && self.has_volatile_cache {
            self.unflushed.note_write();
        }
        if done & self.flushes != 0
            && let Err(error) = self.unflushed.note_flush()
        {
            self.failed |= done & self.flushes;
            self.error = error;
        }
    }

    /// Takes notice that the disk may have been without power.
    pub(super) fn note_break(&mut self, Trouble { code, .. }: Trouble) {
        self.unflushed.note_loss(BlockError::Device(code));
    }

    /// Takes notice of an error, after which the disk has none of the requests that are still pending. They are given to it again,
    /// but for the one that it does not carry out, and for those that are lost on the way again and again.
    pub(super) fn take_back(&mut self, pending: u32, Trouble { code, cause }: Trouble) {
        self.finish(pending | !self.queued);
        let back = core::mem::take(&mut self.issued);
        let lost = match cause {
            Cause::Disk if back.is_power_of_two() => back,
            Cause::Disk => {
                self.suspects |= back;
                0
            }
            Cause::Way => self.lost_again(back),
        };
        self.waiting |= back & !lost;
        (self.failed, self.error) = (self.failed | lost, BlockError::Device(code));
    }

    /// Counts that requests were lost on the way; gives those of which it was too often.
    fn lost_again(&mut self, slots: u32) -> u32 {
        let mut too_often = 0;
        for (slot, repeats) in self.repeats.iter_mut().enumerate().filter(|(slot, _)| slots >> slot & 1 != 0)
        {
            *repeats += 1;
            too_often |= u32::from(*repeats > MOST_REPEATS) << slot;
        }
        too_often
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
