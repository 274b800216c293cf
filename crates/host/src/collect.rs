//! `holdover collect`: copies a dump out of its area into a file, and checks it on the way.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use area::{Area, Lack, ReadError, Seal, State};
use dumpfile::{BlockFile, Dump};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::areas;
use crate::inspect;
use crate::report::{self, Report, row};
use crate::unfinished::{IfExists, Unfinished};

/// What the command is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// The dump area: its UUID, its device, or a file
    #[arg(value_name = "UUID|DEVICE")]
    area: areas::Name,
    /// The file to make; it appears under this name only when it is whole
    out: PathBuf,
    /// Replace a file of that name
    #[arg(long)]
    force: bool,
}

/// A collected dump.
pub struct Collected {
    out: PathBuf,
    bytes: u64,
    ending: Ending,
    content: Content,
    about: Option<About>,
}

/// How a dump ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Complete,
    Partial(Lack),
    /// The machine was reset, or lost its power, before the dump was sealed.
    CutOff,
}

/// Whether the disk holds what the capture kernel wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    AsWritten,
    BlocksDiffer,
    /// As far as it was safe when the dump was cut off: so many pages.
    Pages(u64),
}

/// What the dump says of itself.
struct About {
    release: String,
    pages: u64,
    /// What was taken over, if the dump says so.
    takeover: Option<record::Counts>,
}

/// Copies and checks the dump.
pub fn run(arguments: &Arguments) -> Result<Collected> {
    let out = &arguments.out;
    let if_exists = IfExists::from(arguments.force);
    if_exists.check(out)?;
    let found = areas::find_only(&arguments.area)?;
    let mut area = areas::open(&found.device, found.label.uuid)?;
    let seal = area.read_seal().with_context(|| format!("{} holds no dump", found.device.display()))?;
    let ending = ending(&seal).with_context(|| format!("{} holds no dump", found.device.display()))?;
    let unfinished = Unfinished::create(out, if_exists)?;
    let content = copy(&mut area, &seal, ending, unfinished)?;
    Ok(Collected { out: out.clone(), bytes: seal.dump_len, ending, content, about: about(out) })
}

/// How the dump ended, if there is one.
fn ending(seal: &Seal) -> Result<Ending> {
    match seal.state {
        State::Complete => Ok(Ending::Complete),
        State::Partial(lack) => Ok(Ending::Partial(lack)),
        State::InProgress if seal.dump_len > 0 => Ok(Ending::CutOff),
        State::InProgress => Err(anyhow!("a dump was begun and cut off before anything of it was safe")),
        State::Empty => Err(anyhow!("nothing was dumped since it was formatted")),
    }
}

/// Copies the dump into a file that gets its name only when it is as whole as can be, and safe.
fn copy(area: &mut Area<BlockFile>, seal: &Seal, ending: Ending, unfinished: Unfinished) -> Result<Content> {
    match (copy_bytes(area, seal, unfinished.file()), ending) {
        // Descriptors may have been written again since the seal was.
        (Ok(()) | Err(ReadError::Checksum { .. }), Ending::CutOff) => match name_missing(&unfinished, seal) {
            Ok(pages) => unfinished.keep().map(|()| Content::Pages(pages)),
            Err(error) => Err(error.context(set_aside(unfinished)?)),
        },
        (Ok(()), _) => unfinished.keep().map(|()| Content::AsWritten),
        // Where the disk refused a block there is what was there before. Each page has a checksum of its own.
        (Err(ReadError::Checksum { .. }), Ending::Partial(Lack::Write)) => {
            unfinished.keep().map(|()| Content::BlocksDiffer)
        }
        (Err(error @ ReadError::Checksum { .. }), _) => Err(error).context(set_aside(unfinished)?),
        (Err(error), _) => {
            let path = unfinished.path().display().to_string();
            unfinished.discard();
            Err(error).with_context(|| format!("cannot make {path}; the dump is still in its area"))
        }
    }
}

/// Keeps what is no good under another name, and says which.
fn set_aside(unfinished: Unfinished) -> Result<String> {
    let damaged = unfinished.set_aside("damaged")?;
    Ok(format!("what was read is in {}", damaged.display()))
}

/// Makes a dump that was cut off one that can be read, and counts its pages.
fn name_missing(unfinished: &Unfinished, seal: &Seal) -> Result<u64> {
    let file = BlockFile::open_exclusive(unfinished.path())?;
    Ok(kdump::name_missing(file, |data| seal.holds(data))?)
}

fn copy_bytes(area: &mut Area<BlockFile>, seal: &Seal, file: &File) -> Result<(), ReadError<CopyError>> {
    let progress = progress(seal.dump_len);
    file.set_len(seal.dump_len).map_err(|error| ReadError::Sink(CopyError(error)))?;
    let copied = area.read_dump(seal, |offset, bytes| {
        progress.set_position(offset + bytes.len() as u64);
        write_sparse(file, offset, bytes).map_err(CopyError)
    });
    progress.finish_and_clear();
    copied
}

/// An error of the file that a dump is copied to.
#[derive(Debug)]
struct CopyError(io::Error);

impl std::fmt::Display for CopyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for CopyError {}

/// Writes bytes to a fresh file, without those blocks that are zeros and so are there already.
fn write_sparse(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    for (index, block) in bytes.chunks(area::BLOCK as usize).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, offset + index as u64 * area::BLOCK)?;
        }
    }
    Ok(())
}

/// A bar on standard error, if that is a terminal.
fn progress(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let style = ProgressStyle::with_template(
        "{bar:40} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
    );
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

/// Reads back what the dump says of itself, if it can be read.
fn about(dump: &Path) -> Option<About> {
    let dump = Dump::open(dump).ok()?;
    let record = inspect::find_record(dump.notes().bytes()).ok().flatten();
    Some(About {
        release: dump.release().to_owned(),
        pages: dump.pages(),
        takeover: record.map(|record| record.counts()),
    })
}

/// What a person should know of a dump that lacks something.
fn explain(lack: Lack) -> &'static str {
    match lack {
        Lack::Content => "partial: the capture kernel could not store everything",
        Lack::Write => "partial: the disk reported an error while the dump was written",
        Lack::Gap => "partial: parts of the dump were never written",
    }
}

impl Collected {
    fn state(&self) -> &'static str {
        match (self.content, self.ending) {
            (Content::BlocksDiffer, _) => {
                "partial: the disk reported an error while the dump was written, and some blocks are not what was written"
            }
            (_, Ending::Complete) => "complete",
            (_, Ending::Partial(lack)) => explain(lack),
            (_, Ending::CutOff) => {
                "partial: the machine was reset or lost its power while the dump was written"
            }
        }
    }

    /// How many of the pages that were to be kept are there, if not all that were written.
    fn pages(&self, about: &About) -> String {
        match self.content {
            Content::Pages(there) => format!("{there} of {}", about.pages),
            Content::AsWritten | Content::BlocksDiffer => about.pages.to_string(),
        }
    }
}

impl Report for Collected {
    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![
            row("dump", self.out.display().to_string()),
            row("state", self.state()),
            row("size", report::size(self.bytes)),
        ];
        match &self.about {
            Some(about) => {
                rows.push(row("kernel", about.release.escape_debug().to_string()));
                rows.push(row("pages", self.pages(about)));
                rows.extend(about.takeover.map(|counts| row("takeover", counts.to_string())));
            }
            None => rows.push(row("content", "not a kdump-compressed dump that can be read")),
        }
        rows
    }

    fn json(&self) -> Result<Value> {
        Ok(json!({
            "path": self.out,
            "complete": self.ending == Ending::Complete,
            "state": self.state(),
            "bytes": self.bytes,
            "kernel": self.about.as_ref().map(|about| &about.release),
            "pages": self.about.as_ref().map(|about| about.pages),
            "takeover": self.about.as_ref().and_then(|about| about.takeover),
        }))
    }

    fn is_whole(&self) -> bool {
        self.ending == Ending::Complete && self.about.is_some()
    }
}
