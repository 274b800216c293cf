//! `holdover makedump`: makes a small dump of an ELF core or of a larger dump, as makedumpfile does.

mod aligned;
mod aside;
mod batch;
mod chunk;
mod elf;
mod growing;
mod job;
mod made;
mod output;
mod pipeline;
mod worker;

use std::fs::File;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use dumpfile::{Dump, DumpError, Format, Lack};
use engine::{Begun, Source};
use indicatif::{ProgressBar, ProgressStyle};
use kdump::{Codec, Pages, Statistics, WriteError};
use vmcore::{Counts, Kernel, Level, Ram, Vital};

use self::made::Made;
use self::output::Output;
use self::worker::Route;
use crate::unfinished::Unfinished;
use crate::{codec, report};

/// What the command is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// Which pages to leave out, in makedumpfile's numbering: the sum of 1 zero, 2 cache, 4 private cache, 8 user, 16 free
    #[arg(short = 'd', long, default_value = "31", value_parser = parse_level)]
    level: Level,
    /// How to compress pages: none, zlib, lzo, snappy or zstd
    ///
    /// Every reader understands none, zlib and lzo. crash 8 and drgn (by libkdumpfile) also understand snappy and zstd;
    /// Debian's makedumpfile knows no snappy, and zstd since Debian 13. lzo and snappy are the fastest, zstd makes the
    /// smallest dumps.
    #[arg(long, default_value = "zlib", value_parser = codec::any)]
    codec: Codec,
    /// Write an ELF core, which is not compressed
    #[arg(long, conflicts_with = "codec")]
    elf: bool,
    /// How many processors read and compress [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
    /// Replace a file of the name OUT
    #[arg(long)]
    force: bool,
    /// An ELF core, such as /proc/vmcore, or a kdump-compressed dump, of which more is to be left out
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The dump to make; it appears under this name only when it is whole
    out: PathBuf,
}

fn parse_level(text: &str) -> Result<Level, String> {
    let level = text.parse().ok().and_then(Level::new);
    level.ok_or_else(|| "levels go from 0 to 31".to_owned())
}

/// Makes the dump.
pub fn run(arguments: &Arguments) -> anyhow::Result<Made> {
    let input = arguments.input.display();
    let (dump, ram) = open(&arguments.input).with_context(|| format!("cannot read {input}"))?;
    check_notes(&dump, &ram).with_context(|| format!("{input} cannot be made a dump of"))?;
    let kernel = Kernel::new(dump.vmcoreinfo());
    let source = Source {
        memory: &dump,
        kernel: &kernel,
        notes: dump.notes(),
        ram: &ram,
        // What was left out before is left out for good, which is to be told.
        level: arguments.level | dump.level(),
    };
    let lacks = dump.lacks().map(|lack| told(lack, dump.format())).collect();
    let unfinished = Unfinished::create(&arguments.out, arguments.force.into())?;
    match (Making { source, arguments, lacks }).write(unfinished.file()) {
        Ok(made) => unfinished.keep().map(|()| made),
        Err(error) => {
            let (out, left) = (arguments.out.display(), unfinished.path().display());
            Err(error.context(format!("cannot make {out}; {left} has a part of it, marked as incomplete")))
        }
    }
}

fn open(input: &Path) -> Result<(Dump, Ram), DumpError> {
    let dump = Dump::open(input)?;
    let ram = dump.ram()?;
    Ok((dump, ram))
}

/// Without VMCOREINFO no reader finds its way through the memory.
fn check_notes(dump: &Dump, ram: &Ram) -> anyhow::Result<()> {
    ensure!(ram.pages() > 0, "it lists no memory");
    if !dump.vmcoreinfo().text().is_empty() {
        return Ok(());
    }
    match dump.lacks().next() {
        Some(Lack::Notes(_)) => bail!("its notes are damaged, and VMCOREINFO is lost with them"),
        Some(lack) => bail!("{}, and VMCOREINFO is lost with that", told(lack, dump.format())),
        None => bail!("it has no VMCOREINFO; is it a kernel's?"),
    }
}

/// What is not as it should be with the input.
fn told(lack: Lack, format: Format) -> String {
    let input = match format {
        Format::Elf => "core",
        Format::Kdump => "dump",
    };
    match lack {
        Lack::Bytes(bytes) => format!("the {input} was cut short by {}", report::size(bytes)),
        Lack::Records => format!("the flattened {input} was cut short"),
        Lack::Unfinished => format!("the {input} that it is made of is partial"),
        Lack::Notes(count) => format!("{count} of the {input}'s notes are damaged"),
    }
}

/// A dump in the making.
struct Making<'a> {
    source: Source<'a, Dump>,
    arguments: &'a Arguments,
    lacks: Vec<String>,
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
    fn write(mut self, file: &File) -> anyhow::Result<Made> {
        let start = Instant::now();
        let written = if self.arguments.elf { self.write_elf(file)? } else { self.write_compressed(file)? };
        self.lacks.extend(not_read(written.statistics));
        Ok(self.made(written, start.elapsed()))
    }

    fn write_elf(&self, file: &File) -> anyhow::Result<Written> {
        let bar = progress(0);
        let show = |statistics: Statistics| {
            bar.set_length(statistics.pages);
            bar.set_position(statistics.done);
        };
        let Source { memory, kernel, ram, .. } = self.source;
        let written = elf::write(&self.source, &memory.segments(kernel, ram)?, file, show);
        bar.finish_and_clear();
        written
    }

    fn write_compressed(&self, file: &File) -> anyhow::Result<Written> {
        let threads = self.arguments.threads.unwrap_or_else(all_processors);
        let output = Output::new(file, pipeline::open_bytes(threads));
        let written = self.write_pages(&output, threads);
        // The host says better than the format what was wrong.
        let host = output.into_error();
        written.map_err(|error| host.map_or(error.into(), anyhow::Error::from))
    }

    fn write_pages(&self, output: &Output<'_>, threads: NonZero<usize>) -> Result<Written, WriteError> {
        let mut device = output;
        let Prepared { begun, vital, choosing } = self.prepare(&mut device, threads)?;
        let Begun { mut pages, counts } = begun;
        let stored = self.store(&mut pages, vital, output, threads);
        let missing = not_read(pages.statistics());
        let whole = stored.is_ok() && self.lacks.is_empty() && missing.is_none();
        let ended = if whole { pages.finish() } else { pages.abandon() };
        stored.and(ended.error.map_or(Ok(()), Err))?;
        output.set_len(ended.statistics.file_bytes)?;
        Ok(Written { counts, choosing, statistics: ended.statistics })
    }

    /// Chooses pages, and finds out which readers cannot do without: another thread does that meanwhile, if there may be one.
    fn prepare<'d, 'o>(
        &self,
        device: &'d mut &'o Output<'o>,
        threads: NonZero<usize>,
    ) -> Result<Prepared<'_, 'd, 'o>, WriteError> {
        let start = Instant::now();
        thread::scope(|scope| {
            let vital = (threads.get() > 1).then(|| aside::spawn(scope, || self.source.vital()));
            let begun = self.source.begin(device, self.arguments.codec)?;
            let choosing = start.elapsed();
            let vital = vital.map_or_else(|| Ok(self.source.vital()), ScopedJoinHandle::join);
            Ok(Prepared { begun, vital: vital.unwrap_or_else(|panic| resume_unwind(panic)), choosing })
        })
    }

    /// Stores all kept pages, and shows how far it is.
    fn store(
        &self,
        pages: &mut Pages<'_, &Output<'_>>,
        vital: Option<Vital<'_, Dump>>,
        output: &Output<'_>,
        threads: NonZero<usize>,
    ) -> Result<(), WriteError> {
        let bar = progress(pages.statistics().pages);
        let route = Route { memory: self.source.memory, codec: self.arguments.codec, output };
        let stored = pipeline::write_pages(pages, vital, &route, threads, |done| bar.set_position(done));
        bar.finish_and_clear();
        stored
    }

    /// What costs the dump exclusions.
    fn unknown(&self, counts: Counts) -> Vec<String> {
        let facts: Vec<_> = self.source.kernel.unknown().map(|unknown| unknown.to_string()).collect();
        let unread = facts.is_empty() && counts.unknown > 0;
        let unread = unread.then(|| format!("what describes {} pages could not be read", counts.unknown));
        facts.into_iter().chain(unread).collect()
    }

    fn made(self, Written { counts, choosing, statistics }: Written, took: Duration) -> Made {
        Made {
            out: self.arguments.out.clone(),
            release: self.source.header().utsname.release.as_str().escape_debug().to_string(),
            counts,
            written: statistics,
            unknown: self.unknown(counts),
            lacks: self.lacks,
            choosing,
            took,
        }
    }
}

/// What a dump lacks because its memory could not be read.
fn not_read(statistics: Statistics) -> Option<String> {
    (statistics.missing > 0).then(|| format!("{} pages could not be read", statistics.missing))
}

fn all_processors() -> NonZero<usize> {
    thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

/// A bar on standard error, if that is a terminal.
fn progress(pages: u64) -> ProgressBar {
    let bar = ProgressBar::new(pages);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} pages  {per_sec}  {eta} left");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}
