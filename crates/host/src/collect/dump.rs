//! Copies one dump out of its area into a file, and checks it on the way.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use area::{Area, Lack, LeftOut, ReadError, Seal, SealError, SealState};
use dumpfile::{BlockFile, Dump};
use machine::{BlockDevice, BlockError};

use super::fingerprint::{self, Fingerprint};
use crate::areas::registry::Registry;
use crate::areas::{self, AreaError, AreaName, FoundArea};
use crate::progress::Progress;
use crate::unfinished::{IfExists, OutputError, Unfinished};
use crate::{Bytes, clock, inspect};

/// Which dump to collect, and where it goes.
#[derive(Clone, Debug)]
pub struct CollectRequest {
    /// The dump area: on a disk, a partition or in a file.
    pub area: AreaName,
    /// The file to make; it appears under this name only when it is whole.
    pub out: PathBuf,
    /// What to do if there is a file of that name.
    pub if_exists: IfExists,
    /// The root folder of the system that has noted its areas.
    pub root: PathBuf,
}

/// A collected dump.
#[derive(Debug)]
pub struct Collected {
    /// Its file.
    pub out: PathBuf,
    /// Its length in the area.
    pub bytes: u64,
    /// How its writing ended.
    pub ending: Ending,
    /// Whether the area held what was written.
    pub content: AreaContent,
    /// Which pages are not in it, as the capture kernel counted.
    pub left_out: LeftOut,
    /// Facts from the dump's header and record; `None` if it cannot be read as a dump.
    pub about: Option<AboutDump>,
    /// Whether the area now says that its dump was collected. Until it does, `load` refuses the area.
    pub mark: Result<(), MarkError>,
}

impl Collected {
    /// Whether the file has everything that belongs in the dump, and can be read.
    pub fn is_whole(&self) -> bool {
        self.ending == Ending::Complete && self.about.is_some()
    }
}

/// How the writing of a dump ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything was written.
    Complete,
    /// Something was not.
    Partial(Lack),
    /// The machine was reset, or lost its power, before the dump was sealed.
    CutOff,
}

/// Whether an area holds what the capture kernel wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaContent {
    /// The area holds what was written.
    AsWritten,
    /// The disk refused some blocks, and they hold something else.
    BlocksDiffer,
    /// The pages that were durable when the dump was cut off: this many.
    Pages(u64),
}

/// Facts from a dump's header and record.
#[derive(Debug)]
pub struct AboutDump {
    /// Release of the kernel that died.
    pub release: String,
    /// Pages that were to be kept.
    pub pages: u64,
    /// When the kernel died, in seconds since 1970, if the dump says so.
    pub crashed_at: Option<u64>,
    /// What was taken over, if the dump says so.
    pub takeover: Option<record::Counts>,
}

/// Why a dump was not collected. It is still in its area.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum CollectError {
    /// The dump area was not found, or cannot be used.
    #[error(transparent)]
    Area(#[from] AreaError),
    /// The file cannot be made.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The area has no dump.
    #[error("{device} holds no dump")]
    NoDump {
        /// The area's device.
        device: PathBuf,
        /// Why not.
        source: NoDump,
    },
    /// The dump is not what the capture kernel wrote. It was copied, but not to the requested name.
    #[error("what was read is in {path}")]
    Damaged {
        /// The name that it has.
        path: PathBuf,
        /// What is wrong with it.
        source: DumpDamage,
    },
    /// The dump is not what the capture kernel wrote, and is where it was.
    #[error(
        "the dump in {device} is not what the capture kernel wrote; it stays there; `holdover collect {device} FILE` copies what can be \
         read to FILE.damaged"
    )]
    DamagedInArea {
        /// The area's device.
        device: PathBuf,
        /// What is wrong with it.
        source: DumpDamage,
    },
    /// The disk failed, or the file.
    #[error("cannot copy to {path}; the dump is still in its area")]
    Copy {
        /// The name under which the file was begun, or the folder of all dumps.
        path: PathBuf,
        /// What failed.
        source: ReadError<io::Error>,
    },
    /// The copy is not what was written: it would be a dump that nobody can read.
    #[error(
        "what was written to {path} is not what is read from there: its disk fails; the dump is still in its area"
    )]
    NotReadBack {
        /// The copy, which was removed.
        path: PathBuf,
    },
    /// There is too little room for the copy.
    #[error(
        "{directory} has {free} free, and {needs} are needed: make room, and run `holdover collect` again; the dump is still in its area"
    )]
    Room {
        /// Where the copy was to go.
        directory: PathBuf,
        /// What it needs.
        needs: Bytes,
        /// What is free.
        free: Bytes,
    },
    /// The folder for it, or a file in that, cannot be made.
    #[error("cannot write into {path}; the dump is still in its area")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

impl CollectError {
    /// The same of a copy in a folder of its own, which was removed: files that were in it are not named.
    pub(super) fn of_folder(self, found: &FoundArea, directory: &Path) -> Self {
        let (device, path) = (found.device.clone(), directory.to_owned());
        match self {
            Self::Damaged { source, .. } => Self::DamagedInArea { device, source },
            Self::Copy { source, .. } => Self::Copy { path, source },
            Self::NotReadBack { .. } => Self::NotReadBack { path },
            Self::Folder { source, .. } => Self::Folder { path, source },
            other => other,
        }
    }
}

/// Why an area could not be told that its dump was collected. The dump is in its file all the same.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum MarkError {
    /// The area cannot be written.
    #[error(transparent)]
    Area(#[from] AreaError),
    /// Its device failed, or is read-only.
    #[error(transparent)]
    Device(#[from] BlockError),
}

/// Why an area has no dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDump {
    /// The seal, which tells of a dump, cannot be read.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The machine was reset too early.
    #[error("a dump was begun and cut off before anything of it was safe; {}", log_hint(*log))]
    CutOff {
        /// Whether the dead kernel's log is there.
        log: bool,
    },
    /// No kernel panicked, or none that would have dumped to this area.
    #[error("nothing was dumped since it was formatted")]
    Empty,
}

/// Where to go on when there is no dump.
const fn log_hint(log: bool) -> &'static str {
    if log {
        "`holdover collect --dmesg` fetches the dead kernel's log"
    } else {
        "the log was not stored either"
    }
}

/// What is wrong with a dump that was copied.
#[derive(Debug, thiserror::Error)]
pub enum DumpDamage {
    /// Its checksum differs.
    #[error(transparent)]
    Checksum(ReadError<io::Error>),
    /// It was cut off, and its file cannot be opened to mark the missing pages in it.
    #[error(transparent)]
    File(#[from] io::Error),
    /// It was cut off before its headers and bitmaps were complete, so that its pages cannot be found.
    #[error(transparent)]
    Unreadable(#[from] kdump::ReadError),
}

/// Copies and checks a dump. The steps of `progress` are bytes.
pub fn collect(request: &CollectRequest, progress: &dyn Progress) -> Result<Collected, CollectError> {
    let out = &request.out;
    request.if_exists.check(out)?;
    let found = areas::find_only_noted(&request.area, &Registry::at_root(&request.root))?;
    let mut area = found.open()?;
    let no_dump = |source| CollectError::NoDump { device: found.device.clone(), source };
    let seal = area.read_seal().map_err(|error| no_dump(error.into()))?;
    let has_log = || !matches!(area.read_log(&seal), Ok(None));
    let ending = Ending::of(&seal, has_log).map_err(no_dump)?;
    let content = copy_out(&mut area, &seal, ending, Unfinished::create(out, request.if_exists)?, progress)?;
    let (about, mark) = (AboutDump::read(out), mark(&found, &seal));
    Ok(Collected {
        out: out.clone(),
        bytes: seal.dump_len,
        ending,
        content,
        left_out: seal.left_out,
        about,
        mark,
    })
}

/// Copies the dump into a fresh file, completes it as far as possible, makes it durable, and gives it its name.
fn copy_out(
    area: &mut Area<impl BlockDevice>,
    seal: &Seal,
    ending: Ending,
    unfinished: Unfinished,
    progress: &dyn Progress,
) -> Result<AreaContent, CollectError> {
    let copied = copy(area, seal, unfinished.file(), progress, &mut Fingerprint::default());
    finish(copied, seal, ending, unfinished)
}

/// Does the same, then reads the file back from its disk, and compares what is there with what was read from the area. Returns the
/// file's checksum.
pub(super) fn copy_and_read_back(
    area: &mut Area<impl BlockDevice>,
    seal: &Seal,
    ending: Ending,
    out: &Path,
    progress: &dyn Progress,
) -> Result<(AreaContent, u64), CollectError> {
    let unfinished = Unfinished::create(out, IfExists::Refuse)?;
    let mut read = Fingerprint::default();
    let copied = copy(area, seal, unfinished.file(), progress, &mut read);
    let content = finish(copied, seal, ending, unfinished)?;
    let failed = |source| CollectError::Folder { path: out.to_owned(), source };
    let written = match content {
        // Missing pages were marked in the file; what it holds now is still in memory.
        AreaContent::Pages(_) => Fingerprint::of_file(out, |_| ()).map_err(failed)?,
        AreaContent::AsWritten | AreaContent::BlocksDiffer => read.of_length(seal.dump_len),
    };
    let found = read_back(out, seal.dump_len, progress).map_err(failed)?;
    if found == written {
        Ok((content, found))
    } else {
        Err(CollectError::NotReadBack { path: out.to_owned() })
    }
}

/// Reads a file that is durable from its disk, and returns its checksum.
pub(super) fn read_back(file: &Path, length: u64, progress: &dyn Progress) -> io::Result<u64> {
    fingerprint::forget_cached(file)?;
    progress.begin(length);
    let sum = Fingerprint::of_file(file, |done| progress.advance_to(done));
    progress.end();
    sum
}

/// Notes in the area that what it holds is in a file, which is durable by now.
pub(crate) fn mark(found: &FoundArea, seal: &Seal) -> Result<(), MarkError> {
    // A clock that is wrong is no reason to collect a dump twice.
    let now = clock::now().unwrap_or_default();
    found.pinned(|| Ok(found.open_to_write()?.mark_collected(seal, now)?))
}

impl Ending {
    /// How the dump ended, if there is one.
    pub(super) fn of(seal: &Seal, has_log: impl FnOnce() -> bool) -> Result<Self, NoDump> {
        match seal.state {
            SealState::Empty => Err(NoDump::Empty),
            _ if !seal.has_dump() => Err(NoDump::CutOff { log: has_log() }),
            SealState::Complete => Ok(Self::Complete),
            SealState::Partial(lack) => Ok(Self::Partial(lack)),
            SealState::InProgress => Ok(Self::CutOff),
        }
    }

    /// How the dump ended, and what it lacks.
    pub const fn in_words(self, content: AreaContent) -> &'static str {
        match (content, self) {
            (AreaContent::BlocksDiffer, _) => {
                "partial: the disk reported an error while the dump was written, and some blocks are not what was written"
            }
            (_, Self::Complete) => "complete",
            (_, Self::Partial(Lack::Content)) => "partial: the capture kernel could not store everything",
            (_, Self::Partial(Lack::Write)) => {
                "partial: the disk reported an error while the dump was written"
            }
            (_, Self::Partial(Lack::Gap)) => "partial: parts of the dump were never written",
            (_, Self::CutOff) => {
                "partial: the machine was reset or lost its power while the dump was written"
            }
        }
    }
}

/// Completes a copied dump as far as possible, makes it durable, and gives it its name.
fn finish(
    copied: Result<(), ReadError<io::Error>>,
    seal: &Seal,
    ending: Ending,
    unfinished: Unfinished,
) -> Result<AreaContent, CollectError> {
    let content = match (copied, ending) {
        // Descriptors may have been written again since the seal was.
        (Ok(()) | Err(ReadError::Checksum { .. }), Ending::CutOff) => match name_missing(&unfinished, seal) {
            Ok(pages) => AreaContent::Pages(pages),
            Err(damage) => return Err(set_aside(unfinished, damage)),
        },
        (Ok(()), _) => AreaContent::AsWritten,
        // Blocks that the disk refused hold their old content. Each page has a checksum of its own.
        (Err(ReadError::Checksum { .. }), Ending::Partial(Lack::Write)) => AreaContent::BlocksDiffer,
        (Err(error @ ReadError::Checksum { .. }), _) => {
            return Err(set_aside(unfinished, DumpDamage::Checksum(error)));
        }
        (Err(source), _) => {
            let path = unfinished.path().to_owned();
            unfinished.discard();
            return Err(CollectError::Copy { path, source });
        }
    };
    unfinished.keep()?;
    Ok(content)
}

/// Keeps a damaged dump under another name, and returns that name.
fn set_aside(unfinished: Unfinished, source: DumpDamage) -> CollectError {
    match unfinished.set_aside("damaged") {
        Ok(path) => CollectError::Damaged { path, source },
        Err(error) => error.into(),
    }
}

/// Makes an interrupted dump readable, and counts its pages.
fn name_missing(unfinished: &Unfinished, seal: &Seal) -> Result<u64, DumpDamage> {
    let file = BlockFile::open_exclusive(unfinished.path())?;
    Ok(kdump::name_missing(file, |data| seal.holds(data))?)
}

/// Copies the dump into a fresh file.
fn copy(
    area: &mut Area<impl BlockDevice>,
    seal: &Seal,
    file: &File,
    progress: &dyn Progress,
    read: &mut Fingerprint,
) -> Result<(), ReadError<io::Error>> {
    file.set_len(seal.dump_len).map_err(ReadError::Sink)?;
    progress.begin(seal.dump_len);
    let copied = area.read_dump(seal, |offset, bytes| {
        progress.advance_to(offset + bytes.len() as u64);
        read.add_at(offset, bytes);
        write_sparse(file, offset, bytes)
    });
    progress.end();
    copied
}

/// Writes bytes to a fresh file, in as few pieces as possible, except blocks of zeros, which a fresh file has already.
fn write_sparse(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let block = area::BLOCK as usize;
    let mut at = 0;
    let blocks: Vec<&[u8]> = bytes.chunks(block).collect();
    for run in blocks.chunk_by(|one, other| is_zero(one) == is_zero(other)) {
        let piece = &bytes[at..bytes.len().min(at + run.len() * block)];
        if !is_zero(run[0]) {
            file.write_all_at(piece, offset + at as u64)?;
        }
        at += piece.len();
    }
    Ok(())
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

impl AboutDump {
    /// Reads these facts from a dump, if it can be read.
    pub(super) fn read(dump: &Path) -> Option<Self> {
        let dump = Dump::open(dump).ok()?;
        let record = inspect::find_record(dump.notes().bytes()).ok().flatten();
        Some(Self {
            release: dump.release().to_owned(),
            pages: dump.pages(),
            crashed_at: dump.vmcoreinfo().crash_time().and_then(|time| time.try_into().ok()),
            takeover: record.map(|record| record.counts()),
        })
    }
}
