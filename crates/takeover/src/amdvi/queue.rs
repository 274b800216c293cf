//! A command buffer of our own in memory (2.4): commands in frames that follow each other, where completion waits store in another.

use amdvi::command::{COMMAND_WORDS, Command, CompletionWait};
use amdvi::control::BufferBase;
use machine::{ENTRIES, Frames, PAGE_SIZE, PhysicalAddress};

/// Word of the store frame that completion waits write to.
const STORE: usize = 0;

/// Most commands that are submitted at once: each wait for them has a deadline. The buffer has room for more; one that is full looks
/// empty.
pub(crate) const BATCH: usize = 16;

/// Frames of the command buffer, and of the event log: 512 entries each, as many as Linux's have. A Linux to which the machine is handed over
/// may go on with both, and does not ask how long they are.
pub(crate) const BUFFER_FRAMES: usize = 2;

/// Words of the buffer.
const WORDS: usize = BUFFER_FRAMES * ENTRIES;

/// The base register's value for a buffer or a log of [`BUFFER_FRAMES`].
pub(crate) fn buffer_base(start: PhysicalAddress) -> BufferBase {
    let length = BufferBase::SHORTEST + BUFFER_FRAMES.ilog2() as u8;
    BufferBase::new().with_frame(start.pfn().get()).with_length(length)
}

/// The frame of a buffer or a log, and the word within it, where this word of the whole is.
pub(crate) fn place(start: PhysicalAddress, word: usize) -> (PhysicalAddress, usize) {
    let word = word % WORDS;
    (start.saturating_add((word / ENTRIES) as u64 * PAGE_SIZE), word % ENTRIES)
}

/// A command buffer of [`BUFFER_FRAMES`], and a frame that completion waits store to.
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
        buffer_base(self.buffer)
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
        let (frame, first) = place(self.buffer, self.tail);
        for (offset, word) in command.0.iter().enumerate() {
            frames.store(frame, first + offset, *word);
        }
        frames.publish(frame, first..first + COMMAND_WORDS);
        self.tail = (self.tail + COMMAND_WORDS) % WORDS;
    }

    /// Whether the unit has executed the last wait.
    pub(crate) fn is_done(&self, frames: &impl Frames) -> bool {
        frames.load(self.store, STORE) == self.sequence
    }
}
