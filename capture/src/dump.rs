//! The dump: which pages, compressed, to the area; sealed when it is as good as it gets.

use alloc::vec;
use core::time::Duration;

use area::{Area, Seal, State};
use kdump::{Codec, Ended, Header, NoteSegment, Statistics, Utsname, WriteError};
use machine::{BlockDevice, BlockError, Clock, OldMemory, PAGE_SHIFT};
use record::Record;
use vmcore::{CoreHeader, Counts, Kernel, Level, Note, Notes, Ram, Selection};
use zerocopy::FromBytes;

use crate::clock::Tsc;
use crate::console::say;

/// Bytes of a bitmap that are made at a time: 128 MiB of memory.
const CHUNK: usize = 4096;
/// Complaints of the disk that do not end the dump: each may cost the disk's driver seconds.
const PATIENCE: usize = 64;
/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(1);

/// What was dumped.
#[derive(Clone, Debug)]
pub(crate) struct Dumped {
    /// Why pages were left out.
    pub(crate) counts: Counts,
    /// What was written.
    pub(crate) written: Statistics,
    /// What went wrong, if the dump is not complete.
    pub(crate) error: Option<WriteError>,
    /// The seal on the disk.
    pub(crate) seal: Seal,
}

/// There is no dump, not even a partial one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DumpError {
    /// The disk failed where nothing could be saved.
    #[error("the disk failed: {0}")]
    Disk(#[from] BlockError),
    /// There is no memory for the dead kernel's notes or the search for pages.
    #[error(transparent)]
    OutOfMemory(#[from] vmcore::OutOfMemory),
}

/// Writes the dump to the area and seals it.
pub(crate) fn write(
    area: Area<impl BlockDevice>,
    old: &impl OldMemory,
    header: &CoreHeader,
    record: Record,
    level: Level,
) -> Result<Dumped, DumpError> {
    let mut notes = Notes::read(old, header)?;
    if let Err(error) = add_record(&mut notes, record) {
        say!("the dump goes without the record of the takeover: {error}");
    }
    let kernel = Kernel::new(notes.vmcoreinfo());
    tell_kernel(&kernel, &notes);
    let mut content = Content {
        head: dump_header(old, &kernel, &notes, header.ram(), level),
        notes: NoteSegment { bytes: notes.bytes(), vmcoreinfo: notes.vmcoreinfo_place() },
        old,
        ram: header.ram(),
        selection: Selection::new(old, &kernel, header.ram(), level)?,
        counts: Counts::default(),
    };
    let mut dump = area.begin()?;
    let Ended { statistics: written, error } = content.write_to(&mut dump);
    let lacks_nothing = error.is_none() && written.missing == 0;
    let outcome = if lacks_nothing { area::Outcome::Complete } else { area::Outcome::Partial };
    let seal = dump.seal(outcome, written.file_bytes)?;
    Ok(Dumped { counts: content.counts, written, error, seal })
}

impl Dumped {
    /// Whether the dump holds all that belongs in it.
    pub(crate) fn is_complete(&self) -> bool {
        self.seal.state == State::Complete
    }
}

/// Puts the takeover's record among the dead kernel's notes.
fn add_record(notes: &mut Notes, record: Record) -> Result<(), vmcore::OutOfMemory> {
    let content = record.encode().map_err(|record::OutOfMemory| vmcore::OutOfMemory)?;
    notes.push(&Note { name: record::NOTE_NAME, kind: record::NOTE_TYPE, content: &content })
}

fn tell_kernel(kernel: &Kernel, notes: &Notes) {
    let info = notes.vmcoreinfo();
    // A dead kernel's words may hold anything, a terminal's commands included.
    let release = info.os_release().unwrap_or("?").escape_debug();
    say!("kernel {release} of {} processors died", notes.processors());
    for unknown in kernel.unknown() {
        say!("pages are kept because {unknown}");
    }
}

/// What goes into a dump.
struct Content<'a, M> {
    head: Header,
    notes: NoteSegment<'a>,
    old: &'a M,
    ram: &'a Ram,
    selection: Selection<'a, M>,
    counts: Counts,
}

impl<M: OldMemory> Content<'_, M> {
    /// Writes what can be written; an error ends the dump where it came up.
    fn write_to(&mut self, device: &mut impl BlockDevice) -> Ended {
        let mut pages = match self.write_bitmaps(device) {
            Ok(pages) => pages,
            Err(error) => return Ended { statistics: Statistics::default(), error: Some(error) },
        };
        pages.put_up_with(PATIENCE);
        match self.write_pages(&mut pages) {
            Ok(()) => pages.finish(),
            Err(error) => Ended { error: Some(error), ..pages.abandon() },
        }
    }

    /// Writes headers, notes and both bitmaps.
    fn write_bitmaps<'d, D: BlockDevice>(
        &mut self,
        device: &'d mut D,
    ) -> Result<kdump::Pages<'d, D>, WriteError> {
        let mut bitmaps = kdump::begin(device, &self.head, &self.notes, Codec::Zlib)?;
        let (mut existing, mut kept) = (vec![0; CHUNK], vec![0; CHUNK]);
        for first_pfn in (0..self.head.frames).step_by(CHUNK * 8) {
            let bytes = (self.head.frames - first_pfn).div_ceil(8).min(CHUNK as u64) as usize;
            self.ram.fill(first_pfn, &mut existing[..bytes]);
            self.counts += self.selection.fill(first_pfn, &mut kept[..bytes]);
            bitmaps.push(&existing[..bytes], &kept[..bytes])?;
        }
        say!("chose {} pages of {}", self.counts.kept(), self.counts.ram);
        bitmaps.finish()
    }

    fn write_pages(&self, pages: &mut kdump::Pages<impl BlockDevice>) -> Result<(), WriteError> {
        let mut told = Tsc.now();
        while pages.write_next(|pfn, page| self.old.read(pfn << PAGE_SHIFT, page))?.is_some() {
            if Tsc.now().saturating_sub(told) >= PROGRESS {
                told += PROGRESS;
                let Statistics { done, pages, .. } = pages.statistics();
                say!("dumped {done} of {pages} pages");
            }
        }
        Ok(())
    }
}

fn dump_header(old: &impl OldMemory, kernel: &Kernel, notes: &Notes, ram: &Ram, level: Level) -> Header {
    let info = notes.vmcoreinfo();
    Header {
        utsname: utsname(old, kernel, info.os_release()),
        crashed_at: info.crash_time().and_then(|time| time.try_into().ok()).unwrap_or(0),
        cpus: notes.processors() as u32,
        frames: ram.end_pfn(),
        phys_base: kernel.phys_base(),
        dump_level: level.number(),
    }
}

/// The kernel's names as it had them; at least its release, if they cannot be read.
fn utsname(old: &impl OldMemory, kernel: &Kernel, release: Option<&str>) -> Utsname {
    let name = kdump::layout::Name::new;
    kernel.utsname(old).and_then(|names| Utsname::read_from_bytes(names.as_bytes()).ok()).unwrap_or(Utsname {
        sysname: name("Linux"),
        release: name(release.unwrap_or_default()),
        machine: name("x86_64"),
        ..Utsname::default()
    })
}
