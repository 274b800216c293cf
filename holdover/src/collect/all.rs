//! `holdover collect` without an area: collects what all areas of this host hold, as the configuration says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use host::collect::{
    AreaOutcome, AreaReport, BootLoop, CollectAllRequest, CollectedAll, CrashFolder, FolderContent, HISTORY,
    Pages, Retention, Search, collect_all,
};
use host::config::{CollectConfiguration, Configuration};
use host::{Bytes, chain};
use serde_json::{Value, json};

use super::unmarked;
use crate::progress::Bar;
use crate::report::{Report, row};

/// A kernel that ran so long did not die of its boot.
const LONG_ENOUGH: Duration = Duration::from_secs(600);

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Automatic {
    /// Take the configuration from this file instead of /etc/holdover.toml
    #[arg(long, value_name = "FILE", conflicts_with = "area")]
    config: Option<PathBuf>,
    /// Collect into this directory instead of the configuration's
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "area")]
    directory: Option<PathBuf>,
    /// Keep Holdover's files in this folder instead of /, and look for no areas that the configuration does not name
    #[arg(long, value_name = "FOLDER", conflicts_with = "area")]
    root: Option<PathBuf>,
}

impl Automatic {
    fn root(&self) -> &Path {
        self.root.as_deref().unwrap_or(Path::new("/"))
    }

    fn configuration(&self) -> Result<Configuration> {
        let read = self.config.as_deref().map(Configuration::read);
        Ok(read.unwrap_or_else(|| Configuration::at_root(self.root()))?)
    }

    fn in_root(&self, path: &Path) -> PathBuf {
        self.root().join(path.strip_prefix("/").unwrap_or(path))
    }

    fn request(&self, configuration: &Configuration) -> CollectAllRequest {
        let CollectConfiguration { directory, keep, keep_bytes, boot_loop_after } = &configuration.collect;
        CollectAllRequest {
            areas: configuration.areas.clone(),
            search: if self.root.is_some() { Search::Named } else { Search::Everywhere },
            directory: self.directory.clone().unwrap_or_else(|| self.in_root(directory)),
            retention: Retention { keep: *keep, keep_bytes: keep_bytes.map(|Bytes(bytes)| bytes) },
            boot_loop: BootLoop { after: Some(*boot_loop_after), uptime: LONG_ENOUGH },
            history: self.in_root(Path::new(HISTORY)),
            pages: PAGES,
        }
    }
}

/// What is written beside a dump.
const PAGES: Pages = Pages { takeover: |inspected| inspected.text(), summary: None };

/// Collects.
pub(super) fn run(arguments: &Automatic) -> Result<Box<dyn Report>> {
    let configuration = arguments.configuration()?;
    let collected = collect_all(&arguments.request(&configuration), &Bar::of_bytes())?;
    Ok(Box::new(collected))
}

impl Report for CollectedAll {
    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows: Vec<_> = self.areas.iter().flat_map(area_rows).collect();
        if self.areas.is_empty() {
            rows.push(row(
                "areas",
                "none is named in the configuration or found; `holdover setup` makes one",
            ));
        }
        rows.extend(self.removed.iter().map(|path| row("removed", path.display().to_string())));
        rows.extend(self.boot_loop.map(|count| row("boot loop", in_a_loop(count))));
        rows.extend(self.warnings.iter().map(|warning| row("warning", warning)));
        rows
    }

    fn json(&self) -> Result<Value> {
        Ok(json!({
            "complete": self.is_whole(),
            "areas": self.areas.iter().map(area_json).collect::<Vec<_>>(),
            "removed": self.removed,
            "boot_loop": self.boot_loop,
            "warnings": self.warnings,
        }))
    }

    fn is_whole(&self) -> bool {
        Self::is_whole(self)
    }
}

fn in_a_loop(count: u32) -> String {
    format!(
        "{count} crashes in a row, each within {} minutes after the boot: of their dumps the first and the newest are kept",
        LONG_ENOUGH.as_secs() / 60
    )
}

fn area_rows(AreaReport { area, outcome }: &AreaReport) -> Vec<Vec<String>> {
    match outcome {
        Ok(AreaOutcome::Nothing) => vec![row(area, "nothing to collect")],
        Ok(AreaOutcome::Collected { folder, mark, lacks }) => {
            let mut rows = vec![row(area, told(folder))];
            rows.extend(lacks.iter().map(|lack| row("not made", format!("{}: {}", lack.name, lack.why))));
            rows.extend(mark.as_ref().err().map(|error| row("warning", unmarked(error))));
            rows
        }
        Ok(AreaOutcome::LogOnly { folder, why }) => vec![
            row(area, format!("{}: only the log is saved", folder.path.display())),
            row("why", chain(why)),
        ],
        Err(error) => vec![row(area, format!("not collected: {}", chain(error)))],
    }
}

/// What a folder has.
fn told(folder: &CrashFolder) -> String {
    let path = folder.path.display();
    let note = &folder.note;
    match note.content {
        FolderContent::Log | FolderContent::LogOnly => format!("{path}: only a log, no dump: {}", note.state),
        FolderContent::Unreadable => format!("{path}: what does not open as a dump: {}", note.state),
        _ => {
            let kernel = note.kernel.as_deref().unwrap_or("unknown");
            format!("{path}: {}, {}, kernel {kernel}", note.state, Bytes(note.dump_bytes()))
        }
    }
}

fn area_json(AreaReport { area, outcome }: &AreaReport) -> Value {
    let (outcome, folder, warnings) = match outcome {
        Ok(AreaOutcome::Nothing) => ("nothing", None, Vec::new()),
        Ok(AreaOutcome::Collected { folder, mark, lacks }) => {
            let lacks = lacks.iter().map(|lack| format!("{} was not made: {}", lack.name, lack.why));
            ("collected", Some(folder), lacks.chain(mark.as_ref().err().map(unmarked)).collect())
        }
        Ok(AreaOutcome::LogOnly { folder, why }) => ("log_only", Some(folder), vec![chain(why)]),
        Err(error) => ("failed", None, vec![chain(error)]),
    };
    let note = folder.map(|folder| &folder.note);
    json!({ "area": area, "outcome": outcome, "folder": folder.map(|folder| &folder.path), "crash": note, "warnings": warnings })
}
