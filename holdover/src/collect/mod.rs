//! `holdover collect`: copies a dump out of its area into a file, and says whether it is complete; without an area, all dumps of this
//! host into folders of their own.

mod all;

use std::path::PathBuf;

use anyhow::Result;
use host::areas::AreaName;
use host::collect::{self, AboutDump, AreaContent, CollectRequest, Collected, Ending, LeftOut, MarkError};
use host::{Bytes, IfExists};
use serde_json::{Value, json};

use crate::dmesg;
use crate::progress::Bar;
use crate::report::{Report, row};

/// What the command is told.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("what").args(["out", "dmesg"]).multiple(true)))]
pub(crate) struct Arguments {
    /// The dump area: its UUID, its device, or a file; without one, those that the configuration names, and
    /// that were formatted or loaded on this host, are collected from as the configuration says
    #[arg(value_name = "UUID|DEVICE", requires = "what")]
    area: Option<AreaName>,
    /// The file to make; it appears under this name only when it is whole
    out: Option<PathBuf>,
    /// Fetch the dead kernel's log only: into OUT, or to standard output without OUT or if OUT is `-`
    #[arg(long, requires = "area")]
    dmesg: bool,
    /// Replace a file of that name
    #[arg(long, requires = "area")]
    force: bool,
    #[command(flatten)]
    all: all::Automatic,
}

/// Copies and checks the dump, or fetches the log, or collects from all areas.
pub(crate) fn run(arguments: &Arguments) -> Result<Box<dyn Report>> {
    let Arguments { area, out, dmesg, force, all } = arguments;
    let if_exists = if *force { IfExists::Replace } else { IfExists::Refuse };
    match (area, out) {
        (None, _) => all::run(all),
        (Some(area), Some(out)) if !dmesg => {
            let (area, out, root) = (area.clone(), out.clone(), all.root().to_owned());
            let request = CollectRequest { area, out, if_exists, root };
            Ok(Box::new(collect::collect(&request, &Bar::of_bytes())?))
        }
        (Some(area), out) => Ok(Box::new(dmesg::fetch(area, out.as_deref(), if_exists)?)),
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
            row("state", self.ending.in_words(self.content)),
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
            "state": self.ending.in_words(self.content),
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
