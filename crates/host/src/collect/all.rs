//! Collects what all areas of this host hold, without a person: at each boot, and therefore after each crash.
//!
//! Each area has the same way: copy into a folder under another name, read the copy back from its disk, publish the folder, and only
//! then tell the area that it is free for the next dump. Wherever that is interrupted, the next run begins again, or goes on where the
//! folder was published already. An area with which something is wrong does not hinder the others.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use area::{Area, Held, Seal};
use machine::BlockDevice;
use rustix::fs::statvfs;
use uuid::Uuid;

use super::actions::{self, ActionNote, NotDone};
use super::crash::{Crash, DumpIdentity, FolderContent};
use super::dump::{self, AboutDump, AreaContent, CollectError, DumpDamage, Ending, MarkError, NoDump, mark};
use super::fingerprint::{self, Fingerprint};
use super::folder::{self, CrashFolder, DUMP, FileNote, FolderNote, LOG, NewFolder};
use super::history::{self, BootLoop, CrashNote, History};
use super::pages::Pages;
use super::places::{self, NotTaken, Place};
use super::retention::{Need, Retention};
use crate::areas::{AreaError, AreaName, FoundArea};
use crate::dmesg::{self, StoredLog};
use crate::lock::Lock;
use crate::progress::Progress;
use crate::{Bytes, chain, clock};

/// What the pages and notes beside a dump may need.
const PAGES_ROOM: u64 = 16 << 20;
/// What the notes beside a log may need.
const NOTES_ROOM: u64 = 64 << 10;
/// A clock is believed if it tells a time after this, 2001.
const FIRST_TIME: u64 = 1_000_000_000;

/// What to collect, and where it goes.
#[derive(Clone, Debug)]
pub struct CollectAllRequest {
    /// The areas that the configuration names.
    pub areas: Vec<AreaName>,
    /// Where else to look for areas.
    pub search: Search,
    /// The directory in which each crash gets a folder.
    pub directory: PathBuf,
    /// What is kept of older folders.
    pub retention: Retention,
    /// Whether something is to be done for each crash afterwards. A folder for which that was not begun stays while there is room.
    pub actions_follow: bool,
    /// When crashes are called a boot loop.
    pub boot_loop: BootLoop,
    /// The file of the history, [`HISTORY`](super::HISTORY) on a host.
    pub history: PathBuf,
    /// What is written beside a dump.
    pub pages: Pages,
}

/// Where to look for areas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// Only where the request says.
    Named,
    /// On all disks of this host, and in the files that it made areas. Areas on disks that were neither formatted nor loaded here are
    /// another's, such as a guest's: they are told, and left alone.
    Own,
    /// In the same places, whosever the areas are.
    Everywhere,
}

/// Why nothing was collected.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum CollectAllError {
    /// The directory cannot be used.
    #[error(
        "cannot use {path}, where dumps are collected; `directory` in [collect] of /etc/holdover.toml names it"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// Another run is at work.
    #[error("another `holdover collect` is at work in {path}")]
    Busy {
        /// The directory.
        path: PathBuf,
    },
}

/// What became of all areas.
#[derive(Debug)]
pub struct CollectedAll {
    /// Each area.
    pub areas: Vec<AreaReport>,
    /// Older folders that were removed.
    pub removed: Vec<PathBuf>,
    /// How many crashes followed each other too soon, if they are so many that they are called a boot loop.
    pub boot_loop: Option<u32>,
    /// What went wrong beside the dumps, in words.
    pub warnings: Vec<String>,
    /// The history with what was collected now.
    pub history: History,
}

/// What became of one area.
#[derive(Debug)]
pub struct AreaReport {
    /// Its device, or the name by which it was not found.
    pub area: String,
    /// What became of it.
    pub outcome: Result<AreaOutcome, CollectError>,
}

/// What was taken from an area.
#[derive(Debug)]
pub enum AreaOutcome {
    /// It holds nothing that was not collected before.
    Nothing,
    /// It was left alone.
    Skipped(Skipped),
    /// All that it holds.
    Collected {
        /// Where that is.
        folder: CrashFolder,
        /// Whether the area is free now.
        mark: Result<(), MarkError>,
        /// Pages that could not be made.
        lacks: Vec<LackingPage>,
    },
    /// Only the log could be saved. The dump is still in the area, and the next run tries again.
    LogOnly {
        /// Where the log is.
        folder: CrashFolder,
        /// Why not more.
        why: CollectError,
    },
}

/// Why an area was left alone. Its text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skipped {
    /// It is another's.
    #[error(
        "left alone: dump area {uuid} is not named in the configuration, and was neither formatted nor loaded on this host: it may be a \
         guest's; `holdover collect --everywhere` collects from it too, and frees it"
    )]
    Foreign {
        /// Its UUID.
        uuid: Uuid,
    },
    /// It is damaged, and none of this host's areas is missing.
    #[error("left alone: no area of this host is missing, and this is none that can be read: {error}")]
    ForeignUnusable {
        /// What is wrong with it.
        error: String,
    },
    /// It is a file that is not there, and nothing else speaks of it.
    #[error("{error}")]
    Deleted {
        /// What to do.
        error: String,
    },
}

/// A page that is not beside its dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LackingPage {
    /// The name of its file.
    pub name: String,
    /// Why it could not be made.
    pub why: String,
}

impl CollectedAll {
    /// The folders that this run made or met, and those with a log only too.
    pub fn crashes(&self) -> impl Iterator<Item = &CrashFolder> {
        self.areas.iter().filter_map(|report| match &report.outcome {
            Ok(AreaOutcome::Collected { folder, .. } | AreaOutcome::LogOnly { folder, .. }) => Some(folder),
            _ => None,
        })
    }

    /// Whether everything that the areas hold is collected, and nothing of it is missing.
    pub fn is_whole(&self) -> bool {
        self.areas.iter().all(AreaReport::is_whole)
    }
}

impl AreaReport {
    /// Whether everything that the area holds is collected, and nothing of it is missing.
    pub fn is_whole(&self) -> bool {
        match &self.outcome {
            Ok(AreaOutcome::Nothing | AreaOutcome::Skipped(_)) => true,
            Ok(AreaOutcome::Collected { folder, mark, .. }) => {
                folder.note.crash.content == FolderContent::Complete && mark.is_ok()
            }
            _ => false,
        }
    }

    /// Whether something may be in the area that is not collected.
    fn is_left(&self) -> bool {
        use AreaOutcome::{Collected, Nothing, Skipped};
        !matches!(self.outcome, Ok(Nothing | Skipped(_) | Collected { mark: Ok(()), .. }))
    }
}

/// Collects from all areas that are named or found. The steps of `progress` are bytes, of one copy after the other.
pub fn collect_all(
    request: &CollectAllRequest,
    progress: &dyn Progress,
) -> Result<CollectedAll, CollectAllError> {
    collect_where(request, progress, free, Place::search)
}

/// Does so where `free` tells how many bytes are free, and `search` which areas there are besides those that are named.
fn collect_where(
    request: &CollectAllRequest,
    progress: &dyn Progress,
    free: Free,
    search: impl FnOnce(&[AreaName]) -> Result<Vec<Place>, AreaError>,
) -> Result<CollectedAll, CollectAllError> {
    let _at_work = lock(&request.directory)?;
    let mut run = Run::begin(request, progress, free);
    let searched = if request.search == Search::Named { Ok(Vec::new()) } else { search(&request.areas) };
    run.warnings.extend(searched.as_ref().err().map(|error| chain(error)));
    let places = places::all(request, searched.unwrap_or_default());
    let areas = places.into_iter().map(|place| {
        let outcome = match place.found {
            Ok(found) => run.collect(&found),
            Err(NotTaken::Failed(error)) => Err(error.into()),
            Err(NotTaken::Skipped(skipped)) => Ok(AreaOutcome::Skipped(skipped)),
        };
        AreaReport { area: place.name, outcome }
    });
    let areas = areas.collect();
    Ok(run.end(areas))
}

/// Makes sure that the directory is there, and that nobody else collects into it. A full file system may have no room for a directory
/// either: that is no matter where no area holds a dump, and each area that does tells of it.
pub(super) fn lock(directory: &Path) -> Result<Option<Lock>, CollectAllError> {
    let failed = |source| CollectAllError::Directory { path: directory.to_owned(), source };
    match folder::make_directory(directory) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(None),
        made => made.map_err(failed)?,
    }
    Lock::take(directory).map(Some).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => CollectAllError::Busy { path: directory.to_owned() },
        _ => failed(error),
    })
}

/// Tells how many bytes are free in the file system of a directory.
type Free = fn(&Path, Content) -> io::Result<u64>;

/// What takes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// May be large, and leaves alone what a file system keeps for root.
    Dump,
    /// Is small, and the last word of a kernel.
    Log,
}

/// Bytes that are free in the file system of a directory, or of the nearest above it that there is.
fn free(directory: &Path, content: Content) -> io::Result<u64> {
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
enum Heed {
    /// Those who are at work with them, and copies that are not where they are to be.
    Deliveries,
    /// Only those who are at work with them.
    Work,
}

/// One run over all areas.
struct Run<'a> {
    request: &'a CollectAllRequest,
    progress: &'a dyn Progress,
    free: Free,
    now: u64,
    history: History,
    /// Crashes the pages of which ended an earlier run.
    unreadable: Vec<FolderNote>,
    removed: Vec<PathBuf>,
    warnings: Vec<String>,
}

/// What a dead kernel left in an area.
struct Remains {
    seal: Option<Seal>,
    log: Option<StoredLog>,
    /// What the folder's note tells so far.
    note: FolderNote,
}

impl<'a> Run<'a> {
    fn begin(request: &'a CollectAllRequest, progress: &'a dyn Progress, free: Free) -> Self {
        Self {
            request,
            progress,
            free,
            now: clock::now().unwrap_or_default(),
            history: History::read(&request.history),
            unreadable: folder::remove_abandoned(&request.directory),
            removed: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Takes from an area what it holds.
    fn collect(&mut self, found: &FoundArea) -> Result<AreaOutcome, CollectError> {
        let mut area = found.open()?;
        if area.held() == Held::Nothing {
            return Ok(AreaOutcome::Nothing);
        }
        let remains = self.look(found, &mut area);
        let earlier = self.earlier(&remains.note);
        if let Some(whole) = earlier.iter().find(|folder| folder.is_whole(self.progress)) {
            // It was published, and the run ended before the area was told.
            return Ok(self.freed(found, &remains, whole.clone(), Vec::new()));
        }
        match self.copy(found, &mut area, &remains) {
            Ok((folder, lacks)) => {
                self.remove_logs(&earlier);
                Ok(self.freed(found, &remains, folder, lacks))
            }
            Err(why) => self.save_log(&remains, earlier, why.of_folder(found, &self.request.directory)),
        }
    }

    /// Reads what is known of the crash before its dump is read.
    fn look(&self, found: &FoundArea, area: &mut Area<impl BlockDevice>) -> Remains {
        let log = dmesg::read_in(found).ok().map(|(log, _)| log);
        let seal = area.read_seal().ok();
        let note = FolderNote {
            version: FolderNote::CURRENT,
            host: host(),
            crash: Crash {
                number: self.next_number(),
                area: found.label.uuid,
                sequence: seal.as_ref().map_or(0, |seal| seal.sequence),
                identity: identity(found, seal.as_ref(), log.as_ref()),
                collected_at: self.now,
                crashed_at: None,
                uptime: log.as_ref().and_then(|log| history::uptime(&log.text)),
                content: FolderContent::Begun,
            },
            kernel: None,
            state: String::new(),
            files: Vec::new(),
        };
        Remains { seal, log, note }
    }

    fn next_number(&self) -> u64 {
        let noted = self.history.crashes.iter().map(|note| note.crash.number);
        let there =
            CrashFolder::list(&self.request.directory).into_iter().map(|folder| folder.note.crash.number);
        noted.chain(there).max().unwrap_or(0).saturating_add(1)
    }

    /// The folders that an earlier run made of the same crash.
    fn earlier(&self, note: &FolderNote) -> Vec<CrashFolder> {
        let all = CrashFolder::list(&self.request.directory).into_iter();
        all.filter(|folder| folder.note.is_of_the_crash_of(note)).collect()
    }

    /// Copies what the area holds into a folder of its own.
    fn copy(
        &mut self,
        found: &FoundArea,
        area: &mut Area<impl BlockDevice>,
        remains: &Remains,
    ) -> Result<(CrashFolder, Vec<LackingPage>), CollectError> {
        let no_dump = |source| CollectError::NoDump { device: found.device.clone(), source };
        let Some(seal) = &remains.seal else {
            return Err(no_dump(area.read_seal().map_or_else(NoDump::from, |_| NoDump::Empty)));
        };
        match (Ending::of(seal, || remains.log.is_some()), &remains.log) {
            (Ok(ending), _) => self.copy_dump(area, remains, seal, ending),
            (Err(_), Some(log)) => {
                let state = "the machine was reset before anything of the dump was safe".into();
                let note = FolderNote { state, ..remains.note.with_content(FolderContent::Log) };
                Ok((self.log_folder(log, note)?, Vec::new()))
            }
            (Err(reason), None) => Err(no_dump(reason)),
        }
    }

    fn copy_dump(
        &mut self,
        area: &mut Area<impl BlockDevice>,
        remains: &Remains,
        seal: &Seal,
        ending: Ending,
    ) -> Result<(CrashFolder, Vec<LackingPage>), CollectError> {
        let bytes = seal.dump_len.min(seal.written.blocks().saturating_mul(area::BLOCK));
        let needs = bytes.saturating_add(log_bytes(remains)).saturating_add(PAGES_ROOM);
        let content =
            if ending == Ending::Complete { FolderContent::Complete } else { FolderContent::Partial };
        self.make_room(&remains.note.with_content(content), needs, Content::Dump)?;
        let mut note = remains.note.clone();
        let failed = |source| self.folder_error(source);
        let new = NewFolder::create(&self.request.directory, &note).map_err(failed)?;
        if let Some(log) = &remains.log {
            note.files.push(new.write(LOG, log.text.as_bytes()).map_err(failed)?);
        }
        let (dump, content) = copied(area, seal, ending, &new, self.progress)?;
        let about = AboutDump::read(&new.path().join(&dump.name));
        note.files.push(dump);
        note.state = state(content, ending).into();
        note.crash.content = match (content, ending) {
            _ if about.is_none() => FolderContent::Unreadable,
            (Some(AreaContent::AsWritten), Ending::Complete) => FolderContent::Complete,
            _ => FolderContent::Partial,
        };
        if let Some(about) = about {
            let is_likely = |time: &u64| (FIRST_TIME..=self.now + 86_400).contains(time);
            note.crash.crashed_at = about.crashed_at.filter(is_likely);
            note.kernel = Some(about.release.escape_debug().to_string());
        }
        let lacks = self.write_pages(&new, &mut note).map_err(failed)?;
        Ok((new.publish(note).map_err(failed)?, lacks))
    }

    /// Writes takeover and summary. What they need of the dump is durable before.
    fn write_pages(&self, new: &NewFolder, note: &mut FolderNote) -> io::Result<Vec<LackingPage>> {
        let ended_a_run = |earlier: &FolderNote| earlier.is_of_the_crash_of(note);
        if note.crash.content == FolderContent::Unreadable {
            return Ok(Vec::new());
        }
        if self.unreadable.iter().any(ended_a_run) {
            let why = "an earlier run ended while they were made".into();
            return Ok(vec![LackingPage { name: "takeover and summary".into(), why }]);
        }
        new.note(&note.with_content(FolderContent::Copied))?;
        let mut lacks = Vec::new();
        for page in self.request.pages.of(&new.path().join(DUMP)) {
            let written = page.content.and_then(|content| {
                new.write(page.name, content.as_bytes()).map_err(|error| error.to_string())
            });
            match written {
                Ok(file) => note.files.push(file),
                Err(why) => lacks.push(LackingPage { name: page.name.to_owned(), why }),
            }
        }
        Ok(lacks)
    }

    /// Saves the log where more could not be saved, unless an earlier run did.
    fn save_log(
        &mut self,
        remains: &Remains,
        earlier: Vec<CrashFolder>,
        why: CollectError,
    ) -> Result<AreaOutcome, CollectError> {
        let Some(log) = &remains.log else { return Err(why) };
        if let Some(folder) = earlier.into_iter().find(|folder| folder.has_log(log)) {
            return Ok(AreaOutcome::LogOnly { folder, why });
        }
        let state = format!("the dump is still in its area: {}", chain(&why));
        let note = FolderNote { state, ..remains.note.with_content(FolderContent::LogOnly) };
        match self.log_folder(log, note) {
            Ok(folder) => {
                self.remember(&folder);
                Ok(AreaOutcome::LogOnly { folder, why })
            }
            Err(_) => Err(why),
        }
    }

    fn log_folder(&mut self, log: &StoredLog, mut note: FolderNote) -> Result<CrashFolder, CollectError> {
        self.make_room(&note, log.text.len() as u64 + NOTES_ROOM, Content::Log)?;
        let failed = |source| self.folder_error(source);
        let new = NewFolder::create(&self.request.directory, &note).map_err(failed)?;
        note.files.push(new.write(LOG, log.text.as_bytes()).map_err(failed)?);
        new.publish(note).map_err(failed)
    }

    fn folder_error(&self, source: io::Error) -> CollectError {
        CollectError::Folder { path: self.request.directory.clone(), source }
    }

    /// Checks that so many bytes are free. Older folders that go anyway once this crash is collected go before, if that makes the room;
    /// the newest dump does not, because the copy may fail. Where that is not enough, those go too that stay only until they are
    /// delivered: else no crash could be collected any more.
    fn make_room(&mut self, note: &FolderNote, needs: u64, content: Content) -> Result<(), CollectError> {
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
    fn going(&self, folders: &[CrashFolder], history: &History, heed: Heed) -> Vec<CrashFolder> {
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
    fn own_folders(&self) -> Vec<CrashFolder> {
        let (all, host) = (CrashFolder::list(&self.request.directory), host());
        all.into_iter().filter(|folder| folder.note.host == host).collect()
    }

    /// Notes that a crash was collected, then tells the area.
    fn freed(
        &mut self,
        found: &FoundArea,
        remains: &Remains,
        folder: CrashFolder,
        lacks: Vec<LackingPage>,
    ) -> AreaOutcome {
        self.remember(&folder);
        let mark = remains.seal.as_ref().map_or(Ok(()), |seal| mark(found, seal));
        AreaOutcome::Collected { folder, mark, lacks }
    }

    fn remember(&mut self, folder: &CrashFolder) {
        self.history.add(CrashNote::of(folder), self.request.boot_loop);
        self.write_history();
    }

    fn write_history(&mut self) {
        if let Err(error) = self.history.write(&self.request.history) {
            self.warnings.push(format!("cannot write {}: {error}", self.request.history.display()));
        }
    }

    /// Removes a folder, which the caller has locked.
    fn remove(&mut self, folder: &CrashFolder, _at_work: &Lock) {
        match folder.remove() {
            Ok(()) => self.removed.push(folder.path.clone()),
            Err(error) => self.warnings.push(format!("cannot remove {}: {error}", folder.path.display())),
        }
    }

    /// Removes what was collected of a crash before its dump was.
    fn remove_logs(&mut self, folders: &[CrashFolder]) {
        for folder in folders {
            match actions::lock(folder) {
                Ok(at_work) => self.remove(folder, &at_work),
                Err(why) => self.warnings.push(format!("{} stays: {}", folder.path.display(), chain(&why))),
            }
        }
    }

    /// Removes older folders, and tells of those that were not delivered.
    fn retire(&mut self, folders: &[CrashFolder]) {
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
    fn tell_undelivered(&mut self, going: &[CrashFolder], all: &[CrashFolder]) {
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

    /// Removes what goes, and notes how the run ended.
    fn end(mut self, areas: Vec<AreaReport>) -> CollectedAll {
        let folders = self.own_folders();
        let going = self.going(&folders, &self.history, Heed::Deliveries);
        self.tell_undelivered(&going, &folders);
        self.retire(&going);
        let left = areas.iter().filter(|report| report.is_left()).count() as u64;
        self.history.last_run = self.now;
        self.history.left_uncollected = left;
        self.history.failures += left;
        self.write_history();
        CollectedAll {
            areas,
            removed: self.removed,
            boot_loop: self.history.boot_loop(self.request.boot_loop),
            warnings: self.warnings,
            history: self.history,
        }
    }
}

/// Copies the dump. One that was cut off too early to open is copied as it is, and has another name.
fn copied(
    area: &mut Area<impl BlockDevice>,
    seal: &Seal,
    ending: Ending,
    new: &NewFolder,
    progress: &dyn Progress,
) -> Result<(FileNote, Option<AreaContent>), CollectError> {
    match dump::copy_and_read_back(area, seal, ending, &new.path().join(DUMP), progress) {
        Ok((content, sum)) => Ok((FileNote::new(DUMP, seal.dump_len, sum), Some(content))),
        Err(CollectError::Damaged { path, source: DumpDamage::Unreadable(_) }) => {
            let failed = |source| CollectError::Folder { path: path.clone(), source };
            File::open(&path).and_then(|file| file.sync_all()).map_err(failed)?;
            let sum = dump::read_back(&path, seal.dump_len, progress).map_err(failed)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Ok((FileNote::new(&name, seal.dump_len, sum), None))
        }
        Err(error) => Err(error),
    }
}

/// How the writing of a dump ended, in words.
const fn state(content: Option<AreaContent>, ending: Ending) -> &'static str {
    match content {
        Some(content) => ending.in_words(content),
        None => {
            "the machine was reset or lost its power before the dump's headers were written: it does not open"
        }
    }
}

fn log_bytes(remains: &Remains) -> u64 {
    remains.log.as_ref().map_or(0, |log| log.text.len() as u64)
}

/// What tells the dump in an area from any other.
fn identity(found: &FoundArea, seal: Option<&Seal>, log: Option<&StoredLog>) -> DumpIdentity {
    DumpIdentity {
        area_created: found.label.created,
        dump_bytes: seal.map_or(0, |seal| seal.dump_len),
        dump_sum: seal.map(|seal| format!("{:016x}", seal.sum.value())).unwrap_or_default(),
        log: log.map(|log| format!("{:016x}", fingerprint::of_bytes(log.text.as_bytes()))),
    }
}

/// The name of this host.
fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

impl CrashFolder {
    /// Whether it has all that its area held, and its files are what they were.
    fn is_whole(&self, progress: &dyn Progress) -> bool {
        use FolderContent::{Complete, Log, Partial, Unreadable};
        let is_same = |file: &FileNote| {
            let sum = dump::read_back(&self.path.join(&file.name), file.bytes, progress);
            sum.is_ok_and(|sum| FileNote::new(&file.name, file.bytes, sum) == *file)
        };
        matches!(self.note.crash.content, Complete | Partial | Unreadable | Log)
            && self.note.files.iter().all(is_same)
    }

    /// Whether it has this log.
    fn has_log(&self, log: &StoredLog) -> bool {
        let mut sum = Fingerprint::default();
        sum.add_at(0, log.text.as_bytes());
        let bytes = log.text.len() as u64;
        self.note.files.contains(&FileNote::new(LOG, bytes, sum.of_length(bytes)))
    }
}

impl CrashNote {
    fn of(folder: &CrashFolder) -> Self {
        let note = &folder.note;
        Self { folder: folder.name(), crash: note.crash.clone(), bytes: note.dump_bytes() }
    }
}

#[cfg(test)]
mod tests;
