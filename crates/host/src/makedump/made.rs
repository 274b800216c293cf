//! What `holdover makedump` says of the dump that it made.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use kdump::Statistics;
use serde_json::{Value, json};
use vmcore::Counts;

use crate::report::{self, Report, row};

/// A dump that was made.
pub struct Made {
    pub(super) out: PathBuf,
    pub(super) release: String,
    pub(super) counts: Counts,
    pub(super) written: Statistics,
    /// What the dump lacks, because the core lacks it.
    pub(super) lacks: Vec<String>,
    /// What costs the dump exclusions.
    pub(super) unknown: Vec<String>,
    /// How long it took to choose pages.
    pub(super) choosing: Duration,
    /// How long it took altogether.
    pub(super) took: Duration,
}

impl Made {
    fn state(&self) -> String {
        if self.lacks.is_empty() {
            "complete".to_owned()
        } else {
            format!("partial: {}", self.lacks.join(", "))
        }
    }

    /// Memory that was dumped in a second, in MB.
    fn rate(&self) -> u128 {
        let bytes = u128::from(self.written.done) * kdump::BLOCK as u128;
        bytes / self.took.as_micros().max(1)
    }

    /// Why pages were left out, and of how many.
    fn reasons(&self) -> [(&'static str, u64); 6] {
        let counts = &self.counts;
        [
            ("free", counts.free),
            ("cache", counts.cache),
            ("private_cache", counts.private_cache),
            ("user", counts.user),
            ("poisoned", counts.poisoned),
            ("offline", counts.offline),
        ]
    }
}

impl Report for Made {
    fn rows(&self) -> Vec<Vec<String>> {
        let Statistics { pages, zero, .. } = self.written;
        let reasons = self.reasons().map(|(reason, pages)| format!("{} {pages}", reason.replace('_', " ")));
        let mut rows = vec![
            row("dump", self.out.display().to_string()),
            row("state", self.state()),
            row("size", report::size(self.written.file_bytes)),
            row("kernel", self.release.clone()),
            row("pages", format!("{pages} of {}, {zero} of them zeros", self.counts.ram)),
            row("left out", reasons.join(", ")),
            row("time", format!("{:.2} s, {} MB/s", self.took.as_secs_f64(), self.rate())),
        ];
        rows.extend(self.unknown.iter().map(|unknown| row("kept more", format!("because {unknown}"))));
        rows
    }

    fn json(&self) -> Result<Value> {
        let reasons: serde_json::Map<_, _> =
            self.reasons().into_iter().map(|(reason, pages)| (reason.to_owned(), json!(pages))).collect();
        Ok(json!({
            "path": self.out,
            "complete": self.is_whole(),
            "state": self.state(),
            "bytes": self.written.file_bytes,
            "kernel": self.release,
            "pages": self.written.pages,
            "zero": self.written.zero,
            "missing": self.written.missing,
            "ram": self.counts.ram,
            "left_out": reasons,
            "unknown": self.counts.unknown,
            "unknown_facts": self.unknown,
            "choosing_seconds": self.choosing.as_secs_f64(),
            "seconds": self.took.as_secs_f64(),
        }))
    }

    fn is_whole(&self) -> bool {
        self.lacks.is_empty()
    }
}
