//! A submission queue and the completion queue in which its commands are answered (3.3.1, 3.3.3).

use machine::{Dma, DmaMemory, Registers};

use super::port::{Doorbells, QueueAddresses};
use super::spec::{Command, EndStatus, Ending, completion, submission};

/// The controller's answer to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The identifier of the command, as the controller says.
    pub(super) command: u16,
    /// How it ended.
    pub(super) status: EndStatus,
}

/// A pair of queues, and the driver's position in them.
///
/// At most one command less than there are entries may be in flight. There is then always room in both queues.
pub(super) struct QueuePair<M> {
    number: u16,
    submission: M,
    completion: M,
    entries: u16,
    /// Index of the next entry to submit.
    tail: u16,
    /// Index of the next completion to look at.
    head: u16,
    /// The phase of completions that are new.
    phase: bool,
    /// Tail and head that the controller was told of.
    rung: (u16, u16),
}

impl<M: DmaMemory> QueuePair<M> {
    /// Makes a pair of queues of `entries` each, 2 at least. `None` if there is no memory.
    pub(super) fn allocate(dma: &mut impl Dma<Memory = M>, number: u16, entries: u16) -> Option<Self> {
        let submission = dma.allocate(usize::from(entries) * submission::SIZE)?;
        let completion = dma.allocate(usize::from(entries) * completion::SIZE)?;
        Some(Self { number, submission, completion, entries, tail: 0, head: 0, phase: true, rung: (0, 0) })
    }

    /// Where the controller finds it.
    pub(super) fn addresses(&self) -> QueueAddresses {
        QueueAddresses {
            submission: self.submission.device_address(),
            completion: self.completion.device_address(),
            entries: self.entries,
        }
    }

    /// Empties the queues, for a controller that has forgotten them.
    pub(super) fn reset(&mut self) {
        const NONE: [u8; completion::SIZE] = [0; completion::SIZE];
        for entry in 0..usize::from(self.entries) {
            self.completion.write(entry * completion::SIZE, &NONE);
        }
        self.completion.fence();
        (self.tail, self.head, self.phase, self.rung) = (0, 0, true, (0, 0));
    }

    /// Puts a command on the queue, with an identifier that no command in flight has.
    pub(super) fn submit(&mut self, identifier: u16, command: Command) {
        self.submission.write(usize::from(self.tail) * submission::SIZE, &command.to_bytes(identifier));
        self.tail = self.after(self.tail);
    }

    /// Tells the controller what was submitted and taken since the last call.
    pub(super) fn ring(&mut self, doorbells: &mut Doorbells<impl Registers>) {
        let (tail, head) = self.rung;
        // Room for completions first: commands may need it.
        if head != self.head {
            doorbells.ring_completion(self.number, self.head);
        }
        if tail != self.tail {
            // The commands must be visible before the doorbell announces them (3.3.1.1).
            self.submission.fence();
            doorbells.ring_submission(self.number, self.tail);
        }
        self.rung = (self.tail, self.head);
    }

    /// Takes one completion.
    pub(super) fn take(&mut self) -> Option<Answer> {
        let entry = usize::from(self.head) * completion::SIZE;
        let ending = Ending::from_bits(self.completion.read_u32(entry + completion::ENDING));
        if ending.phase() != self.phase {
            return None;
        }
        // What the command has moved may be read only after its completion was seen.
        self.completion.fence();
        self.head = self.after(self.head);
        self.phase ^= self.head == 0;
        Some(Answer { command: ending.command(), status: EndStatus::from_bits(ending.status()) })
    }

    fn after(&self, index: u16) -> u16 {
        if index + 1 == self.entries { 0 } else { index + 1 }
    }
}
