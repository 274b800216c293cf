//! The writes to a disk that were acknowledged, and whether a flush can still make them durable.

use machine::BlockError;

/// Writes that were acknowledged since the last flush, and are in a cache that loses its content without power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unflushed {
    /// Whether there is one.
    any: bool,
    /// Why such a write may be lost.
    lost: Option<BlockError>,
}

impl Unflushed {
    /// No writes.
    pub(crate) const NONE: Self = Self { any: false, lost: None };

    /// Notes that a write was acknowledged.
    pub(crate) fn note_write(&mut self) {
        self.any = true;
    }

    /// Notes that acknowledged writes may be lost, if there are any.
    pub(crate) fn note_loss(&mut self, why: BlockError) {
        if self.any {
            self.lost.get_or_insert(why);
        }
    }

    /// Notes that a flush has ended well; it is in vain if writes were lost before, which is told once.
    pub(crate) fn note_flush(&mut self) -> Result<(), BlockError> {
        self.any = false;
        self.lost.take().map_or(Ok(()), Err)
    }
}
