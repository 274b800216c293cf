//! `holdover collect` without an area: collects what all areas of this host hold, as the configuration says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use host::collect::{
    ActionNote, ActionResult, Actions, AreaOutcome, AreaReport, BootLoop, CollectAllRequest, CollectedAll,
    CrashFolder, FolderContent, HISTORY, History, OthersDumps, Pages, Retention, Search, Target, Which,
    collect_all, note_failed_actions, write_metrics,
};
use host::config::{CollectConfiguration, ConfigError, Configuration};
use host::summary::Summary;
use host::{Bytes, chain, crash_test};
use serde_json::{Value, json};

use super::unmarked;
use crate::progress::Bar;
use crate::report::{Report, row};

/// A kernel that ran so long did not die of its boot.
const LONG_ENOUGH: Duration = Duration::from_secs(600);

/// What the command is told.
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Automatic {
    /// Take the configuration from this file instead of /etc/holdover.toml
    #[arg(long, value_name = "FILE", conflicts_with = "area")]
    config: Option<PathBuf>,
    /// Collect into this directory instead of the configuration's
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "area")]
    directory: Option<PathBuf>,
    /// Keep Holdover's files in this folder instead of /, and look for no areas that the configuration does not name
    #[arg(long, value_name = "FOLDER", conflicts_with = "dmesg")]
    root: Option<PathBuf>,
    /// Collect from other systems' areas on this host's disks too, such as those of guests, and free them: by default only those are
    /// collected from that the configuration names, or that were formatted or loaded here
    #[arg(long, conflicts_with_all = ["area", "root", "retry_actions"])]
    everywhere: bool,
    /// Deliver a copy there too: s3://BUCKET/PREFIX or ssh://USER@HOST/PATH
    #[arg(long, value_name = "ADDRESS", conflicts_with = "area")]
    to: Vec<Target>,
    /// Leave hook, webhook, mail and copies to `holdover collect --retry-actions`
    #[arg(long, conflicts_with_all = ["area", "to"])]
    without_actions: bool,
    /// Collect nothing, but do the actions that failed or were left
    #[arg(long, conflicts_with_all = ["area", "without_actions"])]
    retry_actions: bool,
    /// Of these, only those the next try of which is due: after each failure they wait twice as long, from 15 minutes to a day, and
    /// after 12 they are left to `holdover collect --retry-actions`
    #[arg(long, requires = "retry_actions")]
    when_due: bool,
}

impl Automatic {
    /// The root folder of the system whose files these are.
    pub(super) fn root(&self) -> &Path {
        self.root.as_deref().unwrap_or(Path::new("/"))
    }

    /// The configuration; where it is refused, what a collect takes of it, and why.
    fn configuration(&self) -> Result<(Configuration, Option<ConfigError>), ConfigError> {
        let read = self.config.as_deref().map(Configuration::read);
        let read = read.unwrap_or_else(|| Configuration::at_root(self.root()));
        if self.retry_actions { read.map(|read| (read, None)) } else { Configuration::for_collect(read) }
    }

    /// Which actions of a crash are meant.
    fn which(&self) -> Which {
        match (self.retry_actions, self.when_due) {
            (false, _) => Which::Undone,
            (true, false) => Which::Failed,
            (true, true) => Which::Due,
        }
    }

    fn search(&self) -> Search {
        match (&self.root, self.everywhere) {
            (Some(_), _) => Search::Named,
            (None, false) => Search::Own,
            (None, true) => Search::Everywhere,
        }
    }

    fn in_root(&self, path: &Path) -> PathBuf {
        self.root().join(path.strip_prefix("/").unwrap_or(path))
    }

    fn actions(&self, configuration: &Configuration) -> Actions {
        Actions::new(&configuration.actions, self.root(), &self.to)
    }

    fn request(&self, configuration: &Configuration) -> CollectAllRequest {
        let CollectConfiguration { directory, keep, keep_bytes, boot_loop_after } = &configuration.collect;
        CollectAllRequest {
            areas: configuration.areas.clone(),
            search: self.search(),
            directory: self.directory.clone().unwrap_or_else(|| self.in_root(directory)),
            retention: Retention { keep: *keep, keep_bytes: keep_bytes.map(|Bytes(bytes)| bytes) },
            actions_follow: !self.actions(configuration).is_empty(),
            boot_loop: BootLoop { after: Some(*boot_loop_after), uptime: LONG_ENOUGH },
            history: self.in_root(Path::new(HISTORY)),
            pages: PAGES,
        }
    }
}

/// What is written beside a dump.
const PAGES: Pages = Pages { takeover: |inspected| inspected.text(), summary: Some(summary) };

fn summary(dump: &Path) -> Result<String, String> {
    let mut summary = Summary::read(dump).map_err(|error| chain(&error))?;
    // The folder is to have another name.
    summary.dump.path = dump.file_name().unwrap_or_default().into();
    Ok(summary.html())
}

/// What was collected, and what was done about it.
struct Run {
    collected: Option<CollectedAll>,
    /// By the names of the folders.
    actions: Vec<(String, ActionNote)>,
    warnings: Vec<String>,
    /// What came of a crash on request.
    test: Option<&'static str>,
    /// Why no action was done.
    refused: Option<ConfigError>,
    /// What other programs dumped.
    others: Option<OthersDumps>,
}

/// Collects, and does what is to be done for each crash.
pub(super) fn run(arguments: &Automatic) -> Result<Box<dyn Report>> {
    let (configuration, refused) = arguments.configuration()?;
    let request = arguments.request(&configuration);
    let (collected, test, others) = (None, None, None);
    let mut run = Run { collected, actions: Vec::new(), warnings: Vec::new(), test, refused, others };
    if !arguments.retry_actions {
        run.collected = Some(collect_all(&request, &Bar::of_bytes())?);
        run.others = OthersDumps::find(arguments.root(), &configuration);
        run.conclude_test(arguments);
    }
    if !arguments.without_actions && run.refused.is_none() {
        run.act(&arguments.actions(&configuration), &request, arguments.which());
    }
    run.note(&request, configuration.actions.metrics.as_deref());
    Ok(Box::new(run))
}

impl Run {
    /// Does what is to be done for the crashes of this run, or for any.
    fn act(&mut self, actions: &Actions, request: &CollectAllRequest, which: Which) {
        let history = History::read(&request.history);
        let folders = match &self.collected {
            Some(collected) => collected.crashes().cloned().collect(),
            None => CrashFolder::list(&request.directory),
        };
        for folder in folders {
            let in_loop = history.place_in_loop(&folder, request.boot_loop);
            match actions.run(&folder, in_loop, which, &Bar::of_bytes()) {
                Ok(note) => self.actions.push((folder.name(), note)),
                Err(not_done) => self.warnings.push(chain(&not_done)),
            }
        }
    }

    /// Notes how many actions failed, and tells the metrics.
    fn note(&mut self, request: &CollectAllRequest, metrics: Option<&Path>) {
        let (history, noted) = note_failed_actions(&request.directory, &request.history);
        self.warnings.extend(noted.err().map(|error| chain(&error)));
        if let Some(path) = metrics
            && let Err(error) = write_metrics(&history, path)
        {
            self.warnings.push(format!("cannot write the metrics {}: {error}", path.display()));
        }
        let untold = |refused: &ConfigError| format!("no hook, webhook, mail or copy: {}", chain(refused));
        self.warnings.extend(self.refused.as_ref().map(untold));
    }

    /// Tells what came of a crash on request, if this boot follows one.
    fn conclude_test(&mut self, arguments: &Automatic) {
        if arguments.root.is_some() {
            return;
        }
        match crash_test::conclude() {
            Ok(test) => self.test = test.and_then(|test| test.outcome).map(|outcome| outcome.verdict.told()),
            Err(error) => self.warnings.push(chain(&error)),
        }
    }
}

impl Report for Run {
    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = self.collected.as_ref().map(Report::rows).unwrap_or_default();
        rows.extend(self.others.as_ref().map(|others| row("another program's", in_words(others))));
        rows.extend(self.actions.iter().flat_map(|(folder, note)| action_rows(folder, note)));
        if self.collected.is_none() && rows.is_empty() {
            rows.push(row("actions", "none is to be done again"));
        }
        rows.extend(self.test.map(|told| row("test", told)));
        rows.extend(self.warnings.iter().map(|warning| row("warning", warning)));
        rows
    }

    fn json(&self) -> Result<Value> {
        let mut json = self.collected.as_ref().map_or_else(|| Ok(json!({})), Report::json)?;
        let folders =
            self.actions.iter().map(|(folder, note)| json!({ "folder": folder, "actions": note.actions }));
        json["actions"] = folders.collect();
        json["others"] = self.others.as_ref().map(others_json).into();
        json["test"] = self.test.into();
        let warnings = self.warnings.iter().map(|warning| Value::from(warning.as_str()));
        match json["warnings"].as_array_mut() {
            Some(all) => all.extend(warnings),
            None => json["warnings"] = warnings.collect(),
        }
        Ok(json)
    }

    /// An action that fails does not fail a collect; one that was asked for again does, and so does a configuration that is refused.
    fn is_whole(&self) -> bool {
        self.refused.is_none()
            && match &self.collected {
                Some(collected) => collected.is_whole(),
                None => self.actions.iter().all(|(_, note)| note.failed() == 0),
            }
    }
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

/// What is known of the dumps of other programs, and what reads them.
fn in_words(OthersDumps { newest, count }: &OthersDumps) -> String {
    let (path, size) = (newest.path.display(), Bytes(newest.bytes));
    let about = newest.about();
    let what = match &about {
        _ if newest.is_cut_off => "not finished".to_owned(),
        None => "not a dump that can be read".to_owned(),
        Some(about) if about.takeover.is_some() => format!(
            "kernel {}, written after Holdover had handed the machine over; `holdover inspect` and `holdover summary` read it",
            about.release.escape_debug()
        ),
        Some(about) => format!("kernel {}; `holdover summary` reads it", about.release.escape_debug()),
    };
    let older = if *count > 1 { format!("; {} older ones", count - 1) } else { String::new() };
    format!("{path}: {size}, {what}{older}")
}

fn others_json(OthersDumps { newest, count }: &OthersDumps) -> Value {
    let about = newest.about();
    json!({
        "count": count,
        "newest": newest.path,
        "bytes": newest.bytes,
        "written_at": newest.written_at,
        "finished": !newest.is_cut_off,
        "kernel": about.as_ref().map(|about| &about.release),
        "takeover": about.as_ref().and_then(|about| about.takeover),
    })
}

fn action_rows(folder: &str, note: &ActionNote) -> Vec<Vec<String>> {
    let told = |action: &ActionResult| {
        let state = if action.done { "done" } else { "failed" };
        row(&action.action, format!("{folder}: {state}: {}", action.told))
    };
    note.actions.iter().map(told).collect()
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
        Ok(AreaOutcome::Skipped(skipped)) => vec![row(area, skipped.to_string())],
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
    match note.crash.content {
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
        Ok(AreaOutcome::Skipped(skipped)) => ("skipped", None, vec![skipped.to_string()]),
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
