//! `holdover summary`: writes the page that says what happened.

use std::path::PathBuf;

use anyhow::Result;
use host::IfExists;
use host::summary::{self, Summary, SummaryRequest};
use serde_json::{Value, json};

use crate::report::{Report, row};

/// What the command is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A dump: kdump-compressed or an ELF core
    dump: PathBuf,
    /// The page to make, such as summary.html; it appears under this name only when it is whole
    out: PathBuf,
    /// Replace a file of that name
    #[arg(long)]
    force: bool,
}

/// The page that was written.
pub(crate) struct Written {
    out: PathBuf,
    summary: Summary,
}

/// Reads the dump and writes the page.
pub(crate) fn run(arguments: &Arguments) -> Result<Written> {
    let Arguments { dump, out, force } = arguments;
    let if_exists = if *force { IfExists::Replace } else { IfExists::Refuse };
    let request = SummaryRequest { dump: dump.clone(), out: out.clone(), if_exists };
    Ok(Written { out: out.clone(), summary: summary::summarize(&request)? })
}

impl Report for Written {
    fn rows(&self) -> Vec<Vec<String>> {
        let postmortem = &self.summary.postmortem;
        let panicked = postmortem.cpus.iter().find(|cpu| cpu.panicked);
        let frames = panicked.map(|cpu| cpu.backtrace.frames.len()).unwrap_or_default();
        let message = postmortem.panic.message.as_deref().unwrap_or("not known");
        let mut rows = vec![row("page", self.out.display().to_string()), row("panic", message)];
        rows.extend(postmortem.system.release.as_deref().map(|release| row("kernel", release)));
        rows.push(row("backtrace", format!("{frames} frames, {} processors", postmortem.cpus.len())));
        rows.push(row("modules", postmortem.modules.listed.len().to_string()));
        rows.extend(self.summary.no_takeover.as_deref().map(|why| row("takeover", why)));
        rows
    }

    fn json(&self) -> Result<Value> {
        Ok(json!({ "path": self.out, "summary": serde_json::to_value(&self.summary)? }))
    }
}
