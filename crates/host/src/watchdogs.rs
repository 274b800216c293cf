//! The watchdogs of the running machine: which are armed, and what the capture kernel must know to keep them quiet.

use std::fs;
use std::path::{Path, PathBuf};

use handoff::Options;
use watchdog::{KcsPlace, Kind, Kinds};

/// SMBIOS' structures, one after the other.
const SMBIOS: &str = "sys/firmware/dmi/tables/DMI";

/// The machine's watchdogs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watchdogs {
    /// Those that are armed.
    pub armed: Vec<ArmedWatchdog>,
    /// Where the baseboard management controller is, which may have one too.
    pub ipmi: Option<KcsPlace>,
}

/// An armed watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArmedWatchdog {
    /// The driver's name of it.
    pub identity: String,
    /// Which it is; `None` if the capture kernel does not know such a one.
    pub kind: Option<Kind>,
    /// Seconds from a ping until it bites, if the driver says.
    pub timeout: Option<u64>,
}

/// Looks at the watchdogs of the running machine.
pub fn find() -> Watchdogs {
    find_below(Path::new("/"))
}

/// Looks at the watchdogs of the machine whose file systems are mounted below `root`.
fn find_below(root: &Path) -> Watchdogs {
    let mut armed: Vec<_> =
        folders(&root.join("sys/class/watchdog")).filter_map(|one| armed_at(&one)).collect();
    let smbios = fs::read(root.join(SMBIOS)).unwrap_or_default();
    // This driver is none of the class, and does not say whether it is armed: the capture kernel asks.
    let ipmi = root.join("sys/module/ipmi_watchdog");
    if ipmi.is_dir() {
        let timeout = number(&ipmi.join("parameters/timeout"));
        armed.push(ArmedWatchdog { identity: "IPMI".to_owned(), kind: Some(Kind::Ipmi), timeout });
    }
    Watchdogs { armed, ipmi: structures(&smbios).find_map(KcsPlace::of_smbios) }
}

impl Watchdogs {
    /// Puts into the capture kernel's options what it must know.
    pub(crate) fn tell(&self, options: Options) -> Options {
        let known = self.armed.iter().filter_map(|one| one.kind);
        Options { watchdog: known.fold(Kinds::default(), Kinds::with), ipmi: self.ipmi, ..options }
    }

    /// The armed ones that will reset the machine in the middle of a long dump.
    pub fn unknown(&self) -> impl Iterator<Item = &ArmedWatchdog> {
        self.armed.iter().filter(|one| !self.is_kept_quiet(one))
    }

    fn is_kept_quiet(&self, one: &ArmedWatchdog) -> bool {
        match one.kind {
            Some(Kind::Ipmi) => self.ipmi.is_some(),
            kind => kind.is_some(),
        }
    }
}

/// The watchdog with this folder in `/sys`, if it is armed (Documentation/ABI/testing/sysfs-class-watchdog).
fn armed_at(folder: &Path) -> Option<ArmedWatchdog> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default().trim().to_owned();
    let identity = read("identity");
    let kind = Kind::of_identity(&identity);
    // Software's watchdog dies with its kernel.
    let is_armed = read("state") == "active" && identity != "Software Watchdog";
    is_armed.then(|| ArmedWatchdog { identity, kind, timeout: number(&folder.join("timeout")) })
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The folders in a folder, by name; none if it is not there.
fn folders(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let mut found: Vec<_> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found.into_iter()
}

/// SMBIOS' structures without their strings, which two zeros end (SMBIOS 3.7, section 6.1).
fn structures(mut table: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = usize::from(*table.get(1)?).max(4);
        let structure = table.get(..length)?;
        let strings = table.get(length..)?;
        let end = strings.windows(2).position(|pair| pair == [0, 0])?;
        table = strings.get(end + 2..)?;
        Some(structure)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with these files.
    fn machine(files: &[(&str, &[u8])]) -> Watchdogs {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        find_below(root.path())
    }

    /// A chassis, then the controller as QEMU describes it.
    const TABLE: &[u8] = b"\x03\x04\x00\x03vendor\0\0\
        \x26\x12\x00\x30\x01\x20\x20\xff\xa3\x0c\x00\x00\x00\x00\x00\x00\x00\x00\0\0\
        \x7f\x04\x00\x7f\0\0";

    #[test]
    fn what_is_armed_is_told_to_the_capture_kernel_and_what_it_does_not_know_is_named() {
        let found = machine(&[
            ("sys/class/watchdog/watchdog0/identity", b"iTCO_wdt\n"),
            ("sys/class/watchdog/watchdog0/state", b"active\n"),
            ("sys/class/watchdog/watchdog0/timeout", b"30\n"),
            ("sys/class/watchdog/watchdog1/identity", b"SP5100 TCO timer\n"),
            ("sys/class/watchdog/watchdog1/state", b"active\n"),
            ("sys/class/watchdog/watchdog1/timeout", b"60\n"),
            ("sys/class/watchdog/watchdog2/identity", b"i6300ESB timer\n"),
            ("sys/class/watchdog/watchdog2/state", b"inactive\n"),
            ("sys/class/watchdog/watchdog3/identity", b"Software Watchdog\n"),
            ("sys/class/watchdog/watchdog3/state", b"active\n"),
        ]);
        assert_eq!(found.tell(Options::default()).to_string(), "holdover.watchdog=itco");
        let unknown: Vec<_> = found.unknown().map(|one| (one.identity.as_str(), one.timeout)).collect();
        assert_eq!(unknown, [("SP5100 TCO timer", Some(60))]);
    }

    #[test]
    fn a_management_controller_is_asked_where_smbios_says() {
        let driver: (&str, &[u8]) = ("sys/module/ipmi_watchdog/parameters/timeout", b"10\n");
        let found = machine(&[(SMBIOS, TABLE), driver]);
        assert_eq!(
            found.tell(Options::default()).to_string(),
            "holdover.watchdog=ipmi holdover.ipmi=0xca2/1"
        );
        assert_eq!(found.unknown().count(), 0);
        assert_eq!(machine(&[driver]).unknown().count(), 1, "nobody knows where the controller is");
        assert_eq!(machine(&[(SMBIOS, TABLE)]).tell(Options::default()).to_string(), "holdover.ipmi=0xca2/1");
    }

    #[test]
    fn a_machine_without_watchdogs_and_a_torn_table_tell_nothing() {
        assert_eq!(machine(&[]), Watchdogs::default());
        for end in 0..TABLE.len() - 7 {
            assert!(structures(&TABLE[..end]).count() < 3);
        }
        assert_eq!(structures(&[0; 64]).count(), 10);
    }
}
