//! One run over all areas: what each holds is copied, read back, published, and only then is the area told.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use area::{Area, Held, Seal};
use machine::BlockDevice;

use super::super::crash::{Crash, DumpIdentity, FolderContent};
use super::super::dump::{self, AboutDump, AreaContent, CollectError, DumpDamage, Ending, NoDump, mark};
use super::super::fingerprint::{self, Fingerprint};
use super::super::folder::{self, CrashFolder, DUMP, FileNote, FolderNote, LOG, NewFolder};
use super::super::history::{self, CrashNote, History};
use super::CollectAllRequest;
use super::outcome::{AreaOutcome, AreaReport, CollectedAll, LackingPage};
use super::room::{Content, Free, Heed};
use crate::areas::FoundArea;
use crate::dmesg::{self, StoredLog};
use crate::progress::Progress;
use crate::{chain, clock};

/// What the pages and notes beside a dump may need.
const PAGES_ROOM: u64 = 16 << 20;
/// What the notes beside a log may need.
const NOTES_ROOM: u64 = 64 << 10;
/// A clock is believed if it tells a time after this, 2001.
const FIRST_TIME: u64 = 1_000_000_000;

/// One run over all areas.
pub(super) struct Run<'a> {
    pub(super) request: &'a CollectAllRequest,
    progress: &'a dyn Progress,
    pub(super) free: Free,
    now: u64,
    pub(super) history: History,
    /// Crashes the pages of which ended an earlier run.
    unreadable: Vec<FolderNote>,
    pub(super) removed: Vec<PathBuf>,
    pub(super) warnings: Vec<String>,
}

/// What a dead kernel left in an area.
struct Remains {
    seal: Option<Seal>,
    log: Option<StoredLog>,
    /// What the folder's note tells so far.
    note: FolderNote,
}

impl<'a> Run<'a> {
    pub(super) fn begin(request: &'a CollectAllRequest, progress: &'a dyn Progress, free: Free) -> Self {
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
    pub(super) fn collect(&mut self, found: &FoundArea) -> Result<AreaOutcome, CollectError> {
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

    pub(super) fn folder_error(&self, source: io::Error) -> CollectError {
        CollectError::Folder { path: self.request.directory.clone(), source }
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

    /// Removes what goes, and notes how the run ended.
    pub(super) fn end(mut self, areas: Vec<AreaReport>) -> CollectedAll {
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
pub(super) fn host() -> String {
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
    pub(super) fn of(folder: &CrashFolder) -> Self {
        let note = &folder.note;
        Self { folder: folder.name(), crash: note.crash.clone(), bytes: note.dump_bytes() }
    }
}
