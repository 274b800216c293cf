//! Holdover's own report of a crash, from the console: what it did, when, and with what counts.

use std::time::SystemTime;

use anyhow::{Context, Result};
use handoff::{Completeness, Event, Summary};

use crate::crashes::crash::PANIC;
use crate::machines::console::Line;

/// What Holdover tells of an old kernel that could not print its panic: a machine check killed it, or it died in an NMI, in which
/// Linux leaves printing for later.
const DIED: [&str; 2] = ["machine check: bank", " processors died"];

/// The end of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// When it was sealed.
    pub(crate) at: SystemTime,
    /// How it ended.
    pub(crate) completeness: Completeness,
    /// Its length.
    pub(crate) bytes: u64,
}

/// What Holdover printed. Every part but the panic may be missing: other checks complain of that.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// When the old kernel panicked; if it did not print that, when Holdover said its first word.
    pub(crate) panic: SystemTime,
    /// When Holdover said its first word.
    pub(crate) first_line: Option<SystemTime>,
    /// When the remapping units were its own.
    pub(crate) takeover_done: Option<SystemTime>,
    /// When and how the dump was sealed.
    pub(crate) sealed: Option<Sealed>,
    /// The counts of its summary.
    pub(crate) summary: Option<Summary>,
}

impl Report {
    /// Reads the console; fails if nothing panicked.
    pub(crate) fn of(lines: &[Line]) -> Result<Self> {
        let first_line = lines.iter().find(|line| line.holdover().is_some());
        let died = lines.iter().any(|line| DIED.iter().any(|words| line.text.contains(words)));
        let printed = lines.iter().find(|line| line.text.contains(PANIC));
        let panic = printed.or(first_line.filter(|_| died)).context("the guest did not panic")?;
        let mut report = Self {
            panic: panic.at,
            first_line: first_line.map(|line| line.at),
            takeover_done: None,
            sealed: None,
            summary: None,
        };
        let events = lines.iter().filter_map(|line| Some((line.at, line.event()?)));
        events.for_each(|(at, event)| report.note(at, event));
        Ok(report)
    }

    /// Seconds from the panic to `moment`.
    pub(crate) fn seconds_to(&self, moment: Option<SystemTime>) -> Option<f64> {
        Some(moment?.duration_since(self.panic).ok()?.as_secs_f64())
    }

    /// A count of the summary.
    pub(crate) fn count(&self, key: &str) -> Option<u64> {
        self.summary?.count(key)
    }

    fn note(&mut self, at: SystemTime, event: Event) {
        match event {
            Event::TakeoverDone => self.takeover_done = Some(at),
            Event::LogSafe { .. } | Event::VitalSafe { .. } => {}
            Event::Summary(summary) => self.summary = Some(summary),
            Event::Sealed { completeness, bytes } => self.sealed = Some(Sealed { at, completeness, bytes }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_the_panic() {
        let report = Report::of(&Line::a_second_apart(&[
            "[    9.1] bench: loaded",
            "[   12.0] Kernel panic - not syncing: sysrq triggered crash",
            "holdover: [0.001] Holdover",
            "holdover: [0.100] takeover done",
            "holdover: [2.000] sealed complete bytes=12",
        ]))
        .unwrap();
        assert_eq!(report.seconds_to(report.first_line), Some(1.0));
        assert_eq!(report.seconds_to(report.takeover_done), Some(2.0));
        let sealed = report.sealed.unwrap();
        assert_eq!((sealed.completeness, sealed.bytes), (Completeness::Complete, 12));
    }

    #[test]
    fn counts_come_from_the_summary() {
        let summary = Summary { contexts_accepted: 9, pages_kept: 3, ..Summary::default() };
        let line = format!("holdover: [0.1] {summary}");
        let report = Report::of(&Line::a_second_apart(&["Kernel panic - not syncing", &line])).unwrap();
        assert_eq!(report.count("contexts_accepted"), Some(9));
        assert_eq!(report.count("pages_kept"), Some(3));
        assert_eq!(report.count("other"), None);
    }

    #[test]
    fn a_kernel_that_printed_no_panic_died_before_holdovers_first_word() {
        let report = Report::of(&Line::a_second_apart(&[
            "[    9.1] bench: loaded",
            "holdover: [0.001] Holdover",
            "holdover: [0.100] takeover done",
            "holdover: [0.200] kernel 6.1.0 of 2 processors died",
        ]))
        .unwrap();
        assert_eq!(report.seconds_to(report.takeover_done), Some(1.0));
    }

    #[test]
    fn a_guest_that_did_not_panic_has_no_account() {
        assert!(Report::of(&Line::a_second_apart(&["holdover: [0.1] takeover done"])).is_err());
    }
}
