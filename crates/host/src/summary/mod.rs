//! The page that an administrator opens after a crash: `summary.html`, made of a dump and nothing else.
//!
//! [`Summary::read`] takes a dump and gives a value; [`Summary::html`] shows it as one file that needs no other, no script and no
//! network. Everything in a dump may be hostile: `postmortem` and [`inspect`](crate::inspect) bound what they read, and the page is
//! written by `maud`, which escapes all that is put into it.
//!
//! | module | what it is |
//! |---|---|
//! | `page` | the page, from top to bottom |
//! | `map` | the picture of which device could reach which memory |
//! | `date` | the time of the crash in words |
//! | `opening` | the commands that open the dump, and where its debug symbols come from |

mod date;
mod map;
mod opening;
mod page;

use std::io::Write;
use std::path::{Path, PathBuf};

use dumpfile::{Dump, DumpError, Lack};
use postmortem::Postmortem;
use serde::Serialize;

use crate::inspect::{self, Inspected, RecordError};
use crate::unfinished::{IfExists, OutputError, Unfinished};

/// Which dump to summarize, and where the page goes.
#[derive(Clone, Debug)]
pub struct SummaryRequest {
    /// A dump of either format, written by anyone.
    pub dump: PathBuf,
    /// The page; it appears under this name only when it is whole.
    pub out: PathBuf,
    /// What to do if there is a file of that name.
    pub if_exists: IfExists,
}

/// What a dump says of a crash, and of what the capture kernel did.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The dump itself.
    pub dump: AboutFile,
    /// The crash, as the dead kernel's memory tells it.
    pub postmortem: Postmortem,
    /// What the capture kernel found and did; `None` if another program wrote the dump, or its record cannot be read.
    pub takeover: Option<Inspected>,
    /// Why there is no takeover.
    pub no_takeover: Option<String>,
    /// What the caller knows besides and the dump does not say, in sentences: how the dump was sealed, for example.
    pub remarks: Vec<String>,
}

/// Facts from a dump's headers.
#[derive(Clone, Debug, Serialize)]
pub struct AboutFile {
    /// Its file.
    pub path: PathBuf,
    /// Length of the file.
    pub bytes: u64,
    /// Its format in words.
    pub format: &'static str,
    /// The level at which pages were left out; 0 leaves out none.
    pub level: u8,
    /// Pages that it holds or should hold.
    pub pages: u64,
    /// Pages of RAM, whether they are in the dump or not; `None` if the dump does not say.
    pub ram_pages: Option<u64>,
    /// Where RAM is: the first byte of each range, and the first after it.
    #[serde(skip)]
    pub ram: Vec<(u64, u64)>,
    /// What it lacks, in words.
    pub lacks: Vec<String>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum SummaryError {
    /// The dump cannot be opened.
    #[error("cannot read {dump}")]
    Read {
        /// Its file.
        dump: PathBuf,
        /// What is wrong with it.
        source: DumpError,
    },
    /// The page's file cannot be made or written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Reads a dump, and writes its page.
pub fn summarize(request: &SummaryRequest) -> Result<Summary, SummaryError> {
    let SummaryRequest { dump, out, if_exists } = request;
    if_exists.check(out)?;
    let read = Summary::read(dump);
    let summary = read.map_err(|source| SummaryError::Read { dump: dump.clone(), source })?;
    let unfinished = Unfinished::create(out, *if_exists)?;
    if let Err(source) = unfinished.file().write_all(summary.html().as_bytes()) {
        let path = unfinished.path().to_owned();
        unfinished.discard();
        return Err(OutputError::Write { path, source }.into());
    }
    unfinished.keep()?;
    Ok(summary)
}

impl Summary {
    /// Reads all that a dump says. Only a file that is no dump is an error: what is missing in one is told in the value.
    pub fn read(path: &Path) -> Result<Self, DumpError> {
        let mut dump = Dump::open(path)?;
        if dump.notes().vmcoreinfo_place().is_none() {
            dump.find_vmcoreinfo()?;
        }
        let about = AboutFile::new(path, &dump);
        let postmortem = Postmortem::read(&dump, dump.notes());
        let (takeover, no_takeover) = match inspect::inspect_dump(path, dump) {
            Ok(inspected) => (Some(inspected), None),
            Err(error) => (None, Some(missing(error))),
        };
        Ok(Self { dump: about, postmortem, takeover, no_takeover, remarks: Vec::new() })
    }

    /// The page: one HTML file that needs no other.
    pub fn html(&self) -> String {
        page::page(self)
    }
}

fn missing(error: RecordError) -> String {
    match error {
        RecordError::Missing => {
            "Neither Holdover's capture kernel wrote this dump nor a kernel to which it handed the machine over, so there is no record of \
             a takeover."
                .to_owned()
        }
        RecordError::Undecodable(error) => format!("The record of the takeover cannot be read: {error}."),
    }
}

impl AboutFile {
    fn new(path: &Path, dump: &Dump) -> Self {
        let ram = dump.ram().ok();
        let ranges = ram.iter().flat_map(vmcore::Ram::ranges);
        Self {
            path: path.to_owned(),
            bytes: path.metadata().map_or(0, |metadata| metadata.len()),
            format: dump.format().name(),
            level: dump.level().number(),
            pages: dump.pages(),
            ram_pages: ram.as_ref().map(vmcore::Ram::pages),
            ram: ranges.map(|range| (range.start.get(), range.end.get())).collect(),
            lacks: dump.lacks().map(told).collect(),
        }
    }
}

/// What is lacking, as a sentence.
fn told(lack: Lack) -> String {
    match lack {
        Lack::Bytes(bytes) => format!("The file was cut short: {bytes} bytes are missing at its end."),
        Lack::Records => "The last records of the flattened file are missing.".to_owned(),
        Lack::Unfinished => "Its writer had no time or no room for all pages.".to_owned(),
        Lack::Notes(places) => {
            format!("{places} places of notes are damaged: registers of processors may be missing.")
        }
        Lack::Headers(entries) => {
            format!("{entries} entries of its header make no sense, and something may be missing for that.")
        }
        Lack::Unlisted(pages) => format!("{pages} pages are in no memory that its header lists."),
    }
}
