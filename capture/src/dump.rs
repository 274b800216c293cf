//! Writes the dump: the dead kernel's log first, then the pages: selects, compresses and writes them, and seals the dump.

mod log;
mod verdict;

use core::time::Duration;

use area::{Completeness, Destination, Held, Seal, SealState};
use engine::{Begun, CutShort, Durable, Source, Wanted};
use handoff::Event;
use kdump::{Codec, Ended, Pages, Statistics, WriteError};
use machine::{BlockDevice, BlockError, Clock, OldMemory};
use record::Record;
use screen::{Progress, Stage};
use vmcore::{CoreHeader, Counts, Kernel, Level, Note, Notes};

use crate::disk::DumpDisk;
use crate::display;
use crate::platform::clock::Tsc;
use crate::platform::console::say;
use crate::watchdogs::Attended;

use verdict::{Vital, Written};

/// The options of a dump.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// Which pages to leave out.
    pub(crate) level: Level,
    /// How to compress the others.
    pub(crate) codec: Codec,
}

/// Most errors of the disk that do not end the dump: each may cost the disk's driver seconds.
const PATIENCE: usize = 64;
/// Time between two lines of progress. Each line reports pages that are durable.
const PROGRESS: Duration = Duration::from_secs(1);
/// Time between two looks of the progress on the display.
const SHOWN: Duration = Duration::from_millis(250);

/// The result of a dump.
#[derive(Clone, Debug)]
pub(crate) struct Dumped {
    /// Why pages were left out.
    pub(crate) counts: Counts,
    /// What was written.
    pub(crate) written: Statistics,
    /// What went wrong, if the dump is not complete.
    pub(crate) error: Option<WriteError>,
    /// Whether readers can open it.
    vital: Vital,
    /// How long the processor did nothing but wait for the disk.
    pub(crate) disk_wait: Duration,
    /// The seal on the disk.
    pub(crate) seal: Seal,
}

/// There is no sealed dump, not even a partial one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DumpError {
    /// The disk failed where nothing could be saved.
    #[error("the disk failed: {0}")]
    Disk(#[from] BlockError),
    /// The disk failed before the seal: what was durable by then is there to be collected.
    #[error("the disk failed before the dump was sealed: {error}")]
    Unsealed {
        /// What the disk said.
        error: BlockError,
        /// Whether what is there opens.
        is_readable: bool,
    },
    /// There is no memory for the dead kernel's notes or the search for pages.
    #[error(transparent)]
    OutOfMemory(#[from] vmcore::OutOfMemory),
}

/// Writes the dump to its destination and seals it.
pub(crate) fn write(
    mut destination: Destination<DumpDisk>,
    old: &impl OldMemory,
    header: &CoreHeader,
    record: Record,
    Form { level, codec }: Form,
) -> Result<Dumped, DumpError> {
    let mut notes = Notes::read(old, header)?;
    if let Err(error) = add_record(&mut notes, record) {
        say!("the dump goes without the record of the takeover: {error}");
    }
    let kernel = Kernel::new(notes.vmcoreinfo());
    tell_kernel(&kernel, &notes);
    let source = Source { memory: old, kernel: &kernel, notes: &notes, ram: header.ram(), level };
    tell_older(&mut destination);
    let mut dump = destination.begin()?;
    display::begin(Stage::Log);
    log::store(&mut dump, old, &kernel);
    display::begin(Stage::Pages);
    let waited_before = dump.device().waited();
    let (counts, outcome) = write_to(&mut Attended(&mut dump), &source, codec);
    let Written { vital, ended: Ended { statistics: written, error }, .. } = outcome;
    let clipped = header.clipped();
    if clipped > 0 {
        say!("{clipped} entries of the core header make no sense: memory may be missing");
    }
    let lacks_nothing = error.is_none() && written.missing == 0 && clipped == 0;
    let completeness = if lacks_nothing { Completeness::Complete } else { Completeness::Partial };
    dump.leave_out(outcome.left_out(clipped));
    let disk_wait = dump.device().waited().saturating_sub(waited_before);
    if !lacks_nothing {
        display::failed(Stage::Pages);
    }
    display::begin(Stage::Seal);
    let unsealed = |error| DumpError::Unsealed { error, is_readable: vital == Vital::Written };
    let seal = dump.seal(completeness, written.file_bytes).map_err(unsealed)?;
    Ok(Dumped { counts, written, error, vital, disk_wait, seal })
}

impl Dumped {
    /// Whether another disk could take what this one did not: it failed, or is too small for what readers need.
    pub(crate) fn blames_disk(&self) -> bool {
        verdict::blames_disk(self.error, self.seal.state, self.vital)
    }

    /// Whether readers open it.
    pub(crate) fn is_readable(&self) -> bool {
        self.vital == Vital::Written
    }

    /// Whether the dump holds all that belongs in it.
    pub(crate) fn completeness(&self) -> Completeness {
        if self.seal.state == SealState::Complete { Completeness::Complete } else { Completeness::Partial }
    }
}

/// Puts the takeover's record among the dead kernel's notes.
fn add_record(notes: &mut Notes, record: Record) -> Result<(), vmcore::OutOfMemory> {
    let content = record.encode()?;
    notes.push(&Note { name: record::NOTE_NAME, kind: record::NOTE_TYPE, content: &content })
}

/// Reports that an older dump is lost: `load` was told that it may be.
fn tell_older(destination: &mut Destination<DumpDisk>) {
    let held = destination.held();
    if held != Held::Nothing {
        say!("the area held {held} that nobody collected; this dump replaces it");
    }
}

fn tell_kernel(kernel: &Kernel, notes: &Notes) {
    let info = notes.vmcoreinfo();
    // The dead kernel's text may contain anything, even terminal commands.
    let release = info.os_release().unwrap_or("?").escape_debug();
    say!("kernel {release} of {} processors died", notes.processors());
    for unknown in kernel.unknown() {
        say!("pages are kept because {unknown}");
    }
}

/// Writes as much of the dump as possible. The first error ends the dump.
fn write_to(
    device: &mut impl BlockDevice,
    source: &Source<'_, impl OldMemory>,
    codec: Codec,
) -> (Counts, Written) {
    match source.begin(device, codec) {
        Ok(Begun { pages, counts }) => {
            say!("chose {} pages of {}", counts.kept(), counts.ram);
            (counts, write_pages(pages, source))
        }
        Err(error) => (Counts::default(), Written::nothing(error)),
    }
}

/// Writes the selected pages, all of them if possible.
fn write_pages(mut pages: Pages<'_, impl BlockDevice>, source: &Source<'_, impl OldMemory>) -> Written {
    pages.put_up_with(PATIENCE);
    let mut vital = Vital::Missing;
    let mut told = Told::begin();
    let written = engine::in_telling_order(&mut pages, source, |pages, wanted, durable| {
        let is_told = vital == Vital::Written;
        if durable == Durable::VitalPages && !is_told && pages.complaint().is_none() {
            vital = Vital::Written;
            tell_vital(pages.statistics());
        }
        write_pass(pages, source.memory, wanted, &mut told)
    });
    match written {
        Ok(()) => Written::all(source.level, vital, pages.finish()),
        Err(CutShort { error, reached }) => Written::some(error, reached, vital, pages.abandon()),
    }
}

/// Reports that the pages of the first pass, without which no reader opens the dump, are durable.
fn tell_vital(Statistics { done, pages, .. }: Statistics) {
    say!("{}", Event::VitalSafe { done, pages });
}

/// When the pages began, and when their progress was shown and made durable.
struct Told {
    begun: Duration,
    shown: Duration,
    saved: Duration,
}

impl Told {
    fn begin() -> Self {
        let now = Tsc.now();
        Self { begun: now, shown: now, saved: now }
    }

    /// How far the pages are, by these counts.
    fn progress(&self, now: Duration, Statistics { done, pages, .. }: Statistics) -> Progress {
        Progress { done, pages, elapsed: now.saturating_sub(self.begun) }
    }
}

/// Writes the pages that are wanted now.
fn write_pass(
    pages: &mut Pages<'_, impl BlockDevice>,
    old: &impl OldMemory,
    wanted: Wanted<'_>,
    told: &mut Told,
) -> Result<(), WriteError> {
    while pages.write_next(&mut *wanted, |pfn, page| old.read_page(pfn, page))?.is_some() {
        let now = Tsc.now();
        if now.saturating_sub(told.shown) >= SHOWN {
            display::progress(told.progress(now, pages.statistics()));
            told.shown = now;
        }
        if now.saturating_sub(told.saved) >= PROGRESS {
            save(pages, told)?;
        }
    }
    let Statistics { done, pages, data_bytes, .. } = pages.statistics();
    say!("stored {done} of {pages} pages in {} KiB", data_bytes >> 10);
    Ok(())
}

/// Makes the stored pages durable, because the machine may not last, and reports the progress.
fn save(pages: &mut Pages<'_, impl BlockDevice>, told: &mut Told) -> Result<(), WriteError> {
    pages.save()?;
    let now = Tsc.now();
    say!("dumped {}", told.progress(now, pages.statistics()));
    told.saved = now;
    Ok(())
}
