//! How a dump is opened, and where the debug symbols of its kernel come from.

use std::path::Path;

use postmortem::System;

/// The most characters of a release.
const LONGEST_RELEASE: usize = 64;

/// A distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distribution {
    Debian,
    Ubuntu,
    Fedora,
}

/// What to type on one distribution.
pub(super) struct Opening {
    pub(super) distribution: Distribution,
    /// Where the symbols come from, besides the commands.
    pub(super) remark: &'static str,
    /// Commands that install the symbols.
    pub(super) install: Vec<String>,
    /// Where the kernel with its symbols is then.
    pub(super) kernel: String,
}

impl Distribution {
    const ALL: [Self; 3] = [Self::Debian, Self::Ubuntu, Self::Fedora];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Debian => "Debian",
            Self::Ubuntu => "Ubuntu",
            Self::Fedora => "Fedora, CentOS, RHEL",
        }
    }

    /// The distribution that built a kernel, by its release and version.
    fn of(release: &str, version: &str) -> Option<Self> {
        match () {
            () if version.contains("Debian") => Some(Self::Debian),
            () if version.contains("Ubuntu") => Some(Self::Ubuntu),
            () if release.contains(".fc") || release.contains(".el") => Some(Self::Fedora),
            () => None,
        }
    }

    fn opening(self, release: &str) -> Opening {
        let (remark, install, folder) = match self {
            Self::Debian => (
                "The package is in the main archive, beside the kernel's; of a security update, in the security archive.",
                vec![
                    "apt install crash python3-drgn".to_owned(),
                    format!("apt install linux-image-{release}-dbg"),
                ],
                "/usr/lib/debug/boot/vmlinux-",
            ),
            Self::Ubuntu => (
                "The package is in the archive of debug symbols, ddebs.ubuntu.com, which must be added to APT's sources first.",
                vec![
                    "apt install crash python3-drgn ubuntu-dbgsym-keyring".to_owned(),
                    format!("apt install linux-image-{release}-dbgsym"),
                ],
                "/usr/lib/debug/boot/vmlinux-",
            ),
            Self::Fedora => (
                "The package is in the repository of debug information, which the command turns on for itself.",
                vec![
                    "dnf install crash drgn".to_owned(),
                    format!("dnf debuginfo-install kernel-core-{release}"),
                ],
                "/usr/lib/debug/lib/modules/",
            ),
        };
        let file = if self == Self::Fedora { "/vmlinux" } else { "" };
        Opening { distribution: self, remark, install, kernel: format!("{folder}{release}{file}") }
    }
}

/// What to type: on the distribution that built the kernel, or on each if that is not known. Nothing if the release is no plain
/// name: it comes from the dump, and somebody will paste it into a shell.
pub(super) fn openings(system: &System) -> Vec<Opening> {
    let Some(release) = system.release.as_deref().filter(|release| is_plain(release)) else {
        return Vec::new();
    };
    let version = system.version.as_deref().unwrap_or_default();
    let all = || Distribution::ALL.to_vec();
    let distributions = Distribution::of(release, version).map_or_else(all, |known| vec![known]);
    distributions.into_iter().map(|distribution| distribution.opening(release)).collect()
}

/// The build id, if it is one.
pub(super) fn build_id(system: &System) -> Option<&str> {
    system
        .build_id
        .as_deref()
        .filter(|id| (8..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_plain(release: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-~".contains(&byte);
    let starts = release.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    starts && release.len() <= LONGEST_RELEASE && release.bytes().all(is_plain)
}

/// A path as a word of a shell's.
pub(super) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-/:".contains(&byte);
    if !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_plain) {
        return text;
    }
    let dash = if text.starts_with('-') { "./" } else { "" };
    format!("'{dash}{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(release: &str, version: &str) -> System {
        let some = |text: &str| Some(text.to_owned());
        System { release: some(release), version: some(version), ..System::default() }
    }

    #[test]
    fn the_distribution_that_built_the_kernel_has_its_symbols() {
        let opening = |release, version| openings(&system(release, version)).remove(0);
        let debian = opening("6.1.0-56-amd64", "#1 SMP Debian 6.1.192-2");
        assert_eq!(debian.kernel, "/usr/lib/debug/boot/vmlinux-6.1.0-56-amd64");
        assert_eq!(debian.install[1], "apt install linux-image-6.1.0-56-amd64-dbg");
        assert_eq!(opening("6.8.0-31-generic", "#31-Ubuntu SMP").distribution, Distribution::Ubuntu);
        assert_eq!(
            opening("6.9.4-200.fc40.x86_64", "#1 SMP").kernel,
            "/usr/lib/debug/lib/modules/6.9.4-200.fc40.x86_64/vmlinux"
        );
        assert_eq!(openings(&system("6.9.4-mine", "#1 SMP")).len(), 3);
    }

    #[test]
    fn a_release_that_a_shell_would_obey_is_in_no_command() {
        for release in ["6.1;reboot", "$(reboot)", "6.1 -o x", "-6.1", "", "6.1\nreboot", "`x`"] {
            assert!(openings(&system(release, "Debian")).is_empty(), "{release}");
        }
    }

    #[test]
    fn a_path_stays_one_word() {
        assert_eq!(shell_word(Path::new("/var/crash/vmcore")), "/var/crash/vmcore");
        assert_eq!(shell_word(Path::new("/it's a dump")), "'/it'\\''s a dump'");
        assert_eq!(shell_word(Path::new("-dump")), "'./-dump'");
    }
}
