//! Metrics for Prometheus, in a file that its node exporter reads (the textfile collector).

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::super::crash::FolderContent;
use super::super::folder;
use super::super::history::History;

/// Everybody may read them.
const MODE: u32 = 0o644;

/// Writes the metrics; the file is whole whenever it is read.
pub fn write_metrics(history: &History, path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    folder::replace_with_mode(parent, &name.to_string_lossy(), text(history).as_bytes(), MODE)
}

/// A metric: name, type, help, value.
type Metric = (&'static str, &'static str, &'static str, u64);

fn text(history: &History) -> String {
    let mut text = String::new();
    for (name, kind, help, value) in metrics(history) {
        let _ = writeln!(
            text,
            "# HELP holdover_{name} {help}\n# TYPE holdover_{name} {kind}\nholdover_{name} {value}"
        );
    }
    text
}

fn metrics(history: &History) -> Vec<Metric> {
    let mut metrics = vec![
        ("collect_last_run_timestamp_seconds", "gauge", "When holdover collect ran last.", history.last_run),
        (
            "crashes_collected_total",
            "counter",
            "Crashes of which something was collected.",
            history.collected,
        ),
        ("collect_failures_total", "counter", "Tries to collect from an area that failed.", history.failures),
        (
            "areas_uncollected",
            "gauge",
            "Areas that hold something that is not collected.",
            history.left_uncollected,
        ),
        ("crashes_in_a_row", "gauge", "Crashes in a row, each soon after its boot.", history.in_a_row.into()),
        (
            "actions_failed",
            "gauge",
            "Actions that failed, of all crashes that are kept.",
            history.actions_failed,
        ),
    ];
    if let Some(last) = history.crashes.last() {
        let complete = u64::from(last.crash.content == FolderContent::Complete);
        let at = last.crash.time();
        metrics.extend([
            ("last_crash_timestamp_seconds", "gauge", "When the kernel crashed last.", at),
            ("last_dump_bytes", "gauge", "Bytes of the last dump, 0 if there is only a log.", last.bytes),
            ("last_dump_complete", "gauge", "Whether the last dump is complete.", complete),
        ]);
    }
    metrics
}
