//! A crash on request, and what came of it: whether this machine's firmware, disk and kernel play together, only a crash shows.
//!
//! [`prepare`] checks that the host is ready, and [`Prepared::crash`] notes what is tried in `/var/lib/holdover/test.json` and panics the
//! kernel. The note has a nonce, which goes into the kernel's log too: the area that stores this log has the dump of this crash and of no
//! other. After the boot [`conclude`] looks into the areas and adds the verdict to the note. Collected dumps are found as well: an area
//! keeps its seal and its log until the next crash.

mod fingerprint;
mod note;
mod verdict;

use std::convert::Infallible;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::fingerprint::Fingerprint;
use self::note::Note;
pub use self::verdict::Verdict;
use self::verdict::{Evidence, judge};
use crate::areas::AreaError;
use crate::collect::OthersDumps;
use crate::config::Configuration;
use crate::doctor::{self, State};
use crate::{clock, loaded};

/// Where a crash is asked for. What is written there by root is done whatever `kernel.sysrq` allows the keyboard
/// (Documentation/admin-guide/sysrq.rst).
const TRIGGER: &str = "/proc/sysrq-trigger";
/// The kernel's log, to be written to.
const LOG: &str = "/dev/kmsg";

/// Why there was no crash, or it is not known what came of one.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum TestError {
    /// A crash would not be dumped.
    #[error("this host is not ready for a crash: {}; `holdover doctor` says what to do", problems.join("; "))]
    NotReady {
        /// What `doctor` found missing.
        problems: Vec<String>,
    },
    /// The checks failed.
    #[error(transparent)]
    Area(#[from] AreaError),
    /// This kernel panics on nobody's request, or not on this user's.
    #[error(
        "cannot ask this kernel for a panic by {TRIGGER}; run `holdover test` as root, on a kernel with CONFIG_MAGIC_SYSRQ"
    )]
    NoTrigger(#[source] io::Error),
    /// What is tried cannot be noted, so nothing could be told after the boot.
    #[error(
        "cannot write {path}, so nobody would know of the test after the boot; run `holdover test` as root, with room on that disk"
    )]
    Note {
        /// The note.
        path: PathBuf,
        /// What the host's file system said.
        source: io::Error,
    },
    /// The note is there and cannot be understood.
    #[error("{path} is no note of a test; remove it: `rm {path}`")]
    Damaged {
        /// The note.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The kernel went on.
    #[error("the kernel did not panic; `dmesg | tail` may say why")]
    StillAlive,
}

/// A crash on request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    /// What marks its dump: it is in the dead kernel's log.
    pub nonce: Uuid,
    /// The boot that it ended.
    boot: Uuid,
    /// When it was, in seconds since 1970.
    pub at: u64,
    /// What crashed.
    host: Fingerprint,
    /// What came of it; `None` until somebody looked after the boot.
    pub outcome: Option<Outcome>,
}

/// What came of a crash on request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether the dump came.
    pub verdict: Verdict,
    /// The device of the area that has it, or its file; or the dump of the kernel to which the machine was handed over.
    pub area: Option<PathBuf>,
    /// Seconds from the request until the next kernel started.
    pub back_after: Option<u64>,
    /// Why an area that was to get the dump could not be looked at.
    pub unread: Vec<String>,
}

impl Outcome {
    /// The better outcome, if another kernel wrote a dump of the crash.
    fn or_handed_over(self, dump: Option<PathBuf>) -> Self {
        match dump {
            Some(dump) if self.verdict > Verdict::HandedOver => {
                Self { verdict: Verdict::HandedOver, area: Some(dump), ..self }
            }
            _ => self,
        }
    }

    /// Whether it is no other once all areas can be looked at.
    fn is_final(&self) -> bool {
        self.unread.is_empty() || !matches!(self.verdict, Verdict::AnotherCrash | Verdict::NoDump)
    }
}

/// What is known of crashes on request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The last one.
    pub last: Option<Test>,
    /// The last one of which the complete dump came.
    pub passed: Option<Test>,
    /// What is no longer as it was then, in words; what cannot be seen is not compared.
    pub changes: Vec<String>,
}

impl Test {
    /// Whether the complete dump came.
    pub fn has_passed(&self) -> bool {
        self.outcome.as_ref().is_some_and(|outcome| outcome.verdict.is_passed())
    }

    /// Whether its boot is over, so that something must have come of it.
    fn is_over(&self) -> bool {
        loaded::boot().is_some_and(|boot| boot != self.boot)
    }

    /// The line that marks the kernel's log.
    fn mark(nonce: Uuid) -> String {
        format!("holdover: a crash on request follows, test {nonce}")
    }
}

/// A crash that nothing is in the way of.
#[derive(Debug)]
pub struct Prepared {
    /// The host's name.
    pub host: String,
    /// Who is logged in, each with the terminal.
    pub users: Vec<String>,
    /// Where file systems on disks are mounted to be written.
    pub mounted: Vec<String>,
    /// Where the dump goes.
    pub areas: Vec<PathBuf>,
}

/// Checks that a crash now would be dumped, and finds out whom it would disturb.
pub fn prepare() -> Result<Prepared, TestError> {
    let findings = doctor::diagnose(&())?.findings;
    let bad = findings.iter().filter(|finding| matches!(finding.state, State::Missing | State::Unknown));
    let problems: Vec<_> = bad.map(|finding| format!("{}: {}", finding.what.name(), finding.found)).collect();
    if !problems.is_empty() {
        return Err(TestError::NotReady { problems });
    }
    open_trigger()?;
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    Ok(Prepared {
        host: read("/proc/sys/kernel/hostname").trim().to_owned(),
        users: users(Path::new("/run/systemd/sessions")),
        mounted: mounted(&read("/proc/self/mounts")),
        areas: loaded::areas().into_iter().map(|area| area.device).collect(),
    })
}

impl Prepared {
    /// Notes what is tried, makes all files durable, and panics the kernel. It comes back only if there was no panic.
    pub fn crash(self) -> Result<Infallible, TestError> {
        let mut trigger = open_trigger()?;
        let nonce = nonce().map_err(TestError::NoTrigger)?;
        let test = Test {
            nonce,
            boot: loaded::boot().unwrap_or_default(),
            at: clock::now().unwrap_or_default(),
            host: Fingerprint::now(),
            outcome: None,
        };
        let mut note = Note::read()?;
        let before = note.clone();
        note.last = Some(test);
        note.write()?;
        // A log without the mark is still told from others by the area's count of dumps.
        let _ = fs::write(LOG, Test::mark(nonce));
        rustix::fs::sync();
        trigger.write_all(b"c").map_err(TestError::NoTrigger)?;
        before.write()?;
        Err(TestError::StillAlive)
    }
}

fn open_trigger() -> Result<fs::File, TestError> {
    OpenOptions::new().write(true).open(TRIGGER).map_err(TestError::NoTrigger)
}

/// A name that no other test has.
fn nonce() -> io::Result<Uuid> {
    let text = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Looks whether the dump of the last crash on request came, if that is not known yet, and notes it, unless the dump may be in an area
/// that could not be looked at: then the next call looks again. Returns that test; `None` if there is none, or if it is in this boot.
/// Automatic collect calls this after it has collected.
pub fn conclude() -> Result<Option<Test>, TestError> {
    let mut note = Note::read()?;
    let Some(test) = note.last.as_mut().filter(|test| test.is_over()) else { return Ok(None) };
    if test.outcome.is_none() {
        let (evidence, unread) = test.host.evidence(&Test::mark(test.nonce));
        let outcome = outcome(test, &evidence, unread, booted_at()).or_handed_over(others_dump(test));
        let is_final = outcome.is_final();
        test.outcome = Some(outcome);
        if !is_final {
            return Ok(note.last);
        }
        let test = test.clone();
        if test.has_passed() {
            note.passed = Some(test);
        }
        note.write()?;
    }
    Ok(note.last)
}

/// The dump of the crash that a kernel wrote to which the machine was handed over.
fn others_dump(test: &Test) -> Option<PathBuf> {
    let configuration = Configuration::of_host().unwrap_or_default();
    let newest = OthersDumps::find(Path::new("/"), &configuration)?.newest;
    let is_its =
        newest.written_at >= test.at && !newest.is_cut_off && newest.has_in_log(&Test::mark(test.nonce));
    is_its.then_some(newest.path)
}

/// Decides what came of a test; the next kernel started at `booted`, in seconds since 1970.
fn outcome(test: &Test, evidence: &[Evidence], unread: Vec<String>, booted: Option<u64>) -> Outcome {
    let (verdict, area) = judge(evidence);
    let back_after = booted.and_then(|booted| booted.checked_sub(test.at));
    Outcome { verdict, area, back_after, unread }
}

/// Tells what is known, and what has changed since the last test that was passed. Changes nothing.
pub fn history() -> Result<History, TestError> {
    let Note { last, passed } = Note::read()?;
    let now = Fingerprint::now();
    let changes = passed.as_ref().map(|test| test.host.changes(&now)).unwrap_or_default();
    Ok(History { last, passed, changes })
}

/// When the running kernel started, in seconds since 1970 (proc_stat(5)).
fn booted_at() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Who is logged in, by systemd's notes of sessions: `USER=` and where from.
fn users(sessions: &Path) -> Vec<String> {
    let files = fs::read_dir(sessions).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut users: Vec<_> = files.filter_map(|file| user(&fs::read_to_string(file).ok()?)).collect();
    users.sort();
    users
}

fn user(session: &str) -> Option<String> {
    let value = |key: &str| session.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    if value("CLASS").is_some_and(|class| !class.starts_with("user")) {
        return None;
    }
    let place = value("REMOTE_HOST").or_else(|| value("TTY"));
    let user = value("USER")?;
    Some(place.map_or_else(|| user.to_owned(), |place| format!("{user} on {place}")))
}

/// The mount points of file systems on devices that may be written (proc_pid_mounts(5)).
fn mounted(mounts: &str) -> Vec<String> {
    let mount = |line: &str| {
        let mut words = line.split(' ');
        let (device, point, _, options) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let is_written = options.split(',').any(|option| option == "rw");
        (device.starts_with("/dev/") && is_written).then(|| point.to_owned())
    };
    mounts.lines().filter_map(mount).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_logged_in_is_named_with_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let session = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        session("1", "UID=0\nUSER=root\nTTY=tty1\nCLASS=user\n");
        session("2", "USER=mia\nREMOTE_HOST=192.0.2.7\nTTY=pts/0\n");
        session("3", "USER=Debian-gdm\nCLASS=greeter\n");
        session("4", "USER=cron\n");
        assert_eq!(users(folder.path()), ["cron", "mia on 192.0.2.7", "root on tty1"]);
        assert_eq!(users(Path::new("/nowhere")), [""; 0]);
    }

    #[test]
    fn file_systems_that_are_written_are_named() {
        let mounts =
            "proc /proc proc rw 0 0\n/dev/vda1 / ext4 rw,relatime 0 0\n/dev/sr0 /cd iso9660 ro 0 0\n\n";
        assert_eq!(mounted(mounts), ["/"]);
    }

    #[test]
    fn that_no_dump_came_is_not_final_while_an_area_could_not_be_looked_at() {
        let outcome = |verdict, unread: &[&str]| Outcome {
            verdict,
            area: None,
            back_after: None,
            unread: unread.iter().map(ToString::to_string).collect(),
        };
        let unread = ["/dev/sdb: gone"];
        assert!(!outcome(Verdict::NoDump, &unread).is_final());
        assert!(!outcome(Verdict::AnotherCrash, &unread).is_final());
        assert!(outcome(Verdict::Complete, &unread).is_final() && outcome(Verdict::NoDump, &[]).is_final());
    }

    #[test]
    fn a_dump_of_another_kernel_counts_unless_a_complete_one_came() {
        let outcome =
            |verdict| Outcome { verdict, area: Some("/area".into()), back_after: None, unread: Vec::new() };
        let after = |verdict, dump: Option<&str>| {
            let outcome = outcome(verdict).or_handed_over(dump.map(Into::into));
            (outcome.verdict, outcome.area.unwrap().display().to_string())
        };
        let dump = Some("/var/crash/1/dump.1");
        for worse in [Verdict::NoDump, Verdict::LogOnly, Verdict::Partial] {
            assert_eq!(after(worse, dump), (Verdict::HandedOver, "/var/crash/1/dump.1".into()));
        }
        assert_eq!(after(Verdict::Complete, dump).0, Verdict::Complete);
        assert_eq!(after(Verdict::NoDump, None), (Verdict::NoDump, "/area".into()));
        assert!(Verdict::HandedOver.is_passed() && !Verdict::Partial.is_passed());
    }

    #[test]
    fn the_time_until_the_next_kernel_started_is_told() {
        let test = Test {
            nonce: Uuid::nil(),
            boot: Uuid::nil(),
            at: 100,
            host: Fingerprint::default(),
            outcome: None,
        };
        assert_eq!(outcome(&test, &[], Vec::new(), Some(141)).back_after, Some(41));
        assert_eq!(outcome(&test, &[], Vec::new(), Some(99)).back_after, None, "the clock was set");
        assert_eq!(outcome(&test, &[], Vec::new(), None).verdict, Verdict::NoDump);
    }
}
