//! A command buffer of our own in memory (2.4): commands in one frame, where completion waits store in another.

use amdvi::command::{COMMAND_WORDS, Command, CompletionWait};
use amdvi::control::BufferBase;
use machine::{ENTRIES, Frames, PhysicalAddress};

/// Word of the store frame that completion waits write to.
const STORE: usize = 0;

/// Most commands that are submitted at once: each wait for them has a deadline. The buffer has room for more; one that is full looks
/// empty.
pub(crate) const BATCH: usize = 16;

/// A command buffer of one page, and a frame that completion waits store to.
#[derive(Debug)]
pub(crate) struct CommandBuffer {
    buffer: PhysicalAddress,
    store: PhysicalAddress,
    /// Word of the next command.
    tail: usize,
    /// What the last completion wait stores: never zero, and never the same twice.
    sequence: u64,
}

impl CommandBuffer {
    /// An empty buffer in these frames, which are zeroed and published.
    pub(crate) fn new(buffer: PhysicalAddress, store: PhysicalAddress) -> Self {
        Self { buffer, store, tail: 0, sequence: 0 }
    }

    /// The value of the base register.
    pub(crate) fn base(&self) -> BufferBase {
        BufferBase::new().with_frame(self.buffer.pfn().get()).with_length(BufferBase::SHORTEST)
    }

    /// The value of the tail register: the bytes up to the next command.
    pub(crate) fn tail_bytes(&self) -> u64 {
        self.tail as u64 * 8
    }

    /// Restarts at the first command, as the unit does when it is given the base.
    pub(crate) fn rewind(&mut self) {
        self.tail = 0;
    }

    /// Appends commands, [`BATCH`] at most, and a wait that stores when all before it are done.
    pub(crate) fn append(&mut self, commands: impl Iterator<Item = Command>, frames: &mut impl Frames) {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let wait = CompletionWait::new().storing(self.store, self.sequence);
        for command in commands.take(BATCH).chain([wait]) {
            self.push(command, frames);
        }
    }

    fn push(&mut self, command: Command, frames: &mut impl Frames) {
        for (offset, word) in command.0.iter().enumerate() {
            frames.store(self.buffer, self.tail + offset, *word);
        }
        frames.publish(self.buffer, self.tail..self.tail + COMMAND_WORDS);
        self.tail = (self.tail + COMMAND_WORDS) % ENTRIES;
    }

    /// Whether the unit has executed the last wait.
    pub(crate) fn is_done(&self, frames: &impl Frames) -> bool {
        frames.load(self.store, STORE) == self.sequence
    }
}
