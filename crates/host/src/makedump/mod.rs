//! Makes a small dump of an ELF core or of a larger dump, as makedumpfile does.
//!
//! | module | what it is |
//! |---|---|
//! | `elf` | writes the dump as an ELF core |
//! | `pipeline`, `worker`, `batch`, `job` | bring pages from memory into a kdump-compressed dump, on all processors |
//! | `chunk`, `output`, `growing`, `hostfile` | the dump's file, as the pipeline writes it |
//! | `aligned`, `aside` | make copying and starting threads fast |
//! | `made` | the summary of the dump that was made |

mod aligned;
mod aside;
mod batch;
mod chunk;
mod elf;
#[cfg(test)]
mod full_disk;
mod growing;
mod hostfile;
mod job;
mod made;
mod output;
mod pipeline;
mod worker;

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use dumpfile::{Dump, DumpError};
use engine::{Begun, Source};
use kdump::{Codec, Pages, Statistics, WriteError};
use machine::{ByteOffset, Pfn, PhysicalAddress, Range};
use vmcore::{Counts, Kernel, Level, OutOfMemory, Ram, TooManyPieces, Vital};

use self::hostfile::HostFile;
pub use self::made::{KeptMore, MadeDump, MadeLack};
use self::output::Output;
use self::worker::Route;
use crate::progress::Progress;
use crate::unfinished::{IfExists, OutputError, Unfinished};

/// Most threads that make a dump. The one that hands out the work keeps no more of them busy, and each takes memory.
pub const MOST_THREADS: usize = 32;

/// Most page frames of a kdump-compressed dump: 128 TiB, twice what Linux addresses with page tables of four levels. The two
/// bitmaps then have 8 GiB, and readers keep one of them in memory.
const MOST_FRAMES: u64 = 1 << (47 - machine::PAGE_SHIFT);

/// The input of a dump, and the form of the output.
#[derive(Clone, Debug)]
pub struct MakedumpRequest {
    /// An ELF core, such as `/proc/vmcore`, or a kdump-compressed dump, of which more is to be left out.
    pub input: PathBuf,
    /// The dump to make; it appears under this name only when it is whole.
    pub out: PathBuf,
    /// What to do if there is a file of that name.
    pub if_exists: IfExists,
    /// Which pages to leave out.
    pub level: Level,
    /// How the dump is stored.
    pub form: DumpForm,
    /// How many processors read and compress, at most [`MOST_THREADS`]; `None` means all.
    pub threads: Option<NonZero<usize>>,
}

/// How a dump is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpForm {
    /// In the kdump-compressed format, with pages compressed by this codec.
    Compressed(Codec),
    /// As an ELF core, which is not compressed.
    Elf,
}

/// Why a dump was not made.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum MakedumpError {
    /// The input cannot be read, or is no dump.
    #[error("cannot read {input}")]
    Read {
        /// The input.
        input: PathBuf,
        /// What is wrong with it.
        source: DumpError,
    },
    /// The input lacks what no dump can do without.
    #[error("{input} cannot be made a dump of")]
    Unfit {
        /// The input.
        input: PathBuf,
        /// What it lacks.
        source: Unfit,
    },
    /// The dump's file cannot be made.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// Something failed on the way.
    #[error("cannot make {out}; {unfinished} has a part of it, marked as incomplete")]
    Failed {
        /// The name that was asked for.
        out: PathBuf,
        /// The name under which the file was begun.
        unfinished: PathBuf,
        /// What failed.
        source: MakingError,
    },
}

/// Why no dump can be made of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is empty.
    #[error("it lists no memory")]
    NoMemory,
    /// Its last page is so far behind the others that their list would be longer than any reader takes.
    #[error(
        "it has memory at {0:#x}, too high for a kdump-compressed dump, which has two bits for each page below; `--elf` has none"
    )]
    TooHigh(PhysicalAddress),
    /// Damaged notes come before those with VMCOREINFO, without which no reader finds its way through the memory.
    #[error("its notes are damaged, and VMCOREINFO is lost with them")]
    NotesDamaged,
    /// VMCOREINFO is in the part that is missing.
    #[error("{0}, and VMCOREINFO is lost with that")]
    Cut(MadeLack),
    /// It never had one.
    #[error("it has no VMCOREINFO, neither among its notes nor in its memory; `-d 0` and `-d 1` do without")]
    NoVmcoreinfo,
}

/// What failed while a dump was written.
#[derive(Debug, thiserror::Error)]
pub enum MakingError {
    /// The file.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The writer of the kdump-compressed format.
    #[error(transparent)]
    Format(#[from] WriteError),
    /// The input.
    #[error(transparent)]
    Input(#[from] DumpError),
    /// Pages that could not be read split the core into more pieces than its header has room for.
    #[error(transparent)]
    TooManyPieces(#[from] TooManyPieces),
    /// There is no memory for lists of pages.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Makes the dump. The steps of `progress` are pages.
pub fn makedump(request: &MakedumpRequest, progress: &dyn Progress) -> Result<MadeDump, MakedumpError> {
    let input = &request.input;
    request.if_exists.check(&request.out)?;
    let (dump, ram) = open(input).map_err(|source| MakedumpError::Read { input: input.clone(), source })?;
    check(&dump, &ram, request).map_err(|source| MakedumpError::Unfit { input: input.clone(), source })?;
    let kernel = Kernel::new(dump.vmcoreinfo());
    let source = Source {
        memory: &dump,
        kernel: &kernel,
        notes: dump.notes(),
        ram: &ram,
        // The input lacks the pages that were omitted before, and the dump's header says so too.
        level: request.level | dump.level(),
    };
    let lacks = dump.lacks().map(|lack| MadeLack::Input(lack, dump.format())).collect();
    let unfinished = Unfinished::create(&request.out, request.if_exists)?;
    match (Making { source, request, lacks, progress }).write(unfinished.file()) {
        Ok(made) => {
            unfinished.keep()?;
            Ok(made)
        }
        Err(source) => {
            let (out, unfinished) = (request.out.clone(), unfinished.path().to_owned());
            Err(MakedumpError::Failed { out, unfinished, source })
        }
    }
}

fn open(input: &Path) -> Result<(Dump, Ram), DumpError> {
    let mut dump = Dump::open(input)?;
    if dump.vmcoreinfo().text().is_empty() {
        dump.find_vmcoreinfo()?;
    }
    let ram = dump.ram()?;
    Ok((dump, ram))
}

/// Checks that there is memory, and VMCOREINFO if pages are to be told apart by it.
fn check(dump: &Dump, ram: &Ram, request: &MakedumpRequest) -> Result<(), Unfit> {
    if ram.pages() == 0 {
        return Err(Unfit::NoMemory);
    }
    if request.form != DumpForm::Elf && ram.end_pfn() > MOST_FRAMES {
        return Err(Unfit::TooHigh(Pfn::new(ram.end_pfn() - 1).address()));
    }
    if !dump.vmcoreinfo().text().is_empty() || !request.level.looks_at_types() {
        return Ok(());
    }
    Err(match dump.lacks().next() {
        Some(dumpfile::Lack::Notes(_)) => Unfit::NotesDamaged,
        Some(lack) => Unfit::Cut(MadeLack::Input(lack, dump.format())),
        None => Unfit::NoVmcoreinfo,
    })
}

/// A dump in the making.
struct Making<'a> {
    source: Source<'a, Dump>,
    request: &'a MakedumpRequest,
    lacks: Vec<MadeLack>,
    progress: &'a dyn Progress,
}

/// A dump that has everything but its pages, and what it takes to store them.
struct Prepared<'s, 'd, 'o> {
    begun: Begun<'d, &'o Output<'o>>,
    vital: Option<Vital<'s, Dump>>,
    /// How long it took to choose pages.
    choosing: Duration,
}

/// What was written.
struct Written {
    counts: Counts,
    /// How long it took to choose pages.
    choosing: Duration,
    statistics: Statistics,
}

impl Making<'_> {
    fn write(mut self, file: &File) -> Result<MadeDump, MakingError> {
        let start = Instant::now();
        let written = match self.request.form {
            DumpForm::Elf => self.write_elf(file)?,
            DumpForm::Compressed(codec) => self.write_compressed(file, codec)?,
        };
        self.lacks.extend(MadeLack::unread(written.statistics));
        Ok(self.made(written, start.elapsed()))
    }

    fn write_elf(&self, file: &File) -> Result<Written, MakingError> {
        let Source { memory, kernel, ram, .. } = self.source;
        elf::write(&self.source, &memory.segments(kernel, ram)?, file, self.progress)
    }

    fn write_compressed(&self, file: &dyn HostFile, codec: Codec) -> Result<Written, MakingError> {
        let threads = threads(self.request.threads);
        let output = Output::new(file, pipeline::open_bytes(threads));
        let route = Route { memory: self.source.memory, codec, output: &output };
        let written = self.write_pages(&route, threads);
        // The host's error says more than the format's error.
        let host = output.into_error();
        written.map_err(|error| host.map_or(error.into(), MakingError::from))
    }

    fn write_pages(&self, route: &Route<'_, Dump>, threads: NonZero<usize>) -> Result<Written, WriteError> {
        let mut device = route.output;
        let Prepared { begun, vital, choosing } = self.prepare(&mut device, route.codec, threads)?;
        let Begun { mut pages, counts } = begun;
        // `crash` maps the bitmaps.
        route.output.reserve_mapped(Range::new(ByteOffset::default(), pages.table().start));
        let stored = self.store(&mut pages, vital, route, threads);
        let missing = MadeLack::unread(pages.statistics());
        let whole = stored.is_ok() && self.lacks.is_empty() && missing.is_none();
        let ended = if whole { pages.finish() } else { pages.abandon() };
        stored.and(ended.error.map_or(Ok(()), Err))?;
        route.output.set_len(ended.statistics.file_bytes)?;
        Ok(Written { counts, choosing, statistics: ended.statistics })
    }

    /// Chooses pages. Meanwhile another thread, if allowed, finds the pages without which no reader opens the dump.
    fn prepare<'d, 'o>(
        &self,
        device: &'d mut &'o Output<'o>,
        codec: Codec,
        threads: NonZero<usize>,
    ) -> Result<Prepared<'_, 'd, 'o>, WriteError> {
        let (source, start) = (&self.source, Instant::now());
        thread::scope(|scope| {
            let vital = (threads.get() > 1).then(|| aside::spawn(scope, || source.vital()));
            let begun = source.begin(device, codec)?;
            let choosing = start.elapsed();
            let vital = vital.and_then(Result::ok).map_or_else(|| Ok(source.vital()), ScopedJoinHandle::join);
            Ok(Prepared { begun, vital: vital.unwrap_or_else(|panic| resume_unwind(panic)), choosing })
        })
    }

    /// Stores all kept pages, and shows how many are stored.
    fn store(
        &self,
        pages: &mut Pages<'_, &Output<'_>>,
        vital: Option<Vital<'_, Dump>>,
        route: &Route<'_, Dump>,
        threads: NonZero<usize>,
    ) -> Result<(), WriteError> {
        let progress = self.progress;
        progress.begin(pages.statistics().pages);
        let stored = pipeline::write_pages(pages, vital, route, threads, |done| progress.advance_to(done));
        progress.end();
        stored
    }

    /// The reasons why pages were kept that the level excludes.
    fn kept_more(&self, counts: Counts) -> Vec<KeptMore> {
        let facts: Vec<_> = self.source.kernel.unknown().map(KeptMore::Unknown).collect();
        let undescribed = facts.is_empty() && counts.unknown > 0;
        let undescribed = undescribed.then_some(KeptMore::Undescribed { pages: counts.unknown });
        facts.into_iter().chain(undescribed).collect()
    }

    fn made(self, Written { counts, choosing, statistics }: Written, took: Duration) -> MadeDump {
        MadeDump {
            out: self.request.out.clone(),
            release: self.source.header().utsname.release.as_str().escape_debug().to_string(),
            counts,
            written: statistics,
            kept_more: self.kept_more(counts),
            lacks: self.lacks,
            choosing,
            took,
        }
    }
}

/// As many threads as are asked for, or as there are processors.
fn threads(asked: Option<NonZero<usize>>) -> NonZero<usize> {
    let asked = asked.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZero::<usize>::MIN);
    NonZero::new(MOST_THREADS).map_or(asked, |most| asked.min(most))
}
