//! `holdover dmesg`: fetches the dead kernel's log out of an area or a dump. `holdover collect --dmesg` is the same for areas.

use std::path::{Path, PathBuf};

use anyhow::Result;
use host::areas::{AreaError, AreaName};
use host::collect::MarkError;
use host::dmesg::{self, CollectedLog, DmesgError, StoredLog};
use host::{Bytes, IfExists};
use serde_json::{Value, json};

use crate::collect::unmarked;
use crate::report::{Report, row};

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The dump area (its UUID, its device, or its file), or a dump
    #[arg(value_name = "UUID|DEVICE|DUMP")]
    from: AreaName,
    /// The file to make; the log is printed without it, or if it is `-`
    ///
    /// If the log is all that an area holds, the area then counts as collected.
    out: Option<PathBuf>,
    /// Replace a file of that name
    #[arg(long)]
    force: bool,
}

/// Fetches the log.
pub(crate) fn run(arguments: &Arguments) -> Result<Fetched, DmesgError> {
    let Arguments { from, out, force } = arguments;
    let if_exists = if *force { IfExists::Replace } else { IfExists::Refuse };
    match (fetch(from, out.as_deref(), if_exists), from) {
        // What is no area may be a dump.
        (
            Err(DmesgError::Area(AreaError::NoArea { .. } | AreaError::Unusable { .. })),
            AreaName::Device(dump),
        ) => fetch_from_dump(dump, out.as_deref(), if_exists),
        (fetched, _) => fetched,
    }
}

/// Reads the log in a dump, and writes it to a file if one is named.
fn fetch_from_dump(dump: &Path, out: Option<&Path>, if_exists: IfExists) -> Result<Fetched, DmesgError> {
    let log = dmesg::read_dump(dump)?;
    let out = named(out).map(Path::to_owned);
    if let Some(out) = &out {
        dmesg::write(&log, out, if_exists)?;
    }
    Ok(Fetched { log, out, unmarked: None })
}

/// The file to write to, if it is not standard output.
fn named(out: Option<&Path>) -> Option<&Path> {
    out.filter(|out| out.as_os_str() != "-")
}

/// The log, and the file that it is in, or nowhere.
pub(crate) struct Fetched {
    log: StoredLog,
    out: Option<PathBuf>,
    /// Why the area could not be told that its log was collected.
    unmarked: Option<MarkError>,
}

/// Reads the log, and writes it to a file if one is named.
pub(crate) fn fetch(area: &AreaName, out: Option<&Path>, if_exists: IfExists) -> Result<Fetched, DmesgError> {
    let Some(out) = named(out) else {
        return Ok(Fetched { log: dmesg::read(area)?, out: None, unmarked: None });
    };
    let CollectedLog { log, mark } = dmesg::collect(area, out, if_exists)?;
    Ok(Fetched { log, out: Some(out.to_owned()), unmarked: mark.and_then(Result::err) })
}

impl Report for Fetched {
    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![row("size", Bytes(self.log.text.len() as u64).to_string())];
        rows.splice(..0, self.out.iter().map(|out| row("log", out.display().to_string())));
        if self.log.left_out > 0 {
            rows.push(row("left out", format!("{} of older messages", Bytes(self.log.left_out))));
        }
        rows.extend(self.unmarked.as_ref().map(|error| row("warning", unmarked(error))));
        rows
    }

    /// The log itself, unless it is in a file.
    fn text(&self) -> String {
        match self.out {
            Some(_) => crate::report::table(&self.rows()),
            None => self.log.text.clone(),
        }
    }

    fn json(&self) -> Result<Value> {
        let log = self.out.is_none().then_some(&self.log.text);
        Ok(json!({
            "path": self.out,
            "log": log,
            "bytes": self.log.text.len(),
            "left_out": self.log.left_out,
            "warnings": self.unmarked.iter().map(unmarked).collect::<Vec<_>>(),
        }))
    }
}
