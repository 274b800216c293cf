//! `holdover collect`: copies a dump out of its area into a file, and says whether it is complete.

use std::path::PathBuf;

use anyhow::Result;
use host::areas::AreaName;
use host::collect::{
    self, AboutDump, AreaContent, CollectRequest, Collected, Ending, Lack, LeftOut, MarkError,
};
use host::{Bytes, IfExists};
use serde_json::{Value, json};

use crate::dmesg;
use crate::progress::Bar;
use crate::report::{Report, row};

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The dump area: its UUID, its device, or a file
    #[arg(value_name = "UUID|DEVICE")]
    area: AreaName,
    /// The file to make; it appears under this name only when it is whole
    #[arg(required_unless_present = "dmesg")]
    out: Option<PathBuf>,
    /// Fetch the dead kernel's log only: into OUT, or to standard output without OUT or if OUT is `-`
    #[arg(long)]
    dmesg: bool,
    /// Replace a file of that name
    #[arg(long)]
    force: bool,
}

/// Copies and checks the dump, or fetches the log.
pub(crate) fn run(arguments: &Arguments) -> Result<Box<dyn Report>> {
    let Arguments { area, out, dmesg, force } = arguments;
    let if_exists = if *force { IfExists::Replace } else { IfExists::Refuse };
    match out {
        Some(out) if !dmesg => {
            let request = CollectRequest { area: area.clone(), out: out.clone(), if_exists };
            Ok(Box::new(collect::collect(&request, &Bar::of_bytes())?))
        }
        _ => Ok(Box::new(dmesg::fetch(area, out.as_deref(), if_exists)?)),
    }
}

/// How the dump ended, and what it lacks.
fn state(collected: &Collected) -> &'static str {
    match (collected.content, collected.ending) {
        (AreaContent::BlocksDiffer, _) => {
            "partial: the disk reported an error while the dump was written, and some blocks are not what was written"
        }
        (_, Ending::Complete) => "complete",
        (_, Ending::Partial(Lack::Content)) => "partial: the capture kernel could not store everything",
        (_, Ending::Partial(Lack::Write)) => "partial: the disk reported an error while the dump was written",
        (_, Ending::Partial(Lack::Gap)) => "partial: parts of the dump were never written",
        (_, Ending::CutOff) => "partial: the machine was reset or lost its power while the dump was written",
    }
}

/// How many of the pages that were to be kept are there, if not all that were written.
fn pages(content: AreaContent, about: &AboutDump) -> String {
    match content {
        AreaContent::Pages(there) => format!("{there} of {}", about.pages),
        AreaContent::AsWritten | AreaContent::BlocksDiffer => about.pages.to_string(),
    }
}

/// Which pages are not there, if any are not.
fn left_out(LeftOut { pages, reached }: LeftOut) -> Option<String> {
    let level = reached.map(|level| format!("; all that a dump of level {level} has are there"));
    (pages > 0).then(|| format!("{pages} pages{}", level.unwrap_or_default()))
}

/// What is to be done if the area does not know that its dump was collected.
pub(crate) fn unmarked(error: &MarkError) -> String {
    format!("the area could not be marked as collected ({error}); `holdover load` asks for --discard-dump")
}

impl Report for Collected {
    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![
            row("dump", self.out.display().to_string()),
            row("state", state(self)),
            row("size", Bytes(self.bytes).to_string()),
        ];
        match &self.about {
            Some(about) => {
                rows.push(row("kernel", about.release.escape_debug().to_string()));
                rows.push(row("pages", pages(self.content, about)));
                rows.extend(about.takeover.map(|counts| row("takeover", counts.to_string())));
            }
            None => rows.push(row("content", "not a kdump-compressed dump that can be read")),
        }
        rows.extend(left_out(self.left_out).map(|missing| row("missing", missing)));
        rows.extend(self.mark.as_ref().err().map(|error| row("warning", unmarked(error))));
        rows
    }

    fn json(&self) -> Result<Value> {
        Ok(json!({
            "path": self.out,
            "complete": self.ending == Ending::Complete,
            "state": state(self),
            "bytes": self.bytes,
            "kernel": self.about.as_ref().map(|about| &about.release),
            "pages": self.about.as_ref().map(|about| about.pages),
            "pages_left_out": self.left_out.pages,
            "level_reached": self.left_out.reached,
            "takeover": self.about.as_ref().and_then(|about| about.takeover),
            "warnings": self.mark.as_ref().err().map(unmarked).into_iter().collect::<Vec<_>>(),
        }))
    }

    fn is_whole(&self) -> bool {
        Self::is_whole(self)
    }
}
