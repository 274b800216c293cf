//! The writes to a disk that were acknowledged, and whether a flush can still make them durable.

use machine::BlockError;

use super::sense::Sense;

/// What is known of a disk's cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cache {
    /// Whether it loses its content without power, if the disk says so.
    pub(super) is_volatile: Option<bool>,
    /// Whether a write was acknowledged since the last flush.
    has_unflushed: bool,
    /// Why such a write may be lost.
    lost: Option<BlockError>,
}

impl Cache {
    /// Notes that a write was acknowledged.
    pub(super) fn note_write(&mut self) {
        self.has_unflushed = true;
    }

    /// Notes what sense data says of writes that were acknowledged before.
    pub(super) fn note(&mut self, sense: Sense) {
        let emptied = sense.is_reset() && self.is_volatile != Some(false);
        if self.has_unflushed && (emptied || sense.is_deferred_error()) {
            self.lost.get_or_insert(BlockError::Device(sense.number()));
        }
    }

    /// Notes that a flush has ended well; it is in vain if writes were lost before, which is told once.
    pub(super) fn note_flush(&mut self) -> Result<(), BlockError> {
        self.has_unflushed = false;
        self.lost.take().map_or(Ok(()), Err)
    }

    /// Whether the disk need not know the command that empties it.
    pub(super) fn may_be_absent(self) -> bool {
        self.is_volatile != Some(true)
    }
}
