//! Who has the crash slot. Linux has room for one crash kernel: whoever loads another one replaces the first, and nobody is told.
//!
//! So `load` asks first, and leaves another's crash kernel where it is unless it is told otherwise. The kernel does not say whose one
//! is; [`loaded`] knows Holdover's by its content.

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use serde::Serialize;

use crate::kexec::{self, KexecError};
use crate::loaded::{self, Standing};

/// Where systemd keeps the units that are enabled, in folders `TARGET.wants`.
const ENABLED: &str = "etc/systemd/system";
/// Where systemd has a link for each unit that is active, named `invocation:UNIT`.
const ACTIVE: &str = "run/systemd/units";
/// The settings of Debian's kdump-tools, a shell's assignments.
const KDUMP_TOOLS: &str = "etc/default/kdump-tools";
/// Units that load a crash kernel of their own: Debian's and Ubuntu's, Red Hat's and SUSE's, and one of SUSE's for early crashes.
const RIVALS: [&str; 3] = ["kdump-tools.service", "kdump.service", "kdump-early.service"];

/// Who has the crash slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotOwner {
    /// No crash kernel is loaded.
    Nobody,
    /// Holdover's is.
    Holdover,
    /// Another one is, or one of Holdover's that `holdover load` did not load since this boot.
    Other,
}

/// A unit of systemd's that loads another crash kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rival {
    /// Its name.
    pub unit: &'static str,
    /// Whether it starts with each boot.
    pub is_enabled: bool,
    /// Whether it has started, and so has loaded what it loads.
    pub is_active: bool,
}

/// A crash kernel that is not Holdover's. Its text says whose it is, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherCrashKernel {
    /// The unit that loaded it, if one did.
    pub by: Option<Rival>,
}

impl fmt::Display for OtherCrashKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let replaces = "`holdover load --replace-crash-kernel` takes its place";
        match &self.by {
            Some(Rival { unit, .. }) => write!(
                f,
                "{unit} has loaded a crash kernel: a panic starts that one, and there is room for one only; \
                 `systemctl disable --now {unit}` removes it for good; {replaces} until the next boot"
            ),
            None => write!(
                f,
                "a crash kernel is loaded that is not Holdover's: a panic starts that one, and there is room for one only; {replaces}"
            ),
        }
    }
}

impl fmt::Display for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.unit;
        write!(
            f,
            "{unit} loads a crash kernel of its own at each boot, and there is room for one only; `systemctl disable --now {unit}` ends that"
        )
    }
}

/// Finds out who has the crash slot of this host.
pub fn owner() -> Result<SlotOwner, KexecError> {
    let standing = if kexec::is_loaded()? { loaded::standing(&[]) } else { Standing::Nothing };
    Ok(owner_by(&standing))
}

pub(crate) fn owner_by(standing: &Standing) -> SlotOwner {
    match standing {
        Standing::Nothing => SlotOwner::Nobody,
        Standing::Foreign | Standing::Replaced(_) => SlotOwner::Other,
        // Where the kernel does not show what is loaded, the last one who is known to have loaded counts.
        Standing::Ours(_) | Standing::Stale(..) | Standing::Unseen(_) => SlotOwner::Holdover,
    }
}

/// The crash kernel that is not Holdover's, on the system whose root folder this is, if `owner` says so.
pub fn other(root: &Path, owner: SlotOwner) -> Option<OtherCrashKernel> {
    let by = || rivals(root).into_iter().find(|rival| rival.is_active);
    (owner == SlotOwner::Other).then(|| OtherCrashKernel { by: by() })
}

/// The units that load another crash kernel on the system whose root folder this is: now, or at each boot.
pub fn rivals(root: &Path) -> Vec<Rival> {
    let enabled = enabled(&root.join(ENABLED));
    let rival = |unit: &'static str| Rival {
        unit,
        is_enabled: enabled.iter().any(|name| name == unit) && does_work(root, unit),
        is_active: root.join(ACTIVE).join(format!("invocation:{unit}")).is_symlink(),
    };
    RIVALS.map(rival).into_iter().filter(|rival| rival.is_enabled || rival.is_active).collect()
}

/// Whether a unit that starts loads anything: Debian's does not with `USE_KDUMP=0`, nor without the variable.
fn does_work(root: &Path, unit: &str) -> bool {
    if unit != RIVALS[0] {
        return true;
    }
    let settings = fs::read_to_string(root.join(KDUMP_TOOLS)).unwrap_or_default();
    let last = settings.lines().rev().find_map(|line| line.trim().strip_prefix("USE_KDUMP="));
    // A shell reads the file: quotes mean nothing.
    last.is_some_and(|value| !matches!(value.trim_matches(['"', '\'']), "" | "0"))
}

/// Names of the units that are enabled, by the links in systemd's folder.
fn enabled(units: &Path) -> Vec<String> {
    let is_wants = |folder: &PathBuf| folder.extension().is_some_and(|ending| ending == "wants");
    let folders = entries(units).into_iter().filter(is_wants);
    let links = folders.flat_map(|folder| entries(&folder));
    links.filter_map(|link| Some(link.file_name()?.to_str()?.to_owned())).collect()
}

/// What is in a folder; nothing if there is no such folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A system on which these units are enabled, and these active.
    fn system(enabled: &[&str], active: &[&str]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        let wants = root.path().join(ENABLED).join("multi-user.target.wants");
        fs::create_dir_all(&wants).unwrap();
        fs::create_dir_all(root.path().join(ACTIVE)).unwrap();
        for unit in enabled {
            symlink("/nowhere", wants.join(unit)).unwrap();
        }
        for unit in active {
            symlink("0123", root.path().join(ACTIVE).join(format!("invocation:{unit}"))).unwrap();
        }
        root
    }

    fn use_kdump(root: &TempDir, settings: &str) -> bool {
        fs::create_dir_all(root.path().join("etc/default")).unwrap();
        fs::write(root.path().join(KDUMP_TOOLS), settings).unwrap();
        rivals(root.path()).iter().any(|rival| rival.is_enabled)
    }

    #[test]
    fn a_service_that_loads_another_crash_kernel_is_noticed() {
        assert_eq!(rivals(system(&["ssh.service"], &["ssh.service"]).path()), []);
        let root = system(&["kdump.service"], &["kdump-early.service"]);
        let rival = |unit, is_enabled, is_active| Rival { unit, is_enabled, is_active };
        let found = [rival("kdump.service", true, false), rival("kdump-early.service", false, true)];
        assert_eq!(rivals(root.path()), found);
    }

    #[test]
    fn debians_loads_at_the_boot_if_its_settings_say_so() {
        let root = system(&["kdump-tools.service"], &[]);
        assert_eq!(rivals(root.path()), [], "no settings: its script does nothing");
        assert!(use_kdump(&root, "# USE_KDUMP=0\nUSE_KDUMP=1\n") && use_kdump(&root, "USE_KDUMP=\"1\"\n"));
        assert!(!use_kdump(&root, "USE_KDUMP=1\nUSE_KDUMP=0\n") && !use_kdump(&root, "#USE_KDUMP=1\n"));
    }

    #[test]
    fn the_crash_kernel_that_holdover_loaded_is_told_from_others() {
        assert_eq!(owner_by(&Standing::Nothing), SlotOwner::Nobody);
        assert_eq!(owner_by(&Standing::Foreign), SlotOwner::Other);
    }

    #[test]
    fn anothers_is_named_with_the_command_that_removes_it_and_the_one_that_replaces_it() {
        let root = system(&["kdump-tools.service"], &["kdump-tools.service"]);
        assert_eq!(other(root.path(), SlotOwner::Holdover), None);
        let told = other(root.path(), SlotOwner::Other).unwrap().to_string();
        assert!(told.starts_with("kdump-tools.service has loaded a crash kernel"), "{told}");
        assert!(told.contains("`systemctl disable --now kdump-tools.service`"), "{told}");
        let unknown = other(system(&[], &[]).path(), SlotOwner::Other).unwrap().to_string();
        assert!(
            unknown.contains("not Holdover's") && unknown.contains("--replace-crash-kernel"),
            "{unknown}"
        );
    }
}
