//! The crashes that were collected, in `/var/lib/holdover/collected.json`: for `status`, for the metrics, and to tell a machine that
//! panics at each boot from one that panicked once.

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::crash::Crash;
use super::folder::{self, CrashFolder};

/// Where the history is.
pub const HISTORY: &str = "/var/lib/holdover/collected.json";
/// Most crashes that are remembered: the newest.
const MOST: usize = 64;

/// What was collected on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// The crashes, the newest last; only the newest are remembered.
    pub crashes: Vec<CrashNote>,
    /// All crashes of which something was collected.
    pub collected: u64,
    /// All tries to collect from an area that failed.
    pub failures: u64,
    /// The newest crashes in a row each of which followed the boot before it too soon; 1 after a single crash.
    pub in_a_row: u32,
    /// The last time that `collect` ran, in seconds since 1970.
    pub last_run: u64,
    /// Areas that held something uncollected when that run ended.
    pub left_uncollected: u64,
    /// Actions that failed and are tried again by `holdover collect --retry-actions`.
    pub actions_failed: u64,
}

/// A crash that was collected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashNote {
    /// The name of its folder.
    pub folder: String,
    /// The crash.
    #[serde(flatten)]
    pub crash: Crash,
    /// Bytes of the dump; 0 if there is only a log.
    pub bytes: u64,
}

/// When crashes one after the other are called a boot loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootLoop {
    /// After so many in a row; `None` never.
    pub after: Option<u32>,
    /// A kernel that ran so long did not die of its boot.
    pub uptime: Duration,
}

impl Default for BootLoop {
    /// Never, and ten minutes.
    fn default() -> Self {
        Self { after: None, uptime: Duration::from_secs(600) }
    }
}

/// The folders of a boot loop, by their numbers; none if there is no loop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LoopFolders {
    pub(super) first: Option<u64>,
    /// Those between the first and the newest.
    pub(super) between: Vec<u64>,
}

impl LoopFolders {
    pub(super) fn is_first(&self, folder: &CrashFolder) -> bool {
        self.first == Some(folder.note.crash.number)
    }

    pub(super) fn is_between(&self, folder: &CrashFolder) -> bool {
        self.between.contains(&folder.note.crash.number)
    }
}

impl History {
    /// Reads the history; an empty one if there is none that can be read.
    pub fn read(path: &Path) -> Self {
        let text = fs::read(path).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes it, whole or not at all.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        folder::make_directory(parent)?;
        let text = serde_json::to_vec_pretty(self)?;
        folder::replace(parent, &name.to_string_lossy(), &text)
    }

    /// Notes a crash. One of which only the log could be saved before is noted again with its dump, and counts once.
    pub(super) fn add(&mut self, mut new: CrashNote, boot_loop: BootLoop) {
        if let Some(known) = self.crashes.iter_mut().find(|known| known.crash.is(&new.crash)) {
            *known = new;
            return;
        }
        new.crash.uptime = new.crash.uptime.or_else(|| self.uptime_since_last(&new.crash));
        let is_soon = new.crash.uptime.is_some_and(|uptime| uptime < boot_loop.uptime.as_secs());
        self.in_a_row = if is_soon { self.in_a_row.saturating_add(1) } else { 1 };
        self.collected += 1;
        self.crashes.push(new);
        if self.crashes.len() > MOST {
            // The first of a long loop stays.
            self.crashes.remove(usize::from(self.in_a_row as usize > MOST));
        }
    }

    /// How long the kernel ran at most: the last crash was collected after it had booted.
    fn uptime_since_last(&self, crash: &Crash) -> Option<u64> {
        crash.crashed_at?.checked_sub(self.crashes.last()?.crash.collected_at)
    }

    /// How many crashes followed each other too soon, if they are so many that they are called a loop.
    pub fn boot_loop(&self, boot_loop: BootLoop) -> Option<u32> {
        boot_loop.after.is_some_and(|after| self.in_a_row >= after.max(2)).then_some(self.in_a_row)
    }

    /// The place, from 1, of a crash in a boot loop, if the newest crashes are one, it is among them, and so many came before it
    /// that it is called one.
    pub fn place_in_loop(&self, folder: &CrashFolder, boot_loop: BootLoop) -> Option<u32> {
        let count = self.boot_loop(boot_loop)?;
        let later =
            self.crashes.iter().rev().position(|note| note.crash.number == folder.note.crash.number)?;
        let place = count.checked_sub(u32::try_from(later).ok()?)?;
        boot_loop.after.is_some_and(|after| place >= after.max(2)).then_some(place)
    }

    /// The folders of the loop.
    pub(super) fn loop_folders(&self, boot_loop: BootLoop) -> LoopFolders {
        let Some(count) = self.boot_loop(boot_loop) else { return LoopFolders::default() };
        let start = self.crashes.len().saturating_sub(count as usize);
        match &self.crashes[start..] {
            [first, between @ .., _newest] => LoopFolders {
                first: Some(first.crash.number),
                between: between.iter().map(|note| note.crash.number).collect(),
            },
            _ => LoopFolders::default(),
        }
    }
}

/// How long a kernel ran, in seconds, as the time on the last line of its log tells that has one: `[ 1234.567890] …`.
pub(super) fn uptime(log: &str) -> Option<u64> {
    let time = |line: &str| {
        let (seconds, _) = line.strip_prefix('[')?.split_once(']')?.0.split_once('.')?;
        seconds.trim().parse().ok()
    };
    log.lines().rev().find_map(time)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::crash::{DumpIdentity, FolderContent};
    use super::*;

    const LOOP: BootLoop = BootLoop { after: Some(3), uptime: Duration::from_secs(600) };

    fn crash(sequence: u64, uptime: Option<u64>) -> CrashNote {
        CrashNote {
            folder: format!("h-{sequence}"),
            crash: Crash {
                number: sequence,
                area: Uuid::from_u128(1),
                sequence,
                identity: DumpIdentity::default(),
                collected_at: 1000 * sequence + 20,
                crashed_at: Some(1000 * sequence),
                uptime,
                content: FolderContent::Complete,
            },
            bytes: 100,
        }
    }

    fn history(uptimes: &[u64]) -> History {
        let mut history = History::default();
        for (sequence, uptime) in (1..).zip(uptimes) {
            history.add(crash(sequence, Some(*uptime)), LOOP);
        }
        history
    }

    #[test]
    fn crashes_that_follow_each_other_too_soon_are_a_loop_from_the_third_on() {
        assert_eq!(history(&[90_000, 30]).boot_loop(LOOP), None);
        let third = history(&[90_000, 30, 25]);
        assert_eq!(third.boot_loop(LOOP), Some(3));
        let folders = third.loop_folders(LOOP);
        assert_eq!((folders.first, &folders.between[..]), (Some(1), &[2][..]));
        let healed = history(&[90_000, 30, 25, 20, 601, 30]);
        assert_eq!((healed.in_a_row, healed.boot_loop(LOOP)), (2, None));
    }

    #[test]
    fn each_crash_of_a_loop_is_told_with_its_place_and_those_before_it_are_not() {
        let place =
            |history: &History, number| history.place_in_loop(&folder::tests::folder(number, 5), LOOP);
        let looping = history(&[90_000, 90_000, 30, 25, 20]);
        assert_eq!(
            [1, 2, 3, 4, 5, 6].map(|number| place(&looping, number)),
            [None, None, None, Some(3), Some(4), None]
        );
        assert_eq!(place(&history(&[90_000, 30]), 2), None);
    }

    #[test]
    fn without_a_number_nothing_is_a_loop_and_one_crash_never_is() {
        assert_eq!(history(&[1, 1, 1, 1]).boot_loop(BootLoop::default()), None);
        assert_eq!(history(&[1]).boot_loop(BootLoop { after: Some(0), ..LOOP }), None);
    }

    #[test]
    fn the_time_between_collect_and_crash_stands_in_for_an_uptime_that_is_not_told() {
        let mut history = history(&[90_000]);
        history.add(crash(2, None), LOOP);
        assert_eq!((history.in_a_row, history.crashes[1].crash.uptime), (1, Some(980)));
        let mut third = crash(3, None);
        third.crash.crashed_at = Some(2100);
        history.add(third, LOOP);
        assert_eq!((history.in_a_row, history.crashes[2].crash.uptime), (2, Some(80)));
    }

    #[test]
    fn a_crash_that_is_collected_in_two_steps_counts_once() {
        let mut history = History::default();
        let mut log = crash(1, Some(5));
        log.crash.content = FolderContent::LogOnly;
        history.add(log, LOOP);
        history.add(crash(1, Some(5)), LOOP);
        assert_eq!((history.crashes.len(), history.collected, history.in_a_row), (1, 1, 1));
    }

    #[test]
    fn the_newest_are_remembered_and_all_are_counted() {
        let history = history(&[30; 100]);
        assert_eq!((history.crashes.len(), history.collected), (MOST, 100));
        assert_eq!(history.loop_folders(LOOP).first, Some(1));
        assert_eq!(history.crashes.last().unwrap().crash.sequence, 100);
    }

    #[test]
    fn a_history_is_read_as_it_was_written_and_a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib/collected.json");
        let history = history(&[5, 6]);
        history.write(&path).unwrap();
        assert_eq!(History::read(&path), history);
        let text = fs::read_to_string(&path).unwrap();
        let note: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(note["crashes"][0]["number"], 1, "what earlier versions wrote is read: {text}");
        fs::write(&path, &text[..50]).unwrap();
        assert_eq!(History::read(&path), History::default());
    }

    #[test]
    fn the_last_time_in_the_log_is_the_uptime() {
        let log = "[    0.000000] Linux\n[ 1234.567890] Kernel panic\nno time\n";
        assert_eq!(uptime(log), Some(1234));
        assert_eq!(uptime("nothing"), None);
        assert_eq!(uptime("[99999999999999999999.0] x"), None);
    }
}
