//! What may be claimed of a dump once it was written: nothing that the disk may not have, and nothing that memory did not give.

use area::{Lack, LeftOut, SealState};
use kdump::{Ended, Statistics, WriteError};
use vmcore::Level;

/// Whether the pages without which no reader opens the dump were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vital {
    Written,
    Missing,
}

/// How the writing of the pages ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) vital: Vital,
    /// The level of a smaller dump of which all pages were handed over, if there is one.
    pub(super) reached: Option<Level>,
    pub(super) ended: Ended,
}

impl Written {
    /// Nothing was.
    pub(super) fn nothing(error: WriteError) -> Self {
        let ended = Ended { statistics: Statistics::default(), error: Some(error) };
        Self { vital: Vital::Missing, reached: None, ended }
    }

    /// All pages were handed over.
    pub(super) fn all(level: Level, vital: Vital, ended: Ended) -> Self {
        let is_whole = ended.error.is_none() && ended.statistics.missing == 0;
        Self { vital: if is_whole { Vital::Written } else { vital }, reached: Some(level), ended }
    }

    /// The pages ended early, by an error. What the disk refused before counts for more.
    pub(super) fn some(error: WriteError, reached: Option<Level>, vital: Vital, ended: Ended) -> Self {
        let of_disk = ended.error.filter(|error| matches!(error, WriteError::Device(_)));
        Self { vital, reached, ended: Ended { error: of_disk.or(Some(error)), ..ended } }
    }

    /// What the seal says of pages that are not there; `clipped` entries of the core header were of no use, so that memory may be
    /// missing of which nothing is known.
    pub(super) fn left_out(&self, clipped: usize) -> LeftOut {
        let Statistics { pages, done, missing, .. } = self.ended.statistics;
        let refused = matches!(self.ended.error, Some(WriteError::Device(_)));
        let ended_early = self.ended.error.is_some() && done == pages;
        let is_sure = missing == 0 && clipped == 0 && !refused && !ended_early;
        LeftOut {
            pages: (pages - done).saturating_add(missing),
            reached: self.reached.filter(|_| is_sure).map(Level::number),
        }
    }
}

/// Whether another disk could take what this one did not: it failed, or is too small for what readers need.
pub(super) fn blames_disk(error: Option<WriteError>, sealed: SealState, vital: Vital) -> bool {
    match error {
        // Whatever ended the dump: blocks were refused before.
        _ if sealed == SealState::Partial(Lack::Write) => true,
        Some(WriteError::Device(_)) => true,
        Some(WriteError::Full) => vital == Vital::Missing,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use machine::BlockError;

    use super::*;

    const REFUSED: WriteError = WriteError::Device(BlockError::Device(5));

    fn ended(done: u64, missing: u64, error: Option<WriteError>) -> Ended {
        Ended { statistics: Statistics { pages: 10, done, missing, ..Statistics::default() }, error }
    }

    fn level() -> Option<Level> {
        Level::new(16)
    }

    #[test]
    fn blocks_that_were_refused_before_there_was_no_room_count() {
        let sealed = SealState::Partial(Lack::Write);
        assert!(blames_disk(Some(WriteError::Full), sealed, Vital::Written));
        assert!(!blames_disk(Some(WriteError::Full), SealState::Partial(Lack::Content), Vital::Written));
        assert!(blames_disk(Some(WriteError::Full), SealState::Partial(Lack::Content), Vital::Missing));
        let written = Written::some(WriteError::Full, level(), Vital::Written, ended(5, 0, Some(REFUSED)));
        assert_eq!(written.ended.error, Some(REFUSED));
    }

    #[test]
    fn a_level_is_reached_only_if_all_its_pages_are_on_the_disk() {
        let reached = |ended, clipped| {
            Written::some(WriteError::Full, level(), Vital::Written, ended).left_out(clipped).reached
        };
        assert_eq!(reached(ended(5, 0, None), 0), Some(16));
        assert_eq!(reached(ended(5, 0, None), 1), None, "memory may be missing");
        assert_eq!(reached(ended(5, 1, None), 0), None, "a page could not be read");
        assert_eq!(reached(ended(5, 0, Some(REFUSED)), 0), None, "blocks were given up");
    }

    #[test]
    fn a_dump_that_could_not_be_finished_reaches_no_level_and_may_lack_vital_pages() {
        let finish_failed = ended(10, 0, Some(WriteError::Full));
        let written = Written::all(Level::ALL, Vital::Missing, finish_failed);
        assert_eq!((written.left_out(0).reached, written.vital), (None, Vital::Missing));
        let written = Written::all(Level::ALL, Vital::Missing, ended(10, 0, None));
        assert_eq!((written.left_out(0).reached, written.vital), (Some(31), Vital::Written));
    }
}
