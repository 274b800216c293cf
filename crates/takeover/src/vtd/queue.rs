//! An invalidation queue of our own in memory (6.5.2): descriptors in one frame, the status of waits in another.

use machine::{ENTRIES, Frames, PhysicalAddress, Range};
use vtd::queue::{Descriptor, QueueAddress, Wait};

use crate::failure::Reason;
use crate::table::page_at;
use crate::vtd::mode::Mode;

/// Word of the status frame that waits write to.
const STATUS: usize = 0;

/// A queue of one page, and a frame for the status that waits write.
#[derive(Debug)]
pub(crate) struct Queue {
    address: QueueAddress,
    status: PhysicalAddress,
    /// Word of the next descriptor.
    tail: usize,
    /// Status data of the last wait: never zero, and never the same twice in a row.
    sequence: u32,
}

impl Queue {
    /// Takes frames for an empty queue. Scalable mode demands wide descriptors (6.5.2).
    pub(crate) fn new(mode: Mode, frames: &mut impl Frames) -> Result<Self, Reason> {
        let queue = frames.allocate().ok_or(Reason::OutOfFrames)?;
        let Some(status) = frames.allocate() else {
            frames.release(queue);
            return Err(Reason::OutOfFrames);
        };
        frames.publish(queue, 0..ENTRIES);
        frames.publish(status, 0..ENTRIES);
        let address = QueueAddress::new().with_wide(mode == Mode::Scalable).with_frame(queue.pfn().get());
        Ok(Self { address, status, tail: 0, sequence: 0 })
    }

    /// The value for IQA.
    pub(crate) fn address(&self) -> QueueAddress {
        self.address
    }

    /// The frames that the unit uses: descriptors, and the status of waits. There is no log.
    pub(crate) fn frames(&self) -> [Range<PhysicalAddress>; 3] {
        [page_at(self.address.address()), page_at(self.status), Range::default()]
    }

    /// The value for IQT: the bytes up to the next descriptor.
    pub(crate) fn tail_bytes(&self) -> u64 {
        self.tail as u64 * 8
    }

    /// Restarts at the first descriptor, as the unit does when the queue is turned on.
    pub(crate) fn rewind(&mut self) {
        self.tail = 0;
    }

    /// Appends descriptors, and a wait that reports when all before it are done.
    pub(crate) fn append(&mut self, descriptors: &[Descriptor], frames: &mut impl Frames) {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let wait = Wait::new().with_write(true).with_fence(true).with_data(self.sequence);
        for descriptor in descriptors.iter().chain([&wait.reporting_to(self.status)]) {
            self.push(*descriptor, frames);
        }
    }

    fn push(&mut self, descriptor: Descriptor, frames: &mut impl Frames) {
        let words = self.address.descriptor_bytes() as usize / 8;
        for (offset, word) in descriptor.0.iter().take(words).enumerate() {
            frames.store(self.address.address(), self.tail + offset, *word);
        }
        frames.publish(self.address.address(), self.tail..self.tail + words);
        self.tail = (self.tail + words) % ENTRIES;
    }

    /// Whether the unit has executed the last wait.
    pub(crate) fn is_done(&self, frames: &impl Frames) -> bool {
        frames.load(self.status, STATUS) as u32 == self.sequence
    }
}
