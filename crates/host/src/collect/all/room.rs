//! The room for one more crash: what is free, and which older folders go for it.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

use super::super::actions::{self, ActionNote, NotDone};
use super::super::crash::FolderContent;
use super::super::dump::CollectError;
use super::super::folder::{CrashFolder, DUMP, FileNote, FolderNote};
use super::super::history::{CrashNote, History};
use super::super::retention::Need;
use super::run::{Run, host};
use crate::lock::Lock;
use crate::{Bytes, chain};

/// Tells how many bytes are free in the file system of a directory.
pub(super) type Free = fn(&Path, Content) -> io::Result<u64>;

/// What takes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// May be large, and leaves alone what a file system keeps for root.
    Dump,
    /// Is small, and the last word of a kernel.
    Log,
}

/// Bytes that are free in the file system of a directory, or of the nearest above it that there is.
pub(super) fn free(directory: &Path, content: Content) -> io::Result<u64> {
    let found = match statvfs(directory) {
        Err(rustix::io::Errno::NOENT) if directory.parent().is_some_and(Path::is_absolute) => {
            return free(directory.parent().unwrap_or(directory), content);
        }
        found => found?,
    };
    let blocks = if content == Content::Dump { found.f_bavail } else { found.f_bfree };
    Ok(blocks.saturating_mul(found.f_frsize))
}

/// Who keeps older folders from going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heed {
    /// Those who are at work with them, and copies that are not where they are to be.
    Deliveries,
    /// Only those who are at work with them.
    Work,
}

impl Run<'_> {
    /// Checks that so many bytes are free. Older folders that go anyway once this crash is collected go before, if that makes the room;
    /// the newest dump does not, because the copy may fail. Where that is not enough, those go too that stay only until they are
    /// delivered: else no crash could be collected any more.
    pub(super) fn make_room(
        &mut self,
        note: &FolderNote,
        needs: u64,
        content: Content,
    ) -> Result<(), CollectError> {
        let free =
            |run: &Self| (run.free)(&run.request.directory, content).map_err(|error| run.folder_error(error));
        for heed in [Heed::Deliveries, Heed::Work] {
            let now = free(self)?;
            let going = if now < needs { self.going_after(note, needs, heed) } else { Vec::new() };
            let gain = going.iter().fold(now, |sum, folder| sum.saturating_add(folder.note.bytes()));
            let oldest_first = going.iter().rev().take_while(|_| gain >= needs);
            for folder in oldest_first {
                if free(self)? < needs {
                    self.retire(std::slice::from_ref(folder));
                }
            }
        }
        let now = free(self)?;
        if now >= needs {
            return Ok(());
        }
        let directory = self.request.directory.clone();
        Err(CollectError::Room { directory, needs: Bytes(needs), free: Bytes(now) })
    }

    /// The folders that go when this crash has one.
    fn going_after(&self, note: &FolderNote, bytes: u64, heed: Heed) -> Vec<CrashFolder> {
        let note = FolderNote { files: vec![FileNote::new(DUMP, bytes, 0)], ..note.clone() };
        let new = CrashFolder { path: "the new one".into(), note };
        let mut history = self.history.clone();
        history.add(CrashNote::of(&new), self.request.boot_loop);
        let there = self.own_folders();
        let is_whole = |folder: &&CrashFolder| folder.note.crash.content == FolderContent::Complete;
        let newest = [there.iter().find(is_whole), there.iter().find(|folder| folder.note.has_dump())];
        let needed: Vec<_> = newest.into_iter().flatten().map(|folder| folder.path.clone()).collect();
        let folders: Vec<_> = [new].into_iter().chain(there).collect();
        let mut going = self.going(&folders, &history, heed);
        going.retain(|folder| !needed.contains(&folder.path));
        going
    }

    /// Which of these folders, the newest first, go.
    pub(super) fn going(&self, folders: &[CrashFolder], history: &History, heed: Heed) -> Vec<CrashFolder> {
        let loop_folders = history.loop_folders(self.request.boot_loop);
        let need = |folder: &CrashFolder| match (self.need(folder), heed) {
            (Need::Undelivered, Heed::Work) => Need::Free,
            (need, _) => need,
        };
        self.request.retention.going(folders, &loop_folders, need).into_iter().cloned().collect()
    }

    /// Who needs a folder.
    fn need(&self, folder: &CrashFolder) -> Need {
        if let Err(NotDone::Busy { .. }) = actions::lock(folder) {
            Need::Busy
        } else {
            self.need_of_copies(folder)
        }
    }

    /// Whether its copies are where they are to be, and its other actions were begun.
    fn need_of_copies(&self, folder: &CrashFolder) -> Need {
        let is_undelivered = match ActionNote::read(folder) {
            Some(note) => note.is_undelivered(),
            // What is to be done for it was not begun.
            None => self.request.actions_follow,
        };
        if is_undelivered { Need::Undelivered } else { Need::Free }
    }

    /// The folders of this host, the newest first: others may share the directory.
    pub(super) fn own_folders(&self) -> Vec<CrashFolder> {
        let (all, host) = (CrashFolder::list(&self.request.directory), host());
        all.into_iter().filter(|folder| folder.note.host == host).collect()
    }

    /// Removes a folder, which the caller has locked.
    fn remove(&mut self, folder: &CrashFolder, _at_work: &Lock) {
        match folder.remove() {
            Ok(()) => self.removed.push(folder.path.clone()),
            Err(error) => self.warnings.push(format!("cannot remove {}: {error}", folder.path.display())),
        }
    }

    /// Removes what was collected of a crash before its dump was.
    pub(super) fn remove_logs(&mut self, folders: &[CrashFolder]) {
        for folder in folders {
            match actions::lock(folder) {
                Ok(at_work) => self.remove(folder, &at_work),
                Err(why) => self.warnings.push(format!("{} stays: {}", folder.path.display(), chain(&why))),
            }
        }
    }

    /// Removes older folders, and tells of those that were not delivered.
    pub(super) fn retire(&mut self, folders: &[CrashFolder]) {
        for folder in folders {
            // Actions that want to begin meanwhile find no folder any more.
            let Ok(at_work) = actions::lock(folder) else { continue };
            if self.need_of_copies(folder) == Need::Undelivered {
                let why = "a boot loop, `keep_bytes`, or a full disk";
                let lost = format!(
                    "{} is removed before all that [actions] asks for was done: {why}",
                    folder.path.display()
                );
                self.warnings.push(lost);
            }
            self.remove(folder, &at_work);
        }
    }

    /// Tells of folders that stay only until they are delivered.
    pub(super) fn tell_undelivered(&mut self, going: &[CrashFolder], all: &[CrashFolder]) {
        let all = self.going(all, &self.history, Heed::Work);
        let waiting: Vec<_> =
            all.iter().filter(|folder| !going.contains(folder)).map(CrashFolder::name).collect();
        if !waiting.is_empty() {
            self.warnings.push(format!(
                "more than `keep` folders are there, because not all that [actions] asks for was done for these: {}; `holdover collect --retry-actions` tries \
                 again; where `keep_bytes` is reached, or the disk is full, they go all the same",
                waiting.join(", ")
            ));
        }
    }
}
