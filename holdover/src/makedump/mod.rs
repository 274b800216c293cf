//! `holdover makedump`: makes a small dump of an ELF core, as makedumpfile does.

mod batch;
mod made;
mod output;
mod pipeline;

use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use dumpfile::Core;
use engine::{Begun, Source};
use indicatif::{ProgressBar, ProgressStyle};
use kdump::{Codec, Pages, Statistics, WriteError};
use vmcore::{Counts, Kernel, Level};

use self::made::Made;
use self::output::Output;
use crate::report;
use crate::unfinished::Unfinished;

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which pages to leave out, in makedumpfile's numbering: the sum of 1 zero, 2 cache, 4 private cache, 8 user, 16 free
    #[arg(short = 'd', long, default_value = "31", value_parser = parse_level)]
    level: Level,
    /// How to compress pages
    #[arg(long, default_value = "zlib", value_parser = parse_codec)]
    codec: Codec,
    /// How many processors read and compress [default: all]
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
    /// Replace a file of the name OUT
    #[arg(long)]
    force: bool,
    /// The ELF core, such as /proc/vmcore
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The dump to make; it appears under this name only when it is whole
    out: PathBuf,
}

fn parse_codec(text: &str) -> Result<Codec, String> {
    let names = Codec::ALL.map(Codec::name).join(", ");
    Codec::ALL.into_iter().find(|codec| codec.name() == text).ok_or_else(|| format!("there are {names}"))
}

fn parse_level(text: &str) -> Result<Level, String> {
    let level = text.parse().ok().and_then(Level::new);
    level.ok_or_else(|| "levels go from 0 to 31".to_owned())
}

/// Makes the dump.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Made> {
    let input = arguments.input.display();
    let core = Core::open(&arguments.input).with_context(|| format!("cannot read {input}"))?;
    let kernel = Kernel::new(core.notes().vmcoreinfo());
    let source = Source {
        memory: core.memory(),
        kernel: &kernel,
        notes: core.notes(),
        ram: core.ram(),
        level: arguments.level,
    };
    check_notes(&core).with_context(|| format!("{input} cannot be made a dump of"))?;
    let unfinished = Unfinished::create(&arguments.out, arguments.force.into())?;
    let mut output = Output::new(unfinished.file());
    let made = Making { source, arguments, lacks: lacks(&core) }.write(&mut output);
    // The host says better than the format what was wrong.
    let host = output.into_error();
    match made.map_err(|error| host.map_or(error.into(), anyhow::Error::from)) {
        Ok(made) => unfinished.keep().map(|()| made),
        Err(error) => {
            let left = unfinished.path().display();
            Err(error.context(format!("cannot write all of {left}, which is marked as incomplete")))
        }
    }
}

/// Without VMCOREINFO no reader finds its way through the memory.
fn check_notes(core: &Core) -> anyhow::Result<()> {
    let notes = core.notes();
    ensure!(core.ram().pages() > 0, "it lists no memory");
    let lost = notes.vmcoreinfo().text().is_empty();
    ensure!(!lost || notes.damaged() == 0, "its notes are damaged, and VMCOREINFO is lost with them");
    ensure!(!lost, "it has no VMCOREINFO; is it a kernel's?");
    Ok(())
}

/// What is not as it should be with the core.
fn lacks(core: &Core) -> Vec<String> {
    let (bytes, notes) = (core.lacking(), core.notes().damaged());
    let cut = (bytes > 0).then(|| format!("the core was cut short by {}", report::size(bytes)));
    let damaged = (notes > 0).then(|| format!("{notes} of the core's notes are damaged"));
    cut.into_iter().chain(damaged).collect()
}

/// A dump in the making.
struct Making<'a> {
    source: Source<'a, vmcore::CoreFile<dumpfile::FileView>>,
    arguments: &'a Arguments,
    lacks: Vec<String>,
}

impl Making<'_> {
    fn write(mut self, output: &mut Output<'_>) -> Result<Made, WriteError> {
        let start = Instant::now();
        let Begun { mut pages, counts } = self.source.begin(output, self.arguments.codec)?;
        let choosing = start.elapsed();
        let stored = self.store(&mut pages);
        let missing = pages.statistics().missing;
        if missing > 0 {
            self.lacks.push(format!("{missing} pages could not be read"));
        }
        let whole = stored.is_ok() && self.lacks.is_empty();
        let ended = if whole { pages.finish() } else { pages.abandon() };
        stored.and(ended.error.map_or(Ok(()), Err))?;
        Ok(self.made(counts, ended.statistics, choosing, start.elapsed()))
    }

    /// Stores all kept pages, and shows how far it is.
    fn store(&self, pages: &mut Pages<'_, Output<'_>>) -> Result<(), WriteError> {
        let bar = progress(pages.statistics().pages);
        let threads = self.arguments.threads.unwrap_or_else(all_processors);
        let (memory, codec) = (self.source.memory, self.arguments.codec);
        let stored = self.source.in_passes(pages, |pages, wanted| {
            pipeline::write_pages(pages, wanted, memory, codec, threads, |done| bar.set_position(done))
        });
        bar.finish_and_clear();
        stored
    }

    fn made(self, counts: Counts, written: Statistics, choosing: Duration, took: Duration) -> Made {
        Made {
            out: self.arguments.out.clone(),
            release: self.source.header().utsname.release.as_str().escape_debug().to_string(),
            counts,
            written,
            lacks: self.lacks,
            unknown: self.source.kernel.unknown().map(|unknown| unknown.to_string()).collect(),
            choosing,
            took,
        }
    }
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
