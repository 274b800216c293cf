//! A batch that somebody works on.

use crossbeam_channel::{Receiver, Sender, bounded};
use kdump::WriteError;

use super::batch::Batch;

/// A batch, and where to tell that its pages are in the file.
pub(super) struct Job {
    pub(super) batch: Batch,
    done: Sender<WrittenBatch>,
}

/// The batch, unless writing its pages has failed.
pub(super) type WrittenBatch = Result<Batch, WriteError>;

impl Job {
    /// A job, and what comes of it: nothing, if it is lost.
    pub(super) fn new(batch: Batch) -> (Self, Receiver<WrittenBatch>) {
        let (done, outcome) = bounded(1);
        (Self { batch, done }, outcome)
    }

    /// Tells that it is done, or why not.
    pub(super) fn end(self, written: Result<(), WriteError>) {
        // After an error somewhere else nobody listens.
        let _ = self.done.send(written.map(|()| self.batch));
    }
}
