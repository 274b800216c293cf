//! The dump: which pages, compressed, to the area; sealed when it is as good as it gets.

use alloc::vec;
use core::time::Duration;

use area::{Area, Seal, State};
use kdump::{Codec, Header, Statistics, Utsname, WriteError};
use machine::{BlockDevice, BlockError, Clock, OldMemory, PAGE_SHIFT};
use vmcore::{CoreHeader, Counts, Kernel, Level, Notes, Ram, Selection};
use zerocopy::FromBytes;

use crate::clock::Tsc;
use crate::console::say;
use crate::memory::OldRam;

/// Bytes of a bitmap that are made at a time: 128 MiB of memory.
const CHUNK: usize = 4096;
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
    old: &OldRam,
    header: &CoreHeader,
    level: Level,
) -> Result<Dumped, DumpError> {
    let notes = Notes::read(old, header)?;
    let kernel = Kernel::new(notes.vmcoreinfo());
    tell_kernel(&kernel, &notes);
    let selection = Selection::new(old, &kernel, header.ram(), level)?;
    let mut pages = Chooser { old, ram: header.ram(), selection, counts: Counts::default() };
    let head = dump_header(old, &kernel, &notes, header.ram(), level);

    let mut dump = area.begin()?;
    let (written, error) = write_pages(&mut dump, &head, notes.bytes(), &mut pages);
    let outcome = if error.is_none() { area::Outcome::Complete } else { area::Outcome::Partial };
    let seal = dump.seal(outcome, written.file_bytes)?;
    Ok(Dumped { counts: pages.counts, written, error, seal })
}

impl Dumped {
    /// Whether the dump holds all that belongs in it.
    pub(crate) fn is_complete(&self) -> bool {
        self.seal.state == State::Complete
    }
}

fn tell_kernel(kernel: &Kernel, notes: &Notes) {
    let info = notes.vmcoreinfo();
    say!("kernel {} of {} processors died", info.os_release().unwrap_or("?"), notes.processors());
    for unknown in kernel.unknown() {
        say!("pages are kept because {unknown}");
    }
}

/// Writes what can be written; an error ends the dump where it came up.
fn write_pages(
    device: &mut impl BlockDevice,
    head: &Header,
    notes: &[u8],
    choice: &mut Chooser,
) -> (Statistics, Option<WriteError>) {
    let mut pages = match begin(device, head, notes, choice) {
        Ok(pages) => pages,
        Err(error) => return (Statistics::default(), Some(error)),
    };
    match write_all(&mut pages, choice.old) {
        Ok(()) => ended(pages.finish()),
        Err(error) => {
            let (written, failed) = ended(pages.abandon());
            (written, failed.or(Some(error)))
        }
    }
}

fn ended(result: Result<Statistics, WriteError>) -> (Statistics, Option<WriteError>) {
    match result {
        Ok(written) => (written, None),
        Err(error) => (Statistics::default(), Some(error)),
    }
}

/// Writes headers, notes and both bitmaps.
fn begin<'d, D: BlockDevice>(
    device: &'d mut D,
    head: &Header,
    notes: &[u8],
    choice: &mut Chooser,
) -> Result<kdump::Pages<'d, D>, WriteError> {
    let mut bitmaps = kdump::begin(device, head, notes, Codec::Zlib)?;
    let (mut existing, mut kept) = (vec![0; CHUNK], vec![0; CHUNK]);
    for first_pfn in (0..head.frames).step_by(CHUNK * 8) {
        let bytes = (head.frames - first_pfn).div_ceil(8).min(CHUNK as u64) as usize;
        choice.fill(first_pfn, &mut existing[..bytes], &mut kept[..bytes]);
        bitmaps.push(&existing[..bytes], &kept[..bytes])?;
    }
    say!("chose {} pages of {}", choice.counts.kept(), choice.counts.ram);
    bitmaps.finish()
}

fn write_all(pages: &mut kdump::Pages<impl BlockDevice>, old: &OldRam) -> Result<(), WriteError> {
    let mut told = Tsc.now();
    while pages.write_next(|pfn, page| old.read(pfn << PAGE_SHIFT, page))?.is_some() {
        if Tsc.now().saturating_sub(told) >= PROGRESS {
            told += PROGRESS;
            let Statistics { done, pages, .. } = pages.statistics();
            say!("dumped {done} of {pages} pages");
        }
    }
    Ok(())
}

/// Chooses pages, and counts.
struct Chooser<'a> {
    old: &'a OldRam,
    ram: &'a Ram,
    selection: Selection<'a, OldRam>,
    counts: Counts,
}

impl Chooser<'_> {
    /// Fills the same part of both bitmaps of the dump.
    fn fill(&mut self, first_pfn: u64, existing: &mut [u8], kept: &mut [u8]) {
        self.ram.fill(first_pfn, existing);
        self.counts += self.selection.fill(first_pfn, kept);
    }
}

fn dump_header(old: &OldRam, kernel: &Kernel, notes: &Notes, ram: &Ram, level: Level) -> Header {
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
fn utsname(old: &OldRam, kernel: &Kernel, release: Option<&str>) -> Utsname {
    let name = kdump::layout::Name::new;
    kernel.utsname(old).and_then(|names| Utsname::read_from_bytes(names.as_bytes()).ok()).unwrap_or(Utsname {
        sysname: name("Linux"),
        release: name(release.unwrap_or_default()),
        machine: name("x86_64"),
        ..Utsname::default()
    })
}
