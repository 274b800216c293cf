//! Which older folders go, so that the directory does not fill up.

use super::folder::CrashFolder;
use super::history::LoopFolders;

/// What is kept of the folders that Holdover made on this host. The newest always is. Folders with a dump, and those with a log only,
/// are counted apart: a log displaces no dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// So many of them; `None` for all.
    pub keep: Option<u32>,
    /// So many bytes in all of them; `None` for any number.
    pub keep_bytes: Option<u64>,
}

/// What stays, of one kind.
#[derive(Clone, Copy, Default)]
struct Kept {
    folders: u32,
    bytes: u64,
}

impl Retention {
    /// Which of the folders go, of a list with the newest first. Of a boot loop only its first and its newest stay.
    pub(super) fn going<'a>(
        self,
        newest_first: &'a [CrashFolder],
        boot_loop: &LoopFolders,
    ) -> Vec<&'a CrashFolder> {
        let mut kept = [Kept::default(); 2];
        let mut stays = |folder: &CrashFolder| {
            let kept = &mut kept[usize::from(folder.note.has_dump())];
            let with_it = kept.bytes.saturating_add(folder.note.bytes());
            let too_much = self.keep.is_some_and(|most| kept.folders >= most)
                || self.keep_bytes.is_some_and(|most| with_it > most)
                || boot_loop.is_between(folder);
            let stays = kept.folders == 0 || boot_loop.is_first(folder) || !too_much;
            if stays {
                *kept = Kept { folders: kept.folders + 1, bytes: with_it };
            }
            stays
        };
        let stay: Vec<_> = newest_first.iter().map(&mut stays).collect();
        newest_first.iter().zip(stay).filter(|(_, stays)| !stays).map(|(folder, _)| folder).collect()
    }
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
        let going = Retention { keep, keep_bytes }.going(&folders, boot_loop);
        going.iter().map(|folder| folder.note.number).collect()
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
        use super::super::folder::FolderContent;
        let mut folders = folders();
        folders[0].note.content = FolderContent::LogOnly;
        folders[2].note.content = FolderContent::Log;
        let retention = Retention { keep: Some(1), keep_bytes: None };
        let going: Vec<_> =
            retention.going(&folders, &LoopFolders::default()).iter().map(|one| one.note.number).collect();
        assert_eq!(going, [3, 2, 1]);
    }

    #[test]
    fn of_a_boot_loop_first_and_newest_stay() {
        let boot_loop = LoopFolders { first: Some(2), between: vec![4, 3] };
        assert_eq!(going(None, None, &boot_loop), [4, 3]);
        assert_eq!(going(Some(1), None, &boot_loop), [4, 3, 1]);
    }
}
