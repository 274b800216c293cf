//! Dumps of other programs: those that kdump-tools or kdump write, by themselves or after the capture kernel has handed the machine over
//! to their kernel. They are told of, and left as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::dump::AboutDump;
use super::folder;
use crate::config::Configuration;
use crate::{Bytes, dmesg, fallback, small_file};

/// Entries of a directory that are looked at.
const MOST: usize = 10_000;
/// The longest log that another program writes beside its dump.
const LONGEST_LOG: Bytes = Bytes(64 << 20);

/// The dumps of other programs on a host; there is one at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OthersDumps {
    /// The newest.
    pub newest: OthersDump,
    /// How many there are.
    pub count: usize,
}

/// A dump that another program wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OthersDump {
    /// Its file.
    pub path: PathBuf,
    /// Length of the file.
    pub bytes: u64,
    /// When it was written last, in seconds since 1970.
    pub written_at: u64,
    /// Whether it was not finished: its name says so.
    pub is_cut_off: bool,
}

impl OthersDumps {
    /// Finds them where they are on the system whose root folder this is. Opens none.
    pub fn find(root: &Path, configuration: &Configuration) -> Option<Self> {
        let directories = directories(root, configuration);
        let dumps =
            directories.iter().flat_map(|directory| folders(directory)).flat_map(|folder| dumps(&folder));
        let mut dumps: Vec<_> = dumps.collect();
        dumps.sort_by_key(|dump| dump.written_at);
        let count = dumps.len();
        dumps.pop().map(|newest| Self { newest, count })
    }
}

impl OthersDump {
    /// Reads what its header and its notes say, if it can be read.
    pub fn about(&self) -> Option<AboutDump> {
        AboutDump::read(&self.path)
    }

    /// Whether the dead kernel's log has this line: in the file that the program wrote beside the dump, or in the dump.
    pub(crate) fn has_in_log(&self, line: &str) -> bool {
        let beside = self.path.parent().map(entries).unwrap_or_default();
        let logs = beside.into_iter().filter(|path| is_log(&name(path)));
        let has = |text: &[u8]| String::from_utf8_lossy(text).contains(line);
        logs.into_iter().any(|log| small_file::read(&log, LONGEST_LOG).is_ok_and(|text| has(&text)))
            || dmesg::read_dump(&self.path).is_ok_and(|log| log.text.contains(line))
    }
}

/// Where dumps are collected, and where kdump-tools write theirs.
fn directories(root: &Path, configuration: &Configuration) -> Vec<PathBuf> {
    let below = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    let mut directories = vec![below(&configuration.collect.directory), fallback::dumps_of_kdump_tools(root)];
    directories.dedup();
    directories
}

/// The folders in a directory that are not Holdover's.
fn folders(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let is_theirs = |path: &PathBuf| {
        let is_folder = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        is_folder && !path.join(folder::NOTE).exists() && !name(path).ends_with(".unfinished")
    };
    entries(directory).into_iter().filter(is_theirs)
}

/// The dumps in a folder.
fn dumps(folder: &Path) -> Vec<OthersDump> {
    let dump = |path: PathBuf| {
        let is_cut_off = is_cut_off(&name(&path))?;
        let found = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
        let written = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let written_at = written.map_or(0, |time| time.as_secs());
        Some(OthersDump { path, bytes: found.len(), written_at, is_cut_off })
    };
    entries(folder).into_iter().filter_map(dump).collect()
}

/// Whether a file of this name is a dump that was not finished; `None` if it is none: `dump.TIME`, `dump-incomplete` and `vmcore.TIME` are
/// kdump-tools', `vmcore`, `vmcore.flat` and `vmcore-incomplete` kdump's.
fn is_cut_off(name: &str) -> Option<bool> {
    let kind = ["dump", "vmcore"].into_iter().find_map(|kind| name.strip_prefix(kind))?;
    match kind {
        "" => (name == "vmcore").then_some(false),
        _ if kind.starts_with("-incomplete") => Some(true),
        _ => kind.starts_with('.').then_some(false),
    }
}

/// `dmesg.TIME` is kdump-tools', `vmcore-dmesg.txt` kdump's.
fn is_log(name: &str) -> bool {
    name.starts_with("dmesg.") || name == "vmcore-dmesg.txt"
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::*;

    const LINE: &str = "holdover: a crash on request follows, test 5";

    /// A system with these files, of which each is an hour newer than the one before.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (hour, (file, text)) in files.iter().enumerate() {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let time = UNIX_EPOCH + Duration::from_secs(3600 * (hour as u64 + 1));
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }
        root
    }

    fn found(root: &tempfile::TempDir) -> Option<(String, usize)> {
        let found = OthersDumps::find(root.path(), &Configuration::default())?;
        let path = found.newest.path.strip_prefix(root.path()).unwrap().display().to_string();
        Some((path, found.count))
    }

    #[test]
    fn dumps_of_kdump_tools_and_of_kdump_are_found_and_the_newest_told() {
        let root = system(&[
            ("var/crash/202611300900/dump.202611300900", "dump"),
            ("var/crash/127.0.0.1-2026-11-30-10:00:00/vmcore", "dump"),
            ("var/crash/202611300800/dump-incomplete", "part"),
            ("var/crash/202611300900/dmesg.202611300900", "log"),
            ("var/crash/127.0.0.1-2026-11-30-10:00:00/vmcore-dmesg.txt", "log"),
            ("var/crash/kexec_cmd", ""),
        ]);
        assert_eq!(found(&root), Some(("var/crash/202611300800/dump-incomplete".into(), 3)));
        let newest = OthersDumps::find(root.path(), &Configuration::default()).unwrap().newest;
        assert_eq!((newest.bytes, newest.written_at, newest.is_cut_off), (4, 3 * 3600, true));
        assert!(newest.about().is_none(), "it is no dump");
    }

    #[test]
    fn what_holdover_collected_is_no_others_and_links_lead_nowhere() {
        let root = system(&[
            ("var/crash/web1-2026-11-30T09-00-00Z/vmcore", "dump"),
            ("var/crash/web1-2026-11-30T09-00-00Z/holdover.json", "{}"),
            ("var/crash/web1-2026-11-30T10-00-00Z.unfinished/vmcore", "dump"),
            ("elsewhere/dump.1", "dump"),
        ]);
        std::os::unix::fs::symlink(root.path().join("elsewhere"), root.path().join("var/crash/link"))
            .unwrap();
        assert_eq!(found(&root), None);
        assert_eq!(OthersDumps::find(Path::new("/nowhere"), &Configuration::default()), None);
    }

    #[test]
    fn kdump_tools_settings_say_where_theirs_are() {
        let root = system(&[
            ("etc/default/kdump-tools", "KDUMP_COREDIR=\"/srv/dumps\"\n"),
            ("srv/dumps/202611300900/dump.202611300900", "dump"),
            ("var/crash/202611300800/vmcore.202611300800", "dump"),
        ]);
        assert_eq!(found(&root), Some(("var/crash/202611300800/vmcore.202611300800".into(), 2)));
    }

    #[test]
    fn the_log_beside_a_dump_tells_which_crash_it_is_of() {
        let log = format!("[ 1.0] a\n[ 2.0] {LINE}\n");
        let root = system(&[("var/crash/1/dmesg.1", &log), ("var/crash/1/dump.1", "dump")]);
        let newest = OthersDumps::find(root.path(), &Configuration::default()).unwrap().newest;
        assert!(newest.has_in_log(LINE) && !newest.has_in_log("another"));
    }

    #[test]
    fn names_of_dumps_are_known() {
        for dump in ["dump.202611300900", "vmcore", "vmcore.flat", "vmcore.202611300900"] {
            assert_eq!(is_cut_off(dump), Some(false), "{dump}");
        }
        for cut_off in ["dump-incomplete", "dump-incomplete.202611300900", "vmcore-incomplete"] {
            assert_eq!(is_cut_off(cut_off), Some(true), "{cut_off}");
        }
        for none in ["dump", "dumps", "vmcore-dmesg.txt", "dmesg.1", "a.dump", "vmcores"] {
            assert_eq!(is_cut_off(none), None, "{none}");
        }
    }
}
