//! Sets which events panic the kernel, as the configuration asks, and gives back what was before.
//!
//! The settings are the kernel's own (Documentation/admin-guide/sysctl/kernel.rst). What the configuration does not name is never
//! written. What was there before is noted in `/run`, which ends with the boot as the settings do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use serde::{Deserialize, Serialize};

use crate::config::PanicConfiguration;
use crate::state;

/// Where the kernel's settings are.
const SETTINGS: &str = "proc/sys/kernel";
/// Where it is noted what was changed.
const NOTE: &str = "run/holdover/panic.json";

/// What was changed, by the names of the settings.
type Note = BTreeMap<String, Change>;

/// A setting that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    /// What it was before Holdover changed it first.
    before: String,
    /// What Holdover set.
    set: String,
}

/// A setting of the kernel, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanicSetting {
    /// Its name in `/proc/sys/kernel`.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl fmt::Display for PanicSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel.{}={}", self.name, self.value)
    }
}

/// Why a setting is not as the configuration asks, or as it was.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum PanicSettingError {
    /// The kernel has no such setting.
    #[error(
        "this kernel has no kernel.{name}, which the configuration sets, and the event does not panic it; take the key out of `[panic]` in /etc/holdover.toml"
    )]
    NoSuch {
        /// Its name.
        name: String,
    },
    /// It was not changed.
    #[error("cannot set {setting}; run `holdover load` as root, outside of a container")]
    Refused {
        /// What was to be set.
        setting: PanicSetting,
        /// What the kernel said.
        source: io::Error,
    },
    /// It was not noted what was before, and so nothing was changed.
    #[error(
        "cannot write {path}, without which `holdover unload` would not know what was before: nothing was set"
    )]
    Unnoted {
        /// The note.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

/// What became of the settings.
#[derive(Debug, Default)]
pub struct PanicSettings {
    /// Those that were set, or given back.
    pub set: Vec<PanicSetting>,
    /// What went wrong.
    pub failed: Vec<PanicSettingError>,
}

/// The settings that a configuration asks for.
pub fn asked(configuration: &PanicConfiguration) -> Vec<PanicSetting> {
    let switch = |wanted: Option<bool>| wanted.map(u32::from);
    let all = [
        ("panic_on_oops", switch(configuration.on_oops)),
        ("hardlockup_panic", switch(configuration.hard_lockup)),
        ("softlockup_panic", switch(configuration.soft_lockup)),
        ("unknown_nmi_panic", switch(configuration.unknown_nmi)),
        ("hung_task_panic", switch(configuration.hung_task)),
        ("panic", configuration.reboot_after_seconds),
    ];
    let wanted = all.into_iter().filter_map(|(name, value)| Some((name, value?)));
    wanted.map(|(name, value)| PanicSetting { name: name.to_owned(), value: value.to_string() }).collect()
}

/// Sets what the configuration asks for on the system whose root folder this is; gives back what an earlier configuration asked for and
/// this one does not.
pub(crate) fn apply(root: &Path, configuration: &PanicConfiguration) -> PanicSettings {
    let asked = asked(configuration);
    let noted = read(root);
    let (kept, dropped): (Note, Note) =
        noted.into_iter().partition(|(name, _)| asked.iter().any(|setting| setting.name == *name));
    let mut outcome = give_back(root, &dropped);
    let mut note = kept;
    let mut changes = Vec::new();
    for setting in asked {
        match current(root, &setting.name) {
            None => outcome.failed.push(PanicSettingError::NoSuch { name: setting.name }),
            Some(now) if now == setting.value => {}
            Some(now) => {
                let before = note.remove(&setting.name).map_or(now, |change| change.before);
                note.insert(setting.name.clone(), Change { before, set: setting.value.clone() });
                changes.push(setting);
            }
        }
    }
    // First: what is set and not noted could never be given back.
    match write(root, &note) {
        Ok(()) => outcome.note_all(changes.into_iter().map(|setting| set(root, setting))),
        Err(error) => outcome.failed.push(error),
    }
    outcome
}

/// Gives back what was before. A setting that somebody else has changed since stays as it is.
pub(crate) fn restore(root: &Path) -> PanicSettings {
    let note = read(root);
    let mut outcome = give_back(root, &note);
    outcome.failed.extend(write(root, &Note::new()).err());
    outcome
}

fn give_back(root: &Path, note: &Note) -> PanicSettings {
    let mut outcome = PanicSettings::default();
    let ours = note.iter().filter(|(name, change)| {
        change.before != change.set && current(root, name).as_ref() == Some(&change.set)
    });
    outcome.note_all(
        ours.map(|(name, change)| {
            set(root, PanicSetting { name: name.clone(), value: change.before.clone() })
        }),
    );
    outcome
}

impl PanicSettings {
    fn note_all(&mut self, done: impl Iterator<Item = Result<PanicSetting, PanicSettingError>>) {
        for done in done {
            match done {
                Ok(setting) => self.set.push(setting),
                Err(error) => self.failed.push(error),
            }
        }
    }
}

fn current(root: &Path, name: &str) -> Option<String> {
    Some(fs::read_to_string(root.join(SETTINGS).join(name)).ok()?.trim().to_owned())
}

fn set(root: &Path, setting: PanicSetting) -> Result<PanicSetting, PanicSettingError> {
    match fs::write(root.join(SETTINGS).join(&setting.name), &setting.value) {
        Ok(()) => Ok(setting),
        Err(source) => Err(PanicSettingError::Refused { setting, source }),
    }
}

fn read(root: &Path) -> Note {
    // Who has no note has changed nothing.
    fs::read(root.join(NOTE)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Writes the note; there is none where nothing was changed.
fn write(root: &Path, note: &Note) -> Result<(), PanicSettingError> {
    let path = root.join(NOTE);
    let written = if note.is_empty() {
        fs::remove_file(&path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
    } else {
        serde_json::to_vec_pretty(note).map_err(io::Error::from).and_then(|text| state::write(&path, &text))
    };
    written.map_err(|source| PanicSettingError::Unnoted { path, source })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A kernel with these settings.
    fn kernel(settings: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(SETTINGS)).unwrap();
        for (name, value) in settings {
            fs::write(root.path().join(SETTINGS).join(name), format!("{value}\n")).unwrap();
        }
        root
    }

    fn value(root: &TempDir, name: &str) -> String {
        current(root.path(), name).unwrap()
    }

    fn told(outcome: &PanicSettings) -> Vec<String> {
        outcome.set.iter().map(ToString::to_string).collect()
    }

    const PLAIN: [(&str, &str); 3] = [("panic_on_oops", "0"), ("panic", "0"), ("softlockup_panic", "1")];

    #[test]
    fn where_nothing_is_configured_nothing_is_touched() {
        let root = kernel(&PLAIN);
        let outcome = apply(root.path(), &PanicConfiguration::default());
        assert!(outcome.set.is_empty() && outcome.failed.is_empty());
        assert!(!root.path().join(NOTE).exists());
    }

    #[test]
    fn what_is_configured_is_set_and_unload_gives_back_what_was_before() {
        let root = kernel(&PLAIN);
        let wanted = PanicConfiguration {
            on_oops: Some(true),
            soft_lockup: Some(true),
            reboot_after_seconds: Some(30),
            ..PanicConfiguration::default()
        };
        let outcome = apply(root.path(), &wanted);
        assert_eq!(told(&outcome), ["kernel.panic_on_oops=1", "kernel.panic=30"]);
        assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
        // A second load sets nothing, and does not take its own values for what was before.
        assert!(apply(root.path(), &wanted).set.is_empty());
        assert_eq!(told(&restore(root.path())), ["kernel.panic=0", "kernel.panic_on_oops=0"]);
        assert_eq!((value(&root, "softlockup_panic"), root.path().join(NOTE).exists()), ("1".into(), false));
    }

    #[test]
    fn a_key_that_is_gone_from_the_configuration_is_given_back_by_the_next_load() {
        let root = kernel(&PLAIN);
        let seconds = |seconds| PanicConfiguration { reboot_after_seconds: seconds, ..Default::default() };
        apply(root.path(), &PanicConfiguration { on_oops: Some(true), ..seconds(Some(5)) });
        apply(root.path(), &seconds(Some(7)));
        assert_eq!((value(&root, "panic_on_oops"), value(&root, "panic")), ("0".into(), "7".into()));
        apply(root.path(), &seconds(None));
        assert_eq!(value(&root, "panic"), "0", "what was before the first load");
    }

    #[test]
    fn what_somebody_else_has_set_since_stays() {
        let root = kernel(&PLAIN);
        apply(root.path(), &PanicConfiguration { reboot_after_seconds: Some(5), ..Default::default() });
        fs::write(root.path().join(SETTINGS).join("panic"), "60\n").unwrap();
        assert!(restore(root.path()).set.is_empty());
        assert_eq!(value(&root, "panic"), "60");
    }

    #[test]
    fn a_setting_that_this_kernel_has_not_is_told_and_the_others_are_set() {
        let root = kernel(&PLAIN);
        let wanted =
            PanicConfiguration { hard_lockup: Some(true), on_oops: Some(true), ..Default::default() };
        let outcome = apply(root.path(), &wanted);
        assert_eq!(told(&outcome), ["kernel.panic_on_oops=1"]);
        assert!(outcome.failed[0].to_string().contains("this kernel has no kernel.hardlockup_panic"));
    }

    #[test]
    fn nothing_is_set_that_could_not_be_given_back() {
        let root = kernel(&PLAIN);
        fs::write(root.path().join("run"), "no folder").unwrap();
        let outcome = apply(root.path(), &PanicConfiguration { on_oops: Some(true), ..Default::default() });
        assert!(outcome.failed[0].to_string().contains("nothing was set"), "{:?}", outcome.failed);
        assert_eq!((outcome.set.len(), value(&root, "panic_on_oops")), (0, "0".into()));
    }
}
