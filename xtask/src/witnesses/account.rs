//! Holdover's own account of a crash, from the console: what it did, when, and with what counts.

use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::crashes::crash::PANIC;
use crate::machines::console::Line;

/// How the dump ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seal {
    /// Everything that belongs in it is there.
    Complete,
    /// What fitted is there.
    Partial,
}

/// The end of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// When it was sealed.
    pub(crate) at: SystemTime,
    /// How it ended.
    pub(crate) seal: Seal,
    /// Its length.
    pub(crate) bytes: Option<u64>,
}

/// What Holdover said. Every part but the panic may be missing: it is then for others to complain.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// When the old kernel panicked.
    pub(crate) panic: SystemTime,
    /// When Holdover said its first word.
    pub(crate) first_line: Option<SystemTime>,
    /// When the remapping units were its own.
    pub(crate) takeover_done: Option<SystemTime>,
    /// When and how the dump was sealed.
    pub(crate) sealed: Option<Sealed>,
    /// The counts of its `summary` lines.
    pub(crate) summary: BTreeMap<String, String>,
}

impl Account {
    /// Reads the console; fails if nothing panicked.
    pub(crate) fn of(lines: &[Line]) -> Result<Self> {
        let panic = lines.iter().find(|line| line.text.contains(PANIC)).context("the guest did not panic")?;
        let spoken = lines.iter().filter_map(|line| line.holdover().map(|said| (line.at, said)));
        let mut account = Self {
            panic: panic.at,
            first_line: spoken.clone().next().map(|(at, _)| at),
            takeover_done: None,
            sealed: None,
            summary: BTreeMap::new(),
        };
        spoken.for_each(|(at, said)| account.hear(at, said));
        Ok(account)
    }

    /// Seconds from the panic to `moment`.
    pub(crate) fn seconds_to(&self, moment: Option<SystemTime>) -> Option<f64> {
        Some(moment?.duration_since(self.panic).ok()?.as_secs_f64())
    }

    /// A count of the summary.
    pub(crate) fn count(&self, key: &str) -> Option<u64> {
        self.summary.get(key)?.parse().ok()
    }

    fn hear(&mut self, at: SystemTime, said: &str) {
        let mut words = said.split_whitespace();
        match (words.next(), words.next()) {
            (Some("takeover"), Some("done")) => self.takeover_done = Some(at),
            (Some("sealed"), Some(how)) => self.sealed = sealed(at, how, words.next()),
            (Some("summary"), first) => self.summary.extend(first.into_iter().chain(words).filter_map(pair)),
            _ => {}
        }
    }
}

fn sealed(at: SystemTime, how: &str, bytes: Option<&str>) -> Option<Sealed> {
    let seal = match how {
        "complete" => Seal::Complete,
        "partial" => Seal::Partial,
        _ => return None,
    };
    let bytes = bytes.and_then(pair).and_then(|(_, bytes)| bytes.parse().ok());
    Some(Sealed { at, seal, bytes })
}

fn pair(word: &str) -> Option<(String, String)> {
    let (key, value) = word.split_once('=')?;
    Some((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_count_from_the_panic() {
        let account = Account::of(&Line::a_second_apart(&[
            "[    9.1] bench: loaded",
            "[   12.0] Kernel panic - not syncing: sysrq triggered crash",
            "holdover: [0.001] Holdover",
            "holdover: [0.100] takeover done",
            "holdover: [2.000] sealed complete bytes=12",
        ]))
        .unwrap();
        assert_eq!(account.seconds_to(account.first_line), Some(1.0));
        assert_eq!(account.seconds_to(account.takeover_done), Some(2.0));
        let sealed = account.sealed.unwrap();
        assert_eq!((sealed.seal, sealed.bytes), (Seal::Complete, Some(12)));
    }

    #[test]
    fn counts_come_from_all_summary_lines() {
        let account = Account::of(&Line::a_second_apart(&[
            "Kernel panic - not syncing",
            "holdover: [0.1] summary contexts=9 tables=50",
            "holdover: [0.2] summary pages=3",
        ]))
        .unwrap();
        assert_eq!(account.count("contexts"), Some(9));
        assert_eq!(account.count("pages"), Some(3));
        assert_eq!(account.count("other"), None);
    }

    #[test]
    fn a_guest_that_did_not_panic_has_no_account() {
        assert!(Account::of(&Line::a_second_apart(&["holdover: [0.1] takeover done"])).is_err());
    }
}
