//! What the answers of a SCSI disk say of its cache.

use machine::BlockError;

use super::sense::Sense;
use crate::cache::Unflushed;

/// What is known of a disk's cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cache {
    /// Whether it loses its content without power, if the disk says so.
    pub(super) is_volatile: Option<bool>,
    /// The writes that a flush must make durable.
    pub(super) unflushed: Unflushed,
}

impl Cache {
    /// Notes what sense data says of writes that were acknowledged before.
    pub(super) fn note(&mut self, sense: Sense) {
        let emptied = sense.is_reset() && self.is_volatile != Some(false);
        if emptied || sense.is_deferred_error() {
            self.unflushed.note_loss(BlockError::Device(sense.number()));
        }
    }

    /// Whether the disk need not know the command that empties it.
    pub(super) fn may_be_absent(self) -> bool {
        self.is_volatile != Some(true)
    }
}
