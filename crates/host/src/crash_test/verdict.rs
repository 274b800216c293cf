//! Decides from what the areas hold whether the dump of a crash on request came.

use std::path::PathBuf;

use area::SealState;
use serde::{Deserialize, Serialize};

/// What came of a crash on request, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The dump, complete.
    Complete,
    /// The dump of the kernel to which the machine was handed over.
    HandedOver,
    /// The dump, with something missing.
    Partial,
    /// A part of the dump: it was never sealed.
    CutOff,
    /// The dead kernel's log only.
    LogOnly,
    /// The dump of another crash.
    AnotherCrash,
    /// Nothing.
    NoDump,
}

impl Verdict {
    /// All, from best to worst.
    pub const ALL: [Self; 7] = [
        Self::Complete,
        Self::HandedOver,
        Self::Partial,
        Self::CutOff,
        Self::LogOnly,
        Self::AnotherCrash,
        Self::NoDump,
    ];

    /// The name under which `docs/messages.md` explains it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::HandedOver => "handed-over",
            Self::Partial => "partial",
            Self::CutOff => "cut-off",
            Self::LogOnly => "log-only",
            Self::AnotherCrash => "another-crash",
            Self::NoDump => "no-dump",
        }
    }

    /// What it means, in words, and what to look at.
    pub const fn told(self) -> &'static str {
        match self {
            Self::Complete => "passed: the complete dump came",
            Self::HandedOver => "passed: the dump came, written by the fallback kernel",
            Self::Partial => "the dump came, and something is missing in it: `holdover collect` says what",
            Self::CutOff => {
                "the dump was begun and not finished: a watchdog or a loss of power may have cut it off, or the disk failed"
            }
            Self::LogOnly => {
                "the dead kernel's log came, and no dump: the serial console or the display says why"
            }
            Self::AnotherCrash => "another crash came before this one: collect its dump, and test again",
            Self::NoDump => {
                "no dump came: look at the serial console or the management controller's for lines of `holdover:`, and whether a watchdog or \
                 somebody reset the machine; `holdover doctor` says what is missing now"
            }
        }
    }
}

impl Verdict {
    /// Whether a complete dump came.
    pub const fn is_passed(self) -> bool {
        matches!(self, Self::Complete | Self::HandedOver)
    }
}

/// What an area holds after the crash.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    /// The area's device, or its file.
    pub(super) device: PathBuf,
    /// Whether something was dumped there since the test was asked for.
    pub(super) is_new: bool,
    /// Whether the log has the test's mark; `None` if there is no log that can be read.
    pub(super) has_mark: Option<bool>,
    /// How far the dump got.
    pub(super) state: SealState,
    /// Whether there is a dump, or a part of one.
    pub(super) has_dump: bool,
}

impl Evidence {
    fn verdict(&self) -> Verdict {
        match (self.has_mark, self.state) {
            // What is new, and has no log, is of this crash in all likelihood.
            (Some(false), _) if self.is_new => Verdict::AnotherCrash,
            (Some(false), _) => Verdict::NoDump,
            (None, _) if !self.is_new => Verdict::NoDump,
            (_, SealState::Complete) => Verdict::Complete,
            (_, SealState::Partial(_)) if self.has_dump => Verdict::Partial,
            _ if self.has_dump => Verdict::CutOff,
            (Some(true), _) => Verdict::LogOnly,
            (None, _) => Verdict::NoDump,
        }
    }
}

/// The best verdict, and the area that it is about.
pub(super) fn judge(evidence: &[Evidence]) -> (Verdict, Option<PathBuf>) {
    let best = evidence.iter().min_by_key(|one| one.verdict());
    match best.map(|one| (one.verdict(), one)) {
        None | Some((Verdict::NoDump, _)) => (Verdict::NoDump, None),
        Some((verdict, one)) => (verdict, Some(one.device.clone())),
    }
}

#[cfg(test)]
mod tests {
    use area::Lack;

    use super::*;

    fn evidence(has_mark: Option<bool>, state: SealState) -> Evidence {
        Evidence { device: "/dev/vdb".into(), is_new: true, has_mark, state, has_dump: true }
    }

    #[test]
    fn the_dump_whose_log_has_the_mark_is_the_tests() {
        let verdict = |state| evidence(Some(true), state).verdict();
        assert_eq!(verdict(SealState::Complete), Verdict::Complete);
        assert_eq!(verdict(SealState::Partial(Lack::Write)), Verdict::Partial);
        assert_eq!(verdict(SealState::InProgress), Verdict::CutOff);
        let log = Evidence { has_dump: false, ..evidence(Some(true), SealState::InProgress) };
        assert_eq!(log.verdict(), Verdict::LogOnly);
    }

    #[test]
    fn a_dump_whose_log_has_no_mark_is_of_another_crash_or_an_old_one() {
        let another = evidence(Some(false), SealState::Complete);
        assert_eq!(another.verdict(), Verdict::AnotherCrash);
        assert_eq!(Evidence { is_new: false, ..another }.verdict(), Verdict::NoDump);
    }

    #[test]
    fn what_is_new_and_has_no_log_counts_and_what_is_old_does_not() {
        let new = evidence(None, SealState::Complete);
        assert_eq!(new.verdict(), Verdict::Complete);
        assert_eq!(Evidence { is_new: false, ..new }.verdict(), Verdict::NoDump);
    }

    #[test]
    fn the_best_area_counts_and_without_one_no_dump_came() {
        let (old, new) =
            (evidence(Some(false), SealState::Complete), evidence(Some(true), SealState::Complete));
        let new = Evidence { device: "/dev/vdc".into(), ..new };
        assert_eq!(judge(&[old, new]), (Verdict::Complete, Some("/dev/vdc".into())));
        assert_eq!(judge(&[]), (Verdict::NoDump, None));
        let none = Evidence { is_new: false, ..evidence(None, SealState::Empty) };
        assert_eq!(judge(&[none]), (Verdict::NoDump, None));
    }
}
