//! Which older folders go, so that the directory does not fill up.

use super::crash::FolderContent;
use super::folder::CrashFolder;
use super::history::LoopFolders;

/// What is kept of the folders that Holdover made on this host. The newest always is. Folders with a dump, and those with a log only,
/// are counted apart: a log displaces no dump. Complete dumps come before others: for a part of a dump none of them goes because of
/// their number, so that one folder more may be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// So many of them; `None` for all.
    pub keep: Option<u32>,
    /// So many bytes in all of them; `None` for any number.
    pub keep_bytes: Option<u64>,
}

/// Who needs a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nobody.
    Free,
    /// Copies of it are not where they are to be: it goes only for its bytes, or out of a boot loop.
    Undelivered,
    /// Somebody is at work with it.
    Busy,
}

/// What stays, of one kind.
#[derive(Clone, Copy, Default)]
struct Kept {
    folders: u32,
    complete: u32,
    bytes: u64,
}

/// A folder, and what is known of its place among the others.
struct Judged<'a> {
    folder: &'a CrashFolder,
    /// It stays whatever the limits are.
    is_needed: bool,
    is_in_loop: bool,
    need: Need,
}

impl Judged<'_> {
    fn is_complete(&self) -> bool {
        self.folder.note.crash.content == FolderContent::Complete
    }
}

impl Kept {
    /// Whether one more is too much.
    fn is_too_much(self, one: &Judged<'_>, limits: Retention) -> bool {
        let most = limits.keep.map_or(u32::MAX, |most| most.max(1));
        let too_many = if one.is_complete() {
            self.complete >= most || (one.is_in_loop && self.complete > 0)
        } else {
            self.folders >= most || one.is_in_loop
        };
        let too_large = limits.keep_bytes.is_some_and(|most| self.with(one).bytes > most);
        too_large || (too_many && (one.is_in_loop || one.need != Need::Undelivered))
    }

    fn with(self, one: &Judged<'_>) -> Self {
        Self {
            folders: self.folders + 1,
            complete: self.complete + u32::from(one.is_complete()),
            bytes: self.bytes.saturating_add(one.folder.note.bytes()),
        }
    }
}

impl Retention {
    /// Which of the folders go, of a list with the newest first. Of a boot loop only its first and its newest stay, and its newest
    /// complete dump if these are none.
    pub(super) fn going<'a>(
        self,
        newest_first: &'a [CrashFolder],
        boot_loop: &LoopFolders,
        need: impl Fn(&CrashFolder) -> Need,
    ) -> Vec<&'a CrashFolder> {
        let mut judged = judge(newest_first, boot_loop, need);
        judged.sort_by_key(|one| (!one.is_needed, !one.is_complete()));
        let mut kept = [Kept::default(); 2];
        judged.retain(|one| {
            let kept = &mut kept[usize::from(one.folder.note.has_dump())];
            let goes = !one.is_needed && kept.is_too_much(one, self);
            if !goes {
                *kept = kept.with(one);
            }
            goes
        });
        let is_going = |folder: &&CrashFolder| judged.iter().any(|one| std::ptr::eq(one.folder, *folder));
        newest_first.iter().filter(is_going).collect()
    }
}

fn judge<'a>(
    newest_first: &'a [CrashFolder],
    boot_loop: &LoopFolders,
    need: impl Fn(&CrashFolder) -> Need,
) -> Vec<Judged<'a>> {
    let mut is_newest = [true; 2];
    let judged = newest_first.iter().map(|folder| {
        let is_newest = std::mem::take(&mut is_newest[usize::from(folder.note.has_dump())]);
        let need = need(folder);
        Judged {
            folder,
            is_needed: is_newest || boot_loop.is_first(folder) || need == Need::Busy,
            is_in_loop: boot_loop.is_between(folder),
            need,
        }
    });
    judged.collect()
}

#[cfg(test)]
mod tests {
    use super::super::folder::tests::folder;
    use super::*;

    /// Folders of 100 bytes each, the newest first.
    fn folders() -> Vec<CrashFolder> {
        [5, 4, 3, 2, 1].map(|number| folder(number, 100)).into()
    }

    fn going(keep: Option<u32>, keep_bytes: Option<u64>, boot_loop: &LoopFolders) -> Vec<u64> {
        let folders = folders();
        let going = Retention { keep, keep_bytes }.going(&folders, boot_loop, |_| Need::Free);
        numbers(&going)
    }

    fn numbers(folders: &[&CrashFolder]) -> Vec<u64> {
        folders.iter().map(|folder| folder.note.crash.number).collect()
    }

    /// Folders of 100 bytes each, the newest first: `C` is complete, `P` a part of a dump.
    fn kinds(kinds: &str) -> Vec<CrashFolder> {
        let with = |(number, kind): (u64, char)| {
            let mut folder = folder(number, 100);
            folder.note.crash.content =
                if kind == 'C' { FolderContent::Complete } else { FolderContent::Partial };
            folder
        };
        (1..=kinds.len() as u64).rev().zip(kinds.chars()).map(with).collect()
    }

    fn going_of(kept: Retention, kinds_of: &str, undelivered: &[u64]) -> Vec<u64> {
        let need = |folder: &CrashFolder| {
            if undelivered.contains(&folder.note.crash.number) { Need::Undelivered } else { Need::Free }
        };
        numbers(&kept.going(&kinds(kinds_of), &LoopFolders::default(), need))
    }

    const fn keep(count: u32) -> Retention {
        Retention { keep: Some(count), keep_bytes: None }
    }

    #[test]
    fn without_limits_all_stay() {
        assert!(going(None, None, &LoopFolders::default()).is_empty());
    }

    #[test]
    fn the_oldest_go_and_the_newest_never() {
        let none = LoopFolders::default();
        assert_eq!(going(Some(2), None, &none), [3, 2, 1]);
        assert_eq!(going(None, Some(399), &none), [2, 1]);
        let all_but_newest = [4, 3, 2, 1];
        assert_eq!(going(Some(0), None, &none), all_but_newest);
        assert_eq!(going(None, Some(1), &none), all_but_newest);
    }

    #[test]
    fn a_log_displaces_no_dump() {
        let mut folders = folders();
        folders[0].note.crash.content = FolderContent::LogOnly;
        folders[2].note.crash.content = FolderContent::Log;
        let retention = Retention { keep: Some(1), keep_bytes: None };
        assert_eq!(numbers(&retention.going(&folders, &LoopFolders::default(), |_| Need::Free)), [3, 2, 1]);
    }

    #[test]
    fn of_a_boot_loop_first_and_newest_stay() {
        let boot_loop = LoopFolders { first: Some(2), between: vec![4, 3] };
        assert_eq!(going(None, None, &boot_loop), [4, 3]);
        assert_eq!(going(Some(1), None, &boot_loop), [4, 3, 1]);
    }

    #[test]
    fn a_part_of_a_dump_displaces_no_complete_one_by_number() {
        assert!(going_of(keep(1), "PC", &[]).is_empty());
        assert_eq!(going_of(keep(1), "PPC", &[]), [2], "the newest and the complete one stay");
        assert_eq!(going_of(keep(1), "CPC", &[]), [2, 1], "a complete one displaces both");
        assert_eq!(going_of(keep(2), "PPCCC", &[]), [4, 1]);
        assert!(going_of(keep(3), "PPC", &[]).is_empty(), "parts stay while there is room");
        let bytes = Retention { keep: Some(1), keep_bytes: Some(150) };
        assert_eq!(going_of(bytes, "PC", &[]), [1], "the limit in bytes forces it");
    }

    #[test]
    fn what_is_not_delivered_stays_within_the_limit_in_bytes() {
        assert_eq!(going_of(keep(1), "CCCC", &[2]), [3, 1]);
        let bytes = Retention { keep: Some(1), keep_bytes: Some(250) };
        assert_eq!(going_of(bytes, "CCCC", &[3, 2, 1]), [2, 1], "the newest of them stays");
    }

    #[test]
    fn a_folder_that_somebody_is_at_work_with_stays_whatever_the_limits_are() {
        let busy = |folder: &CrashFolder| if folder.note.crash.number == 1 { Need::Busy } else { Need::Free };
        let limits = Retention { keep: Some(1), keep_bytes: Some(1) };
        assert_eq!(numbers(&limits.going(&kinds("CCC"), &LoopFolders::default(), busy)), [2]);
    }

    #[test]
    fn of_a_boot_loop_the_newest_complete_dump_stays_if_first_and_newest_are_none() {
        let boot_loop = LoopFolders { first: Some(1), between: vec![4, 3, 2] };
        let going = |kinds_of| {
            numbers(&Retention::default().going(&kinds(kinds_of), &boot_loop, |_| Need::Undelivered))
        };
        assert_eq!(going("PCCPP"), [3, 2]);
        assert_eq!(going("PCCPC"), [4, 3, 2]);
    }
}
