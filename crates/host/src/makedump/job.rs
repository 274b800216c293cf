//! A job: the batches that one thread works on.

use crossbeam_channel::{Receiver, Sender, bounded};
use kdump::WriteError;

use super::batch::Batch;

/// A batch, and the channel through which it comes back when its pages are in the file.
pub(super) struct Job {
    pub(super) batch: Batch,
    done: Sender<WrittenBatch>,
}

/// A batch whose pages are in the file, or why they are not.
pub(super) type WrittenBatch = Result<Batch, WriteError>;

impl Job {
    /// A job, and where its batch comes back. Nothing comes if the thread that has the job is gone.
    pub(super) fn new(batch: Batch) -> (Self, Receiver<WrittenBatch>) {
        let (done, outcome) = bounded(1);
        (Self { batch, done }, outcome)
    }

    /// Sends the batch back, or the reason why its pages are not written.
    pub(super) fn end(self, written: Result<(), WriteError>) {
        // After an error elsewhere nobody receives it.
        let _ = self.done.send(written.map(|()| self.batch));
    }
}
